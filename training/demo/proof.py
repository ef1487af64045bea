"""Evaluate the demo model during training: top-1 on clips of the test world, rendered in this process.

The final evaluation goes through a server on encoded files (`training/demo/evaluation.py`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from serve.contract import PreprocessContract
from serve.text.tokenizer import pad_tokens
from training.data.clips.rules import normalise_clips
from training.data.prompts import clip_tokenizer
from training.demo.captions import Combination, combinations, held_out, opposite, seen
from training.demo.dataset import render_clip
from training.demo.phrases import DEMO_TEXT
from training.demo.scenes import make_scene
from training.evaluation.score_intervals import accuracy_figures
from training.models.base import VideoTextModel

FIRST_SEED = 5_000_000  # of the test world; the final evaluation uses others


@torch.no_grad()
def measure_in_process(model: VideoTextModel, rule: PreprocessContract, *, per_group: int) -> dict[str, Any]:
    """Return top-1 over the whole vocabulary (seen, held out), between opposite orders, and with shuffled frames.

    `counts` and `intervals` have the number of clips behind each share and its 95 % interval.
    """
    model.eval()
    labels = [item.label for item in combinations()]
    rows = pad_tokens(clip_tokenizer(DEMO_TEXT).encode(labels), pad_id=0)
    text = functional.normalize(model.encode_text(torch.from_numpy(rows)), dim=-1)  # [K, D]
    hits: dict[str, NDArray[np.bool_]] = {}
    for name, group in (("seen", seen()), ("held_out", sorted(held_out()))):
        chosen = [
            group[i * len(group) // per_group] if per_group < len(group) else group[i % len(group)]
            for i in range(per_group)
        ]
        clips = _render_clips(model, rule, chosen)
        scores = _compute_scores(model, rule, clips, text)
        truth = [combinations().index(item) for item in chosen]
        hits[name] = scores.argmax(axis=1) == np.array(truth)
        if name == "held_out":
            hits["order"] = _in_order(scores, chosen)
            shuffled = clips[:, torch.randperm(clips.shape[1], generator=torch.Generator().manual_seed(1))]
            hits["order_shuffled"] = _in_order(_compute_scores(model, rule, shuffled, text), chosen)
    return accuracy_figures(hits)


def _render_clips(model: VideoTextModel, rule: PreprocessContract, chosen: Sequence[Combination]) -> Tensor:
    return torch.stack(
        [
            torch.from_numpy(
                render_clip(
                    make_scene(item, "test", FIRST_SEED + n, short_side=160),
                    model.num_frames,
                    rule=rule,
                    jitter=0.0,
                    quality=60,
                )
            )
            for n, item in enumerate(chosen)
        ]
    )


def _compute_scores(model: VideoTextModel, rule: PreprocessContract, clips: Tensor, text: Tensor) -> np.ndarray:
    features = [model.encode_video(normalise_clips(part, rule)).video_features for part in clips.split(32)]
    return (functional.normalize(torch.cat(features), dim=-1) @ text.T).numpy()


def _in_order(scores: np.ndarray, chosen: Sequence[Combination]) -> NDArray[np.bool_]:
    """Return whether the label has a higher score than that of the opposite order, for clips that have one."""
    place = {item: k for k, item in enumerate(combinations())}
    pairs = [(n, item, opposite(item)) for n, item in enumerate(chosen)]
    return np.array([scores[n, place[item]] > scores[n, place[other]] for n, item, other in pairs if other])
