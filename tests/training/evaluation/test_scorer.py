"""Probabilities of several views and templates against both systems' rules written out, for every family."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from serve.scoring import reduce_logits
from serve.text.tokenizer import pad_tokens
from tests.models import FAMILIES, tiny_actionclip, tiny_xclip, write_tokenizer
from tests.tolerances import assert_close, tolerance
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.config import ConfigError
from training.data.prompts import tokenizer_of
from training.evaluation.errors import EvaluationError
from training.evaluation.protocol import Protocol, make_protocol
from training.evaluation.scorer import Scorer, make_scorer
from training.models.base import VideoTextModel

pytestmark = pytest.mark.numeric

LABELS = ("riding a bike", "clapping", "playing drums", "waving", "bowing", "jumping")
VIEWS = 6


def scorer_of(checkpoint: Checkpoint, protocol: Protocol, tmp_path: Path) -> Scorer:
    file = write_tokenizer(tmp_path / "tokenizer.json") if protocol.text.tokenizer == "tokenizers" else None
    tokenizer = tokenizer_of(protocol.text, file, key="--tokenizer")
    return make_scorer(checkpoint.build(), protocol, LABELS, tokenizer=tokenizer, batch_size=4)


def some_views(checkpoint: Checkpoint, num_videos: int = 2) -> torch.Tensor:
    size, frames = checkpoint.preprocess.image_size, checkpoint.sampling.num_segments
    random = torch.Generator().manual_seed(0)
    shape = (num_videos, VIEWS, frames, 3, size, size)
    return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)


def normal_frames(checkpoint: Checkpoint, views: torch.Tensor) -> torch.Tensor:
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1) for values in (checkpoint.preprocess.mean, checkpoint.preprocess.std)
    )
    return (views / 255 - mean) / std


def text_features(model: VideoTextModel, checkpoint: Checkpoint, scorer: Scorer, tmp_path: Path) -> torch.Tensor:
    """[M, K, D], one template after the other."""
    text = scorer.protocol.text
    file = tmp_path / "tokenizer.json" if text.tokenizer == "tokenizers" else None
    tokenizer = tokenizer_of(text, file, key="--tokenizer")
    rows = [tokenizer.encode([template.replace("{}", label) for label in LABELS]) for template in text.templates]
    length = None if text.dynamic_length else text.context_length
    return torch.stack(
        [model.encode_text(torch.from_numpy(pad_tokens(r, pad_id=text.pad_id, length=length))) for r in rows]
    )


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_views_and_templates_are_averaged_by_the_rules(family: str, tmp_path: Path) -> None:
    checkpoint = FAMILIES[family]()
    templates = ("{}", "a video of {}", "{} on a stage")
    protocol = make_protocol(checkpoint, num_clips=2, num_crops=3, templates=templates)
    scorer = scorer_of(checkpoint, protocol, tmp_path)
    model, views = scorer.model, some_views(checkpoint)
    texts = text_features(model, checkpoint, scorer, tmp_path)
    if protocol.scoring.ensembling == "mean_embedding":
        texts = functional.normalize(functional.normalize(texts, dim=-1).mean(dim=0, keepdim=True), dim=-1)
    logits = torch.stack([logits_of_video(model, protocol, normal_frames(checkpoint, video), texts) for video in views])
    found = scorer.logits(views)
    scale = protocol.scoring.logit_scale
    assert_close(found, logits, magnitude=scale)
    for rule, shown in (("mean_probability", logits), ("mean_logit", logits.mean(dim=1, keepdim=True))):
        probabilities = shown.sigmoid() if protocol.scoring.activation == "sigmoid" else shown.softmax(dim=-1)
        expected = probabilities.mean(dim=(1, 2)).numpy()  # [B, K]
        chosen = replace(scorer, protocol=make_protocol(checkpoint, templates=templates, view_rule=rule))
        scores = [chosen.scores(each).scores for each in found]
        np.testing.assert_allclose(scores, expected, atol=tolerance(scale) / 2, rtol=0)
        first, second = np.log(expected)
        assert np.abs(first - second).max() > 20 * tolerance(scale)  # the two videos differ, so something was compared


def logits_of_video(
    model: VideoTextModel, protocol: Protocol, frames: torch.Tensor, texts: torch.Tensor
) -> torch.Tensor:
    """[V, M, K] of a video's views [V, T, 3, S, S], one view and one template after the other."""
    found = []
    for view in frames:
        output = model.encode_video(view[None])
        if model.has_prompt_head:
            each = [model.head(output.video_features, output.patch_features, rows)[0] for rows in texts]
        else:
            unit = functional.normalize(output.video_features, dim=-1)[0]
            scale, bias = protocol.scoring.logit_scale, protocol.scoring.logit_bias
            each = [scale * functional.normalize(rows, dim=-1) @ unit + bias for rows in texts]
        found.append(torch.stack(each))
    return torch.stack(found)


def test_the_two_rules_differ_and_the_contract_chooses() -> None:
    checkpoint = tiny_actionclip("meanP")
    assert make_protocol(checkpoint).scoring == checkpoint.scoring
    assert make_protocol(checkpoint).text.templates == checkpoint.text.templates
    assert make_protocol(checkpoint, view_rule="mean_logit").scoring.view_rule == "mean_logit"
    logits = np.array([[[4.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]], np.float32)
    sums = reduce_logits(logits, checkpoint.scoring, function="softmax").scores
    means = reduce_logits(logits, replace(checkpoint.scoring, view_rule="mean_logit"), function="softmax").scores
    assert sums is not None and means is not None and not np.allclose(sums, means, atol=0.05)


def test_another_system_changes_cuts_and_never_the_normalisation() -> None:
    checkpoint = tiny_actionclip("meanP")
    own, other = make_protocol(checkpoint), make_protocol(checkpoint, system="xclip")
    assert other.sampling.rule == "centres" and own.sampling.rule == "actionclip"
    assert other.preprocess.interpolation == "opencv_bilinear"
    assert (other.preprocess.mean, other.preprocess.std) == (own.preprocess.mean, own.preprocess.std)
    assert other.preprocess.image_size == own.preprocess.image_size
    with pytest.raises(ConfigError, match="system"):
        make_protocol(checkpoint, system="nosuch")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_crops": 2}, "crops 1 or 3"),
        ({"num_clips": 0}, "clips must be 1 to 64"),
        ({"view_rule": "max"}, "got 'max'"),
    ],
)
def test_impossible_protocols_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        make_protocol(tiny_actionclip("meanP"), **changes)  # type: ignore[arg-type]


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    checkpoint = _with_positions(torch.nan)
    with pytest.raises(CheckpointError, match="positional_embedding"):
        scorer_of(checkpoint, make_protocol(checkpoint), tmp_path)


def test_finite_weights_whose_logits_overflow_are_reported(tmp_path: Path) -> None:
    checkpoint = _with_positions(torch.finfo(torch.float32).max)
    scorer = scorer_of(checkpoint, make_protocol(checkpoint), tmp_path)
    with pytest.raises(EvaluationError, match="not finite"):
        scorer.logits(some_views(checkpoint)[:, :1])


def _with_positions(value: float) -> Checkpoint:
    checkpoint, name = tiny_xclip(), "mit.positional_embedding"
    checkpoint.weights[name] = torch.full_like(checkpoint.weights[name], value)
    return checkpoint


def test_a_foreign_tokenizer_has_to_be_given() -> None:
    with pytest.raises(ConfigError, match="--tokenizer"):
        tokenizer_of(FAMILIES["siglip"]().text, None, key="--tokenizer")
