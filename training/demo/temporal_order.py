"""Training source with pairs of actions that show the same frames in opposite order, to compare temporal models.

Clips are rendered once and cached in a file for all runs with the same image size and number of frames, so that runs
differ only in the model. The evaluation includes held-out combinations of action and colour.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve.arrays import Int64Array, UInt8Array
from serve.contract import PreprocessContract
from serve.files import atomic_write
from serve.text.tokenizer import pad_tokens
from training.config import ConfigError, TrainConfig
from training.data.clips.datasets import EpochSampler
from training.data.clips.rules import make_preprocess_contract, normalise_clips
from training.data.prompts import clip_tokenizer
from training.demo.actions import PAIRS
from training.demo.captions import COLOURS, Combination, opposite
from training.demo.dataset import RenderedClips, render_clip
from training.demo.phrases import DEMO_TEXT, PhraseBank
from training.demo.scenes import make_scene
from training.distributed import rank_and_world_size
from training.evaluation.score_intervals import accuracy_figures
from training.models.base import VideoTextModel
from training.monitor import EvaluationReport

TASK_WEIGHTS = {"label": 1.0, "activity": 0.5, "colour": 0.25}
NUM_TRAIN_FRAMES = 65_536  # rendered for training: 8,192 clips of 8 frames, or 32,768 clips of 2 frames
CLIPS_PER_GROUP = 240  # test clips for each of the groups seen and held out
TEST_SEED = 8_000_000


@cache
def ordered_combinations() -> tuple[Combination, ...]:
    """Return all combinations: every action of the pairs in every colour."""
    return tuple(Combination(action, "", colour) for pair in PAIRS for action in pair for colour in COLOURS)


@cache
def held_out_combinations() -> frozenset[Combination]:
    """Return the combinations excluded from training: one colour for each pair."""
    return frozenset(
        Combination(action, "", COLOURS[number % len(COLOURS)]) for number, pair in enumerate(PAIRS) for action in pair
    )


class TemporalOrderSource:
    """Source of rendered clips of the pairs, which are classified by label, by activity and by colour."""

    weights: Mapping[str, float] = TASK_WEIGHTS
    templates = ("{}",)

    def __init__(self, config: TrainConfig) -> None:
        if rank_and_world_size()[1] > 1:
            raise ConfigError("data.source: this source needs a single process")
        self._config = config
        num_clips = NUM_TRAIN_FRAMES // config.data.num_frames
        self.num_entries: int | None = num_clips
        self._shown = tuple(item for item in ordered_combinations() if item not in held_out_combinations())
        self._bank = PhraseBank(seed=config.run.seed, shown=self._shown)
        self.labels = tuple(item.label for item in ordered_combinations())
        self.tasks = self._bank.tasks
        folder = Path(config.data.train or Path(config.run.out).parent)
        name = f"order-{config.data.num_frames}x{config.data.image_size}"
        rule = make_preprocess_contract(config.data)
        self._clips, self._indices = _load_or_render(
            folder / f"{name}-train.npz", lambda: self._render(rule, num_clips)
        )
        self._test, self._truth = _load_or_render(folder / f"{name}-test.npz", lambda: _render_test(config, rule))

    def tokens(self, step: int) -> Tensor:
        """Return the tokens [R, L] of all phrases, each in a template that depends on `step`."""
        return self._bank.tokens(step)

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the label of each clip, each with a sampled template."""
        return self._bank.sample_tokens(indices, step)

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clips uint8 [B, T, 3, S, S], indices [B]) endlessly; half of the clips are mirrored."""
        size, seed = self._config.run.batch_size, self._config.run.seed
        order = iter(EpochSampler(len(self._clips), seed=seed, first=first_step * size))
        while True:
            chosen = [next(order) for _ in range(size)]
            clips = [
                self._clips[index][..., ::-1] if (epoch + index) % 2 else self._clips[index] for epoch, index in chosen
            ]
            yield torch.from_numpy(np.stack(clips)), torch.from_numpy(self._indices[[index for _, index in chosen]])

    @torch.no_grad()
    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Return top-1 over all labels, and how often a label scores higher than the label of the opposite order."""
        model.eval()
        rows = pad_tokens(clip_tokenizer(DEMO_TEXT).encode(self.labels), pad_id=0)
        device = next(model.parameters()).device
        texts = model.encode_text(torch.from_numpy(rows).to(device))  # [K, D]
        logits = []
        for part in torch.from_numpy(self._test).split(32):
            video = model.encode_video(normalise_clips(part.to(device), make_preprocess_contract(self._config.data)))
            logits.append(model.head(video.video_features, video.patch_features, texts).cpu())
        scores = torch.cat(logits).numpy()  # [N, K]
        return EvaluationReport(metrics=_figures(scores, self._truth))

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """Return the model card."""
        measured = f" Measured: {history[-1]}." if history else ""
        return f"Rendered pairs of actions in opposite order, {clips:,} clips, {seconds / 60:.0f} minutes.{measured}\n"

    def _render(self, rule: PreprocessContract, num_clips: int) -> tuple[UInt8Array, Int64Array]:
        clips = RenderedClips(num_frames=self._config.data.num_frames, rule=rule, first_seed=0, shown=self._shown)
        rendered = [clips.clip(seed) for seed in range(num_clips)]
        return np.stack([clip.numpy() for clip, _ in rendered]), np.array([index for _, index in rendered])


def _render_test(config: TrainConfig, rule: PreprocessContract) -> tuple[UInt8Array, Int64Array]:
    """Return clips of the test world [N, T, 3, S, S] and their combinations [N], first seen, then held out."""
    held_out = sorted(held_out_combinations())
    seen = [item for item in ordered_combinations() if item not in held_out_combinations()]
    shown = [group[i % len(group)] for group in (seen, held_out) for i in range(CLIPS_PER_GROUP)]
    clips = [
        render_clip(
            make_scene(item, "test", TEST_SEED + n, short_side=160),
            config.data.num_frames, rule=rule, jitter=0.0, quality=60,
        )
        for n, item in enumerate(shown)
    ]  # fmt: skip
    return np.stack(clips), np.array([ordered_combinations().index(item) for item in shown])


def _figures(scores: np.ndarray, truth: Int64Array) -> dict[str, Any]:
    place = {item: k for k, item in enumerate(ordered_combinations())}
    hits = scores.argmax(axis=1) == truth
    partners = np.array([place[other] for k in truth if (other := opposite(ordered_combinations()[k]))])
    rows = np.arange(len(truth))
    in_order = scores[rows, truth] > scores[rows, partners]
    groups = {"seen": hits[:CLIPS_PER_GROUP], "held_out": hits[CLIPS_PER_GROUP:], "in_order": in_order}
    for first, second in PAIRS:
        chosen = np.array([ordered_combinations()[k].action in (first, second) for k in truth])
        if chosen.any():
            groups[f"{first} / {second}"] = in_order[chosen]
    return {**accuracy_figures(groups), "videos": len(truth)}


def _load_or_render(path: Path, render: Any) -> tuple[UInt8Array, Int64Array]:
    """Return (clips, indices) from a file; if it does not exist, render them and write the file."""
    if path.is_file():
        with np.load(path) as cached:
            return cached["clips"], cached["indices"]
    clips, indices = render()
    with atomic_write(path) as partial, partial.open("wb") as stream:
        np.savez(stream, clips=clips, indices=indices)
    return clips, indices
