"""Compare frame indices and list lines of both systems with golden ones; ActionCLIP's files count from 1."""

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

REFUSED = [-1]  # marks a sample that raises


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all arrays and records of the folder's `temporal/`."""
    site = folder / "temporal"
    _check_actionclip_validation(site / "actionclip_val_indices.npz", report)
    _check_xclip_test(site / "xclip_test_indices.npz", report)
    for record in _records(site / "actionclip_train_indices.json", report):
        found = _actionclip_training(record)
        expected = REFUSED if record["indices"] is None else record["indices"]
        report.compare("temporal actionclip training", _described(record, "num_frames"), found, expected, tolerance=0)
    for record in _records(site / "actionclip_index_bias.json", report):
        found = first_file_number(record["image_tmpl"], record["index_bias_arg"])
        report.compare("temporal index bias", record["image_tmpl"], found, record["index_bias"], tolerance=0)
    for record in _records(site / "actionclip_annotation_lines.json", report):
        entry = parse_frame_folder_line(record["line"])
        differs = (entry.path, entry.num_frames, entry.label) != (record["path"], record["num_frames"], record["label"])
        report.compare("temporal annotation lines", record["line"].strip(), differs, 0, tolerance=0)
    for name in ("xclip_train_indices.json", "xclip_general_indices.json"):
        for record in _records(site / name, report):
            found = _sampler(record).indices(record["total_frames"], rngs=_rngs(record))
            described = _described(record, "total_frames")
            report.compare(
                f"temporal {name.removesuffix('_indices.json')}", described, found, record["frame_inds"], tolerance=0
            )


def _check_actionclip_validation(path: Path, report: ReferenceReport) -> None:
    if not report.takes(path):
        return
    golden = np.load(path)
    for key in golden.files:
        if found := re.fullmatch(r"val_T(\d+)_L(\d+)_loop(\d)", key):
            segments, length, loop = map(int, found.groups())
            rows = [
                actionclip_validation(number, segments, seg_length=length, loop=bool(loop)) + 1
                for number in golden["num_frames"].tolist()
            ]
            report.compare("temporal actionclip validation", key, np.stack(rows), golden[key], tolerance=0)


def _check_xclip_test(path: Path, report: ReferenceReport) -> None:
    """Compare serving's rule with the plain arrays, and the sampler with all of them."""
    if not report.takes(path):
        return
    golden = np.load(path)
    for key in golden.files:
        found = re.fullmatch(r"test_T(\d+)(_twice)?(?:_multiview(\d+)_first(\d+))?", key)
        if found is None:
            continue
        segments, twice, views, first = found.groups()
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


def _actionclip_training(record: dict[str, Any]) -> Any:
    try:
        indices = actionclip_training(
            record["num_frames"],
            record["num_segments"],
            rngs=seeded_rngs(record["seed"]),
            seg_length=record["seg_length"],
            loop=record["loop"],
        )
    except ValueError:
        return REFUSED
    return indices + record["index_bias"]


def _sampler(record: dict[str, Any]) -> SampleFrames:
    names = {
        "clip_len", "frame_interval", "num_clips", "test_mode", "temporal_jitter", "twice_sample", "frame_uniform",
        "multiview", "start_index",
    }  # fmt: skip
    options = {name: record[name] for name in names & set(record)}
    return SampleFrames(**options, out_of_bound=record.get("out_of_bound_opt", "loop"))


def _rngs(record: dict[str, Any]) -> Rngs:
    """Return generators with the seeds of a record; others are unused."""
    return seeded_rngs(record.get("py_seed") or 0, numpy_seed=record.get("np_seed") or 0)


def _records(path: Path, report: ReferenceReport) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if report.takes(path) else []


def _described(record: dict[str, Any], frames: str) -> str:
    hidden = {"indices", "frame_inds", "error", frames}
    rest = " ".join(f"{name}={value}" for name, value in record.items() if name not in hidden)
    return f"{record[frames]} frames, {rest}"
