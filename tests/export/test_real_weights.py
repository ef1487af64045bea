"""The path of real weights, at full size with random ones: export from a file, verify, and the features torch gives."""

import asyncio
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from torch.nn import functional

from export.exporter import export_checkpoint
from export.loading import load_open_clip_file, read_tokenizer
from export.verification import verify_version
from serve.api.options import ClassifyOptions
from serve.service import Service
from serve.settings import ServeSettings
from serve.video.decode import load_views
from serve.video.view_request import ViewRequest
from tests.tolerances import FULL_TOWER, assert_close, tolerance
from training.checkpoints.native_format import Checkpoint
from training.demo.captions import combinations
from training.demo.videos import render_video, write_video

LABELS = ["riding a bike", "clapping", "playing drums", "reading a book", "swimming", "cooking", "dancing", "yawning"]


def assert_same_labels(repository: Path, model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """The served labels come in torch's order on the same frames, wherever the margin is clear."""
    video = repository / "clip.mp4"
    write_video(video, render_video(combinations()[0], "test", 3, size=160).frames, fps=24)
    settings = ServeSettings(repository=repository, model="real", cache_dir=repository / "cache", engine="openvino-f32")
    options = ClassifyOptions(candidate_labels=LABELS, top_k=len(LABELS))

    async def served() -> dict[str, float]:
        service = Service(settings)
        try:
            await service.start()
            deadline = asyncio.get_running_loop().time() + 300
            answer = await service.pipeline.classify(video, options, deadline=deadline)
        finally:
            await service.close()
        return {result.label: result.logit for result in answer.results}

    found = asyncio.run(served())
    request = ViewRequest(
        sampling=checkpoint.sampling, preprocess=checkpoint.preprocess, num_clips=1, num_crops=1
    )  # fmt: skip
    views = load_views(video, request, settings=settings.decode).views
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (checkpoint.preprocess.mean, checkpoint.preprocess.std)
    )
    tokenize = open_clip.SimpleTokenizer(context_length=checkpoint.text.context_length)
    with torch.inference_mode():
        frames = (torch.from_numpy(views[0]).float() / 255 - mean) / std  # [T, 3, S, S]
        feature = functional.normalize(model.encode_image(frames).mean(dim=0), dim=-1)
        bank = [model.encode_text(tokenize([t.replace("{}", k) for k in LABELS])) for t in checkpoint.text.templates]
        text = functional.normalize(functional.normalize(torch.stack(bank), dim=-1).mean(dim=0), dim=-1)  # [K, D]
        expected = dict(zip(LABELS, (checkpoint.scoring.logit_scale * text @ feature).tolist(), strict=True))
    allowed = tolerance(checkpoint.scoring.logit_scale, terms=FULL_TOWER)
    for first, second in pairwise(sorted(LABELS, key=lambda label: -expected[label])):
        assert abs(found[first] - expected[first]) <= allowed
        if expected[first] - expected[second] > 0.2:
            assert found[first] > found[second]


def assert_short_rows_suffice(path: Path, context_length: int) -> None:
    """Rows cut to the longest prompt give what padded rows give."""
    session = onnxruntime.InferenceSession(str(path))
    tokens = open_clip.SimpleTokenizer(context_length=context_length)([f"a video of {label}" for label in LABELS])
    length = int((tokens != 0).sum(dim=1).max())
    assert length < context_length // 2
    padded, short = (session.run(None, {"tokens": rows.numpy()})[0] for rows in (tokens, tokens[:, :length]))
    assert_close(short, padded, terms=FULL_TOWER)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("arch", "tag"), [("ViT-B-32", "openai"), ("PE-Core-B-16", "meta")])
def test_exported_features_are_torch_s(tmp_path: Path, arch: str, tag: str) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(arch, pretrained=None, force_quick_gelu=tag == "openai").eval()
    weights = tmp_path / "weights.pt"
    torch.save(model.state_dict(), weights)
    checkpoint = load_open_clip_file(arch, weights, num_frames=2, preprocess_tag=tag)
    assert checkpoint.preprocess.resize == ("squash" if arch.startswith("PE") else "shortest_side")
    exported = export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name="real", repository=tmp_path)
    assert verify_version(tmp_path, "real", version=None).contract == exported.contract
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 224, 224), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / exported.contract.graphs["video"].file))
    found = session.run(["video_features"], {"frames": frames})[0]
    rule = checkpoint.preprocess
    mean, std = torch.tensor(rule.mean).view(3, 1, 1), torch.tensor(rule.std).view(3, 1, 1)
    with torch.inference_mode():
        pixels = (torch.from_numpy(frames).float() / 255 - mean) / std
        expected = model.encode_image(pixels.flatten(0, 1)).unflatten(0, (2, 2)).mean(dim=1).numpy()
    assert_same_labels(tmp_path, model, checkpoint)
    assert_short_rows_suffice(tmp_path / exported.contract.graphs["text"].file, checkpoint.text.context_length)
    cosine = (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosine.min() >= 0.9999
    assert_close(found, expected, terms=FULL_TOWER)
