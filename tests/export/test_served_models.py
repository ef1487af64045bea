"""Tiny models of both systems through export, a model repository and a real server: the logits are torch's."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from export.exporter import export_checkpoint
from export.loading import read_tokenizer
from serve.contract import TextContract, read_contract
from serve.engines.ov import has_bf16
from serve.parity import count_clear_disagreements
from serve.repository import contract_path
from serve.text.tokenizer import pad_tokens
from serve.video.preprocess import crop_frame, join_views, normalise
from serve.video.sampling import clip_indices
from tests.models import FUSION_HEADS, tiny_actionclip, tiny_checkpoint, tiny_xclip
from tests.running_server import running_server
from tests.serve.video.independent import ffmpeg_frames
from tests.tolerances import tolerance
from tests.waiting import PATIENCE_SECONDS
from training.checkpoints.native_format import Checkpoint
from training.data.prompts import clip_tokenizer
from training.demo.captions import combinations
from training.demo.videos import render_video, write_video
from training.models.base import VideoTextModel

LABELS = ("riding a bike", "clapping", "playing drums", "swimming", "yawning")
OTHER_LABELS = ("sleeping", "clapping", "juggling balls")
VIEWS = ((1, 1), (1, 3), (4, 1), (4, 3))  # clips, crops
FULL = {"SERVE_ENGINE": "openvino-f32"}

CHECKPOINTS = {
    **{kind: lambda kind=kind: tiny_actionclip(kind) for kind in FUSION_HEADS},
    "shifted": lambda: tiny_actionclip("Transf", vision={**tiny_actionclip("meanP").model_config["vision"],
                                                         "temporal": "shift"}),
    "xclip": tiny_xclip,
    "xclip-without-prompts": lambda: tiny_xclip(prompts=False),
    "frames": lambda: tiny_checkpoint("clip"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that is neither square nor a multiple of anything."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    video = render_video(combinations()[0], "test", 3, size=90)
    write_video(path, [np.ascontiguousarray(frame[:90, :118]) for frame in video.frames], fps=24)
    return path


def _views(clip: Path, checkpoint: Checkpoint, *, clips: int, crops: int) -> Tensor:
    """Float views [V, T, 3, S, S] of frames another program decoded."""
    frames = list(ffmpeg_frames(clip, width=118, height=90))
    rule, sampling = checkpoint.preprocess, checkpoint.sampling
    indices = clip_indices(sampling.rule, len(frames), num_segments=sampling.num_segments, num_clips=clips)
    cut = [[crop_frame(frames[i], rule, num_crops=crops) for i in row] for row in indices.tolist()]
    return torch.from_numpy(normalise(join_views(np.array(cut)), rule))


def _text(model: VideoTextModel, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Text features [M, K, D], full context rows."""
    text = TextContract(tokenizer="clip", context_length=model.context_length, dynamic_length=True, pad_id=0)
    prompts = [template.replace("{}", label) for template in templates for label in labels]
    rows = pad_tokens(clip_tokenizer(text).encode(prompts), pad_id=0, length=model.context_length)
    return model.encode_text(torch.from_numpy(rows)).unflatten(0, (len(templates), -1))


@torch.no_grad()
def _expected(checkpoint: Checkpoint, views: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(mean logits [K], scores [K]) of torch, straight from the definitions of the rules."""
    model, rule = checkpoint.build(), checkpoint.scoring
    text = _text(model, labels, checkpoint.text.templates)
    output = model.encode_video(views)
    if model.has_prompt_head:
        bank = text.mean(dim=0, keepdim=True) if rule.ensembling == "mean_embedding" else text
        logits = torch.stack([model.head(*output[:2], rows) for rows in bank], dim=1)  # [V, M, K]
    else:
        bank = functional.normalize(text, dim=-1)
        if rule.ensembling == "mean_embedding":
            bank = functional.normalize(bank.mean(dim=0, keepdim=True), dim=-1)
        video = functional.normalize(output.video_features, dim=-1)
        logits = rule.logit_scale * torch.einsum("vd,mkd->vmk", video, bank)
    averaged = logits if rule.view_rule == "mean_probability" else logits.mean(dim=0, keepdim=True)
    return logits.mean(dim=(0, 1)), averaged.softmax(dim=-1).mean(dim=(0, 1))


def _served(http: httpx.Client, clip: Path, labels: Sequence[str], *, clips: int, crops: int) -> dict[str, Any]:
    options = {"candidate_labels": list(labels), "top_k": len(labels), "num_clips": clips, "num_crops": crops}
    with clip.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})
    response.raise_for_status()
    return {item["label"]: item for item in response.json()["results"]}


def _assert_torchs(checkpoint: Checkpoint, http: httpx.Client, clip: Path, labels: Sequence[str]) -> None:
    spread, allowed = 0.0, tolerance(checkpoint.scoring.logit_scale)
    for clips, crops in VIEWS:
        logits, scores = _expected(checkpoint, _views(clip, checkpoint, clips=clips, crops=crops), labels)
        found = _served(http, clip, labels, clips=clips, crops=crops)
        np.testing.assert_allclose([found[label]["logit"] for label in labels], logits, atol=allowed, rtol=0)
        np.testing.assert_allclose([found[label]["score"] for label in labels], scores, atol=allowed / 2, rtol=0)
        spread = max(spread, float(logits.max() - logits.min()))
    assert spread > 10 * allowed, "labels that score alike prove nothing"


def half_precision_logits(checkpoint: Checkpoint) -> float:
    """Largest difference of logits in bf16: sums are kept in fp32, but each of about 40 tensors on the way is rounded.

    The errors point anywhere in D dimensions, so that of a cosine is smaller than that of the features by sqrt(D).
    """
    rounding = tolerance(checkpoint.scoring.logit_scale, terms=40, dtype="bfloat16")
    return rounding / checkpoint.build().embed_dim ** 0.5


@pytest.mark.numeric
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_served_logits_are_torchs(name: str, tmp_path: Path, clip: Path) -> None:
    checkpoint = CHECKPOINTS[name]()
    export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name="tiny", repository=tmp_path)
    with (
        running_server(tmp_path / "cache", SERVE_REPOSITORY=str(tmp_path), SERVE_MODEL="tiny", **FULL) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
    ):
        _assert_torchs(checkpoint, http, clip, LABELS)
        _assert_torchs(checkpoint, http, clip, OTHER_LABELS)  # another vocabulary needs no other export


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_bf16_keeps_every_clear_answer(name: str, tmp_path: Path, clip: Path) -> None:
    checkpoint = CHECKPOINTS[name]()
    export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name="tiny", repository=tmp_path)
    with (
        running_server(tmp_path / "cache", SERVE_REPOSITORY=str(tmp_path), SERVE_MODEL="tiny") as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
    ):
        (loaded,) = [item for item in http.get("/v1/models").json()["models"] if item["loaded"]]
        assert loaded["engine"] == "openvino-bf16", "the fastest that passes is taken by default"
        for clips, crops in VIEWS:
            logits, _ = _expected(checkpoint, _views(clip, checkpoint, clips=clips, crops=crops), LABELS)
            found = _served(http, clip, LABELS, clips=clips, crops=crops)
            rounded = np.array([found[label]["logit"] for label in LABELS], np.float32)
            np.testing.assert_allclose(rounded, logits, atol=half_precision_logits(checkpoint), rtol=0)
            assert count_clear_disagreements(rounded[None], logits[None].numpy()) == 0


@pytest.mark.parametrize("name", ["Transf", "xclip"])
def test_every_rule_of_the_contract_is_torchs(name: str, tmp_path: Path, clip: Path) -> None:
    checkpoint = CHECKPOINTS[name]()
    text = dataclasses.replace(checkpoint.text, templates=("a photo of action {}", "{}", "The man is {}"))
    checkpoint = dataclasses.replace(checkpoint, text=text)
    export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name="tiny", repository=tmp_path)
    path = contract_path(tmp_path, "tiny", 1)
    for ensembling in ("mean_probability", "mean_embedding"):
        for view_rule in ("mean_probability", "mean_logit"):
            document = json.loads(path.read_text())
            document["scoring"].update(ensembling=ensembling, view_rule=view_rule)
            path.write_text(json.dumps(document))
            ruled = dataclasses.replace(checkpoint, scoring=read_contract(path).scoring)
            with (
                running_server(
                    tmp_path / "cache", SERVE_REPOSITORY=str(tmp_path), SERVE_MODEL="tiny", **FULL
                ) as server,
                httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
            ):
                _assert_torchs(ruled, http, clip, LABELS)
