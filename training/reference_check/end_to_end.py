"""Compare complete classifications with golden cases: frame sampling, pixels, logits, and reduction over views."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from serve.arrays import UInt8Array
from serve.contract import PreprocessContract
from serve.video.preprocess import normalise
from serve.video.sampling import clip_indices
from training.data.augmentation.random_sampling import SampleFrames
from training.data.augmentation.rngs import seeded_rngs
from training.models.base import VideoTextModel
from training.reference_check.frames import synthetic_frame
from training.reference_check.models import (
    FEATURE_TOLERANCE,
    LOGIT_TOLERANCE,
    load_golden_actionclip,
    load_golden_xclip,
)
from training.reference_check.report import ReferenceReport
from training.reference_check.spatial import SUM_TOLERANCE, actionclip_rule, make_views, xclip_rule


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all cases in the subfolder `e2e/`; their models are in the subfolders of the systems."""
    with torch.no_grad():
        for system, checker in (("actionclip", _check_actionclip), ("xclip", _check_xclip)):
            path = folder / "e2e" / f"{system}.json"
            if report.mark_if_exists(path):
                document = json.loads(path.read_text())
                checker(folder / system / document["model"], document, report)


def _check_actionclip(model_folder: Path, document: Mapping[str, Any], report: ReferenceReport) -> None:
    rule = actionclip_rule(document["input_size"])
    tokens = torch.from_numpy(np.load(model_folder / "io.npz")["tokens"])
    config = json.loads((model_folder / "config.json").read_text())
    models = {kind: load_golden_actionclip(model_folder, kind) for kind in document["cases"][0]["probs"]}
    texts = {kind: model.encode_text(tokens) for kind, model in models.items()}
    for number, case in enumerate(document["cases"]):
        name = f"video {number}"
        indices = clip_indices("actionclip", case["num_frames"], num_segments=config["num_segments"])
        report.compare("e2e actionclip frames", name, indices[0] + 1, case["indices_1based"], tolerance=0)
        views = _make_views(case, indices, rule, number=_video_number(case))
        _check_sum("actionclip", name, views, rule, case, report)
        for kind, expected in case["probs"].items():
            fused = models[kind].encode_video(_normalise_views(views, rule)).video_features
            cosine = functional.normalize(fused, dim=-1) @ functional.normalize(texts[kind], dim=-1).T
            actual = (100 * cosine).unflatten(1, (document["num_templates"], -1)).softmax(dim=-1).mean(dim=1)
            report.compare(
                "e2e actionclip probabilities", f"{name} {kind}", actual[0], expected, tolerance=FEATURE_TOLERANCE
            )


def _check_xclip(model_folder: Path, document: Mapping[str, Any], report: ReferenceReport) -> None:
    rule = xclip_rule(document["input_size"])
    model = load_golden_xclip(model_folder)
    text = model.encode_text(torch.from_numpy(np.load(model_folder / "io.npz")["tokens"]))
    for case in document["cases"]:
        clips, crops = case["num_clip"], case["num_crop"]
        name = f"{case['num_frames']} frames, {clips} clips, {crops} crops"
        indices = _sample_xclip(case, model.num_frames)
        report.compare("e2e xclip frames", name, indices.reshape(-1), case["frame_inds"], tolerance=0)
        views = _make_views(case, indices, rule, number=_video_number(case))
        _check_sum("xclip", name, views, rule, case, report)
        logits = _compute_logits(model, _normalise_views(views, rule), text)
        report.compare("e2e xclip logits", name, logits, case["view_logits"], tolerance=LOGIT_TOLERANCE)
        actual = logits.softmax(dim=-1).sum(dim=0) / len(views)
        expected = np.array(case["sum_softmax"]) / len(views)
        report.compare("e2e xclip probabilities", name, actual, expected, tolerance=FEATURE_TOLERANCE)


def _sample_xclip(case: Mapping[str, Any], num_frames: int) -> Any:
    """Return frame indices [num_clips, T]: by the serving rule for one clip, X-CLIP's random ones for several clips."""
    if case["num_clip"] == 1:
        return clip_indices("centres", case["num_frames"], num_segments=num_frames)
    sampler = SampleFrames(clip_len=1, num_clips=num_frames, multiview=case["num_clip"])
    return sampler.indices(case["num_frames"], rngs=seeded_rngs(case["np_seed"])).reshape(case["num_clip"], num_frames)


def _make_views(case: Mapping[str, Any], indices: Any, rule: PreprocessContract, *, number: int) -> UInt8Array:
    """Return views [V, T, 3, S, S], crop-major, of a video whose frame i has the seed 1000 * number + i."""
    crops = case.get("num_crop", 1)
    clips = [
        make_views([synthetic_frame(case["h"], case["w"], 1000 * number + i) for i in row], rule, num_crops=crops)
        for row in indices.tolist()
    ]
    ordered = np.stack(clips, axis=1)  # [num_crops, num_clips, T, 3, S, S]
    return ordered.reshape(-1, *ordered.shape[2:])


def _video_number(case: Mapping[str, Any]) -> int:
    return int(case["frame_seed_of_frame_i"].split()[0]) // 1000


def _normalise_views(views: UInt8Array, rule: PreprocessContract) -> Tensor:
    return torch.from_numpy(normalise(views, rule))


def _check_sum(
    system: str,
    name: str,
    views: UInt8Array,
    rule: PreprocessContract,
    case: Mapping[str, Any],
    report: ReferenceReport,
) -> None:
    floats = normalise(views, rule).astype(np.float64)
    relative_error = (floats.sum() - case["input_float_sum"]) / np.abs(floats).sum()
    report.compare(f"e2e {system} input sums", name, relative_error, 0, tolerance=SUM_TOLERANCE)


def _compute_logits(model: VideoTextModel, floats: Tensor, text: Tensor) -> Tensor:
    return model.head(*model.encode_video(floats)[:2], text)
