"""Compare frame indices and annotation lines of ActionCLIP and X-CLIP with golden values.

ActionCLIP numbers frames from 1.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from serve.video.sampling import actionclip_validation, clip_indices
from training.data.augmentation.random_sampling import SampleFrames, actionclip_training
from training.data.augmentation.rngs import Rngs, seeded_rngs
from training.data.frame_folders import first_file_number
from training.data.lists.text_lists import parse_frame_folder_line
from training.reference_check.report import ReferenceReport

REJECTED = [-1]  # stands for the indices of a sample for which the sampler raises an error


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all arrays and records in the subfolder `temporal/`."""
    temporal_folder = folder / "temporal"
    _check_actionclip_validation(temporal_folder / "actionclip_val_indices.npz", report)
    _check_xclip_test(temporal_folder / "xclip_test_indices.npz", report)
    for record in _load_records(temporal_folder / "actionclip_train_indices.json", report):
        actual = _sample_actionclip(record)
        expected = REJECTED if record["indices"] is None else record["indices"]
        report.compare("temporal actionclip training", _describe(record, "num_frames"), actual, expected, tolerance=0)
    for record in _load_records(temporal_folder / "actionclip_index_bias.json", report):
        actual = first_file_number(record["image_tmpl"], record["index_bias_arg"])
        report.compare("temporal index bias", record["image_tmpl"], actual, record["index_bias"], tolerance=0)
    for record in _load_records(temporal_folder / "actionclip_annotation_lines.json", report):
        entry = parse_frame_folder_line(record["line"])
        differs = (entry.path, entry.num_frames, entry.label) != (record["path"], record["num_frames"], record["label"])
        report.compare("temporal annotation lines", record["line"].strip(), differs, 0, tolerance=0)
    for name in ("xclip_train_indices.json", "xclip_general_indices.json"):
        for record in _load_records(temporal_folder / name, report):
            actual = _make_sampler(record).indices(record["total_frames"], rngs=_make_rngs(record))
            group, case = f"temporal {name.removesuffix('_indices.json')}", _describe(record, "total_frames")
            report.compare(group, case, actual, record["frame_inds"], tolerance=0)


def _check_actionclip_validation(path: Path, report: ReferenceReport) -> None:
    if not report.mark_if_exists(path):
        return
    golden = np.load(path)
    for key in golden.files:
        if match := re.fullmatch(r"val_T(\d+)_L(\d+)_loop(\d)", key):
            segments, length, loop = map(int, match.groups())
            rows = [
                actionclip_validation(number, segments, seg_length=length, loop=bool(loop)) + 1
                for number in golden["num_frames"].tolist()
            ]
            report.compare("temporal actionclip validation", key, np.stack(rows), golden[key], tolerance=0)


def _check_xclip_test(path: Path, report: ReferenceReport) -> None:
    """Compare the sampler with all arrays, and the serving rule with the arrays without `twice`."""
    if not report.mark_if_exists(path):
        return
    golden = np.load(path)
    for key in golden.files:
        match = re.fullmatch(r"test_T(\d+)(_twice)?(?:_multiview(\d+)_first(\d+))?", key)
        if match is None:
            continue
        segments, twice, views, first = match.groups()
        numbers = golden["num_frames"].tolist()[: int(first) if first else None]
        sampler = SampleFrames(
            clip_len=1,
            num_clips=int(segments),
            test_mode=True,
            twice_sample=bool(twice),
            multiview=int(views or 1),
        )
        rows = [sampler.indices(number, rngs=seeded_rngs(0)) for number in numbers]
        report.compare("temporal xclip test", key, np.stack(rows), golden[key], tolerance=0)
        if not twice:
            served = [clip_indices("centres", number, num_segments=int(segments))[0] for number in numbers]
            report.compare("temporal xclip test, served", key, np.stack(served), golden[key], tolerance=0)


def _sample_actionclip(record: dict[str, Any]) -> Any:
    try:
        indices = actionclip_training(
            record["num_frames"],
            record["num_segments"],
            rngs=seeded_rngs(record["seed"]),
            seg_length=record["seg_length"],
            loop=record["loop"],
        )
    except ValueError:
        return REJECTED
    return indices + record["index_bias"]


def _make_sampler(record: dict[str, Any]) -> SampleFrames:
    names = {
        "clip_len", "frame_interval", "num_clips", "test_mode", "temporal_jitter", "twice_sample", "frame_uniform",
        "multiview", "start_index",
    }  # fmt: skip
    options = {name: record[name] for name in names & set(record)}
    return SampleFrames(**options, out_of_bound=record.get("out_of_bound_opt", "loop"))


def _make_rngs(record: dict[str, Any]) -> Rngs:
    """Return random generators with the seeds of a record; generators without a seed are not used."""
    return seeded_rngs(record.get("py_seed") or 0, numpy_seed=record.get("np_seed") or 0)


def _load_records(path: Path, report: ReferenceReport) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if report.mark_if_exists(path) else []


def _describe(record: dict[str, Any], num_frames_key: str) -> str:
    """Describe the inputs of a record."""
    omitted = {"indices", "frame_inds", "error", num_frames_key}
    inputs = " ".join(f"{name}={value}" for name, value in record.items() if name not in omitted)
    return f"{record[num_frames_key]} frames, {inputs}"
