"""Test-time frame indices of both systems against golden arrays; 0-based inside, ActionCLIP's files count from 1."""

import re
from pathlib import Path

import numpy as np

from serve.video.sampling import actionclip_validation, clip_indices
from training.reference_check.report import Report

CHECKED = ("temporal/actionclip_val_indices.npz", "temporal/xclip_test_indices.npz")


def check(folder: Path, report: Report) -> None:
    """Compare every `val_T*_L*_loop*` and `test_T*` array of the folder's `temporal/`."""
    path = folder / CHECKED[0]
    if path.is_file():
        golden = np.load(path)
        for key in golden.files:
            if found := re.fullmatch(r"val_T(\d+)_L(\d+)_loop(\d)", key):
                segments, length, loop = map(int, found.groups())
                rows = [
                    actionclip_validation(number, segments, seg_length=length, loop=bool(loop)) + 1
                    for number in golden["num_frames"].tolist()
                ]
                report.compare("temporal actionclip validation", key, np.stack(rows), golden[key], tolerance=0)
    path = folder / CHECKED[1]
    if path.is_file():
        golden = np.load(path)
        for key in golden.files:
            if found := re.fullmatch(r"test_T(\d+)", key):
                rows = [
                    clip_indices("centres", number, num_segments=int(found[1]))[0]
                    for number in golden["num_frames"].tolist()
                ]
                report.compare("temporal xclip test", key, np.stack(rows), golden[key], tolerance=0)
