"""Training objectives: losses of a batch of clips and texts, whole or in micro-batches.

`phrases` classifies each clip among all class names, `sigmoid` classifies each pair of clip and phrase (SigLIP,
arXiv:2303.15343), `pairs` is ActionCLIP's loss of each clip against the texts of its batch. The first two are means
over clips, so the gradients of micro-batches add up. For `pairs`, features are computed once without and once with
gradients, so that the loss covers the whole batch even if it does not fit into memory (gradient caching,
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
    tokens: Tensor  # [R, L] of all phrases; for `pairs` [B, L], one per clip
    targets: Mapping[str, Tensor]  # task -> soft targets [B, K]; for `pairs` labels [B]
    rows: Mapping[str, slice]  # task -> rows of its phrases

    def parts(self, size: int, *, own_tokens: bool) -> list["StepBatch"]:
        """Split into micro-batches of `size` clips; with `own_tokens`, texts are split too."""
        starts = range(0, len(self.frames), size)
        return [
            replace(
                self,
                frames=self.frames[start : start + size],
                tokens=self.tokens[start : start + size] if own_tokens else self.tokens,
                targets={name: value[start : start + size] for name, value in self.targets.items()},
            )
            for start in starts
        ]


class PairedFeatures(NamedTuple):
    """Normalised features of clips and of their texts, and the logit scale."""

    video: Tensor  # [B, D]
    text: Tensor  # [B, D]
    scale: Tensor  # []


class Encoder(nn.Module):
    """The forward pass of a training step as one module, for DistributedDataParallel and torch.compile.

    Text features of a frozen tower are cached.
    """

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model
        self._kept: dict[bytes, Tensor] = {}

    def forward(self, batch: StepBatch, *, is_paired: bool) -> Any:
        """Return logits [B, K] by task, or `PairedFeatures` if `is_paired`."""
        video = self.model.encode_video(batch.frames)
        text = self._texts(batch.tokens)
        if is_paired:
            unit = functional.normalize(video.video_features.float(), dim=-1)
            return PairedFeatures(unit, functional.normalize(text.float(), dim=-1), self.model.logit_scale.exp())
        return {
            name: self.model.head(video.video_features, video.patch_features, text[rows]).float()
            for name, rows in batch.rows.items()
        }

    def _texts(self, tokens: Tensor) -> Tensor:
        if any(item.requires_grad for item in self.model.text.parameters()):
            return self.model.encode_text(tokens)
        self.model.text.eval()
        keys = [row.tobytes() for row in tokens.cpu().numpy()]
        missing = {key: i for i, key in enumerate(keys) if key not in self._kept}
        if missing:
            with torch.no_grad():
                found = self.model.encode_text(tokens[list(missing.values())])
            self._kept |= zip(missing, found, strict=True)
        return torch.stack([self._kept[key] for key in keys])


def phrase_losses(logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Losses:
    """Return the cross entropy of each task: -sum q log p, mean over the batch."""
    return {name: soft_cross_entropy(logits[name], targets[name]) for name in logits}


def sigmoid_losses(logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Losses:
    """Return the binary cross entropy of each clip and phrase, summed over phrases, mean over the batch."""
    return {
        name: functional.binary_cross_entropy_with_logits(logits[name], targets[name], reduction="none").sum(1).mean()
        for name in logits
    }


def pair_losses(paired: PairedFeatures, targets: Mapping[str, Tensor]) -> Losses:
    """Return ActionCLIP's loss of the batch over all processes."""
    video, text, labels = all_gather(paired.video), all_gather(paired.text), all_gather(targets["label"])
    return {"label": actionclip_kl(paired.scale * video @ text.T, labels)}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A kind of loss; `is_paired` if each clip is compared with the texts of its batch."""

    losses: Callable[[Any, Mapping[str, Tensor]], Losses]
    is_paired: bool = False


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
    """Accumulate the gradients of a batch; return the detached losses [] of its tasks.

    `encoder` is an `Encoder`, possibly wrapped; `precision` creates the context of its forward passes.
    """
    parts = batch.parts(micro_batch or len(batch.frames), own_tokens=objective.is_paired)
    if objective.is_paired and len(parts) > 1:
        return _backward_cached(encoder, parts, objective, weights=weights, precision=precision)
    collected: list[Losses] = []
    for number, part in enumerate(parts):
        with _no_gradient_sync(encoder, is_last=number == len(parts) - 1):
            with precision():
                outputs = encoder(part, is_paired=objective.is_paired)
            losses = objective.losses(outputs, part.targets)
            (_weighted(losses, weights) * (len(part.frames) / len(batch.frames))).backward()
        collected.append({name: value.detach() * len(part.frames) for name, value in losses.items()})
    return {name: torch.stack([found[name] for found in collected]).sum() / len(batch.frames) for name in collected[0]}


def _backward_cached(
    encoder: nn.Module,
    parts: Sequence[StepBatch],
    objective: Objective,
    *,
    weights: Mapping[str, float],
    precision: Callable[[], AbstractContextManager[Any]],
) -> Losses:
    """Encode all parts without gradient, compute the gradient of the loss by features, then backpropagate each part.

    Both passes use the same dropout masks.
    """
    inner, outputs, states = _unwrapped(encoder), [], []
    for part in parts:
        states.append(_RandomState())
        with torch.no_grad(), precision():
            outputs.append(inner(part, is_paired=True))
    leaves = PairedFeatures(
        torch.cat([item.video for item in outputs]).requires_grad_(),
        torch.cat([item.text for item in outputs]).requires_grad_(),
        outputs[0].scale.clone().requires_grad_(),
    )
    targets = {name: torch.cat([part.targets[name] for part in parts]) for name in parts[0].targets}
    losses = objective.losses(leaves, targets)
    _weighted(losses, weights).backward()
    after, size = _RandomState(), len(parts[0].frames)
    gradients = zip(leaves.video.grad.split(size), leaves.text.grad.split(size), strict=True)  # type: ignore[union-attr]
    for number, (part, (video, text)) in enumerate(zip(parts, gradients, strict=True)):
        is_last = number == len(parts) - 1
        states[number].restore()
        with _no_gradient_sync(encoder, is_last=is_last):
            with precision():
                again = encoder(part, is_paired=True)
            surrogate = (again.video * video).sum() + (again.text * text).sum()
            if again.scale.requires_grad:
                surrogate = surrogate + again.scale * (leaves.scale.grad if is_last else 0.0)
            surrogate.backward()
    after.restore()
    return {name: value.detach() for name, value in losses.items()}


class _RandomState:
    """The random state of dropout, restored to repeat a forward pass."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)


def _weighted(losses: Losses, weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weights[name] * value for name, value in losses.items()]).sum()


def _no_gradient_sync(encoder: nn.Module, *, is_last: bool) -> AbstractContextManager[Any]:
    """Exchange gradients only after the last micro-batch."""
    return nullcontext() if is_last or not hasattr(encoder, "no_sync") else cast(Any, encoder).no_sync()


def _unwrapped(encoder: nn.Module) -> nn.Module:
    return cast(nn.Module, encoder.module) if hasattr(encoder, "no_sync") else encoder
