"""Frame indices equal those of the original code, which `tests/golden/temporal` holds."""

import re
from pathlib import Path

import numpy as np
import pytest

from serve.errors import VideoTooShort
from serve.video.sampling import SAMPLING_RULES, actionclip_validation, clip_indices

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "temporal"


def test_actionclip_validation_equals_the_original() -> None:
    golden = np.load(GOLDEN / "actionclip_val_indices.npz")
    checked = 0
    for key in golden.files:
        if not (found := re.fullmatch(r"val_T(\d+)_L(\d+)_loop(\d)", key)):
            continue
        segments, length, loop = map(int, found.groups())
        for num_frames, expected in zip(golden["num_frames"].tolist(), golden[key], strict=True):
            indices = actionclip_validation(num_frames, segments, seg_length=length, loop=bool(loop))
            assert (indices + 1).tolist() == expected.tolist()  # the original counts files from 1
            if length == 1 and not loop:
                one_clip = clip_indices("actionclip", num_frames, num_segments=segments)
                assert (one_clip[0] + 1).tolist() == expected.tolist()
            checked += 1
    assert checked > 1000


def test_segment_centres_equal_xclip_s_test_sampling() -> None:
    golden = np.load(GOLDEN / "xclip_test_indices.npz")
    keys = [key for key in golden.files if re.fullmatch(r"test_T\d+", key)]
    assert keys
    for key in keys:
        for num_frames, expected in zip(golden["num_frames"].tolist(), golden[key], strict=True):
            indices = clip_indices("centres", num_frames, num_segments=int(key.removeprefix("test_T")))
            assert indices[0].tolist() == expected.tolist()


def test_both_ends_are_included() -> None:
    assert clip_indices("ends", 300, num_segments=8)[0].tolist() == [0, 42, 85, 128, 170, 213, 256, 299]
    assert clip_indices("ends", 5, num_segments=1).tolist() == [[0]]


@pytest.mark.parametrize("rule", SAMPLING_RULES)
@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 9, 300])
def test_several_clips_stay_inside_the_video_in_order(rule: str, num_frames: int) -> None:
    for num_clips in range(1, 11):
        indices = clip_indices(rule, num_frames, num_segments=8, num_clips=num_clips)
        assert indices.shape == (num_clips, 8)
        assert indices.min() >= 0 and indices.max() < num_frames
        assert (np.diff(indices, axis=1) >= 0).all()


def test_a_video_without_frames_is_an_error() -> None:
    with pytest.raises(VideoTooShort, match="has 0 frames"):
        clip_indices("centres", 0, num_segments=8)
