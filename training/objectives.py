"""Training objectives, and their gradients for a batch that may be split into micro-batches.

`phrases` classifies each clip among all class names, `sigmoid` classifies each pair of a clip and a phrase (SigLIP,
arXiv:2303.15343), and `pairs` compares each clip with the texts of its batch (ActionCLIP). The first two are means over
clips, so the gradients of micro-batches can be added. For `pairs`, features are computed twice, once without and once
with gradients, so that the loss covers the whole batch even if it does not fit into memory (gradient caching,
arXiv:2101.06983).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.distributed import all_gather
from training.losses import actionclip_kl, soft_cross_entropy
from training.models.base import VideoTextModel

Losses = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """The batch of one process: clips, targets and texts."""

    frames: Tensor  # float [B, T, 3, S, S], normalised
    tokens: Tensor  # [R, L], all phrases; for `pairs` [B, L], one text per clip
    targets: Mapping[str, Tensor]  # task -> soft targets [B, K]; for `pairs`, labels [B]
    phrases: Mapping[str, slice]  # task -> slice of its phrases in `tokens`

    def split(self, size: int, *, is_paired: bool) -> list["StepBatch"]:
        """Split into micro-batches of `size` clips; if `is_paired`, the texts are split too."""
        starts = range(0, len(self.frames), size)
        return [
            replace(
                self,
                frames=self.frames[start : start + size],
                tokens=self.tokens[start : start + size] if is_paired else self.tokens,
                targets={name: value[start : start + size] for name, value in self.targets.items()},
            )
            for start in starts
        ]


class PairedFeatures(NamedTuple):
    """Unit-length features of clips and of their texts, and the logit scale."""

    video: Tensor  # [B, D]
    text: Tensor  # [B, D]
    scale: Tensor  # []


class Encoder(nn.Module):
    """The forward pass of a training step as one module, for DistributedDataParallel and torch.compile.

    If the text tower is frozen, its features are cached.
    """

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model
        self._text_cache: dict[bytes, Tensor] = {}

    def forward(self, batch: StepBatch, *, is_paired: bool) -> Any:
        """Return logits [B, K] by task, or `PairedFeatures` if `is_paired`."""
        video = self.model.encode_video(batch.frames)
        text = self._encode_text(batch.tokens)
        if is_paired:
            unit = functional.normalize(video.video_features.float(), dim=-1)
            return PairedFeatures(unit, functional.normalize(text.float(), dim=-1), self.model.logit_scale.exp())
        return {
            name: self.model.head(video.video_features, video.patch_features, text[phrases]).float()
            for name, phrases in batch.phrases.items()
        }

    def _encode_text(self, tokens: Tensor) -> Tensor:
        """Return text features [R, D] of tokens [R, L], from the cache if the text tower is frozen."""
        if any(item.requires_grad for item in self.model.text.parameters()):
            return self.model.encode_text(tokens)
        self.model.text.eval()
        keys = [row.tobytes() for row in tokens.cpu().numpy()]
        missing = {key: i for i, key in enumerate(keys) if key not in self._text_cache}
        if missing:
            with torch.no_grad():
                features = self.model.encode_text(tokens[list(missing.values())])
            self._text_cache |= zip(missing, features, strict=True)
        return torch.stack([self._text_cache[key] for key in keys])


def phrase_losses(logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Losses:
    """Return the cross entropy of each task, -sum q log p, averaged over the batch."""
    return {name: soft_cross_entropy(logits[name], targets[name]) for name in logits}


def sigmoid_losses(logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Losses:
    """Return the binary cross entropy of each task, summed over phrases and averaged over the batch."""
    return {
        name: functional.binary_cross_entropy_with_logits(logits[name], targets[name], reduction="none").sum(1).mean()
        for name in logits
    }


def pair_losses(paired: PairedFeatures, targets: Mapping[str, Tensor]) -> Losses:
    """Return ActionCLIP's loss of the batch of all processes."""
    video, text, labels = all_gather(paired.video), all_gather(paired.text), all_gather(targets["label"])
    return {"label": actionclip_kl(paired.scale * video @ text.T, labels)}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A kind of loss."""

    losses: Callable[[Any, Mapping[str, Tensor]], Losses]  # output of `Encoder`, targets -> loss of each task
    is_paired: bool = False  # each clip is compared with the texts of its batch instead of all phrases


OBJECTIVES: Mapping[str, Objective] = {
    "phrases": Objective(losses=phrase_losses),
    "sigmoid": Objective(losses=sigmoid_losses),
    "pairs": Objective(losses=pair_losses, is_paired=True),
}


def backward(
    encoder: nn.Module,
    batch: StepBatch,
    objective: Objective,
    *,
    weights: Mapping[str, float],
    micro_batch: int,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Losses:
    """Accumulate the gradients of a batch; return the detached scalar losses of its tasks.

    `encoder` is an `Encoder`, possibly wrapped by DistributedDataParallel or torch.compile. `weights` are the weights
    of the tasks, `micro_batch` is the number of clips per forward pass (0: all), and `precision` creates the context of
    forward passes.
    """
    micro_batches = batch.split(micro_batch or len(batch.frames), is_paired=objective.is_paired)
    if objective.is_paired and len(micro_batches) > 1:
        return _backward_cached(encoder, micro_batches, objective, weights=weights, precision=precision)
    sums: list[Losses] = []  # losses of the micro-batches, summed over clips
    for number, part in enumerate(micro_batches):
        with _no_gradient_sync(encoder, is_last=number == len(micro_batches) - 1):
            with precision():
                outputs = encoder(part, is_paired=objective.is_paired)
            losses = objective.losses(outputs, part.targets)
            (_weighted_sum(losses, weights) * (len(part.frames) / len(batch.frames))).backward()
        sums.append({name: value.detach() * len(part.frames) for name, value in losses.items()})
    return {name: torch.stack([losses[name] for losses in sums]).sum() / len(batch.frames) for name in sums[0]}


def _backward_cached(
    encoder: nn.Module,
    micro_batches: Sequence[StepBatch],
    objective: Objective,
    *,
    weights: Mapping[str, float],
    precision: Callable[[], AbstractContextManager[Any]],
) -> Losses:
    """Compute the loss and gradients of `pairs` over all micro-batches.

    Encode all micro-batches without gradients, compute the gradient of the loss with respect to the features, and then
    encode each micro-batch again and backpropagate this gradient. Both passes use the same dropout masks.
    """
    unwrapped, outputs, states = _unwrap(encoder), [], []
    for part in micro_batches:
        states.append(_RandomState())
        with torch.no_grad(), precision():
            outputs.append(unwrapped(part, is_paired=True))
    leaves = PairedFeatures(
        torch.cat([item.video for item in outputs]).requires_grad_(),
        torch.cat([item.text for item in outputs]).requires_grad_(),
        outputs[0].scale.clone().requires_grad_(),
    )
    targets = {name: torch.cat([part.targets[name] for part in micro_batches]) for name in micro_batches[0].targets}
    losses = objective.losses(leaves, targets)
    _weighted_sum(losses, weights).backward()
    final_state, size = _RandomState(), len(micro_batches[0].frames)
    gradients = zip(leaves.video.grad.split(size), leaves.text.grad.split(size), strict=True)  # type: ignore[union-attr]
    for number, (part, (video_gradient, text_gradient)) in enumerate(zip(micro_batches, gradients, strict=True)):
        is_last = number == len(micro_batches) - 1
        states[number].restore()
        with _no_gradient_sync(encoder, is_last=is_last):
            with precision():
                output = encoder(part, is_paired=True)
            # The gradient of this scalar with respect to the weights equals that of the loss.
            surrogate = (output.video * video_gradient).sum() + (output.text * text_gradient).sum()
            if output.scale.requires_grad:
                surrogate = surrogate + output.scale * (leaves.scale.grad if is_last else 0.0)
            surrogate.backward()
    final_state.restore()
    return {name: value.detach() for name, value in losses.items()}


class _RandomState:
    """The state of torch's random generators; restoring it repeats the dropout masks of a forward pass."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)


def _weighted_sum(losses: Losses, weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weights[name] * value for name, value in losses.items()]).sum()


def _no_gradient_sync(encoder: nn.Module, *, is_last: bool) -> AbstractContextManager[Any]:
    """Return a context in which processes do not exchange gradients, except for the last micro-batch."""
    return nullcontext() if is_last or not hasattr(encoder, "no_sync") else cast(Any, encoder).no_sync()


def _unwrap(encoder: nn.Module) -> nn.Module:
    return cast(nn.Module, encoder.module) if hasattr(encoder, "no_sync") else encoder
