"""Windows over constant and variable frame rates, and which frames each of them shows."""

import numpy as np
import pytest

from serve.contract import SamplingContract
from serve.video.metadata import Timeline
from serve.video.sampling import clip_indices
from serve.video.windows import count_windows, make_grid, window_starts

RULE = SamplingContract(rule="centres", num_segments=4)


def constant(num_frames: int, fps: float) -> Timeline:
    return Timeline(np.arange(num_frames) / fps, num_frames / fps)


@pytest.mark.parametrize("rule", ["centres", "actionclip", "ends"])
def test_one_window_over_the_video_samples_the_frames_that_a_classification_does(rule: str) -> None:
    sampling = SamplingContract(rule=rule, num_segments=8)  # type: ignore[arg-type]
    grid = make_grid(constant(75, 25.0), sampling, window_seconds=10.0, stride_seconds=5.0)
    assert len(grid) == 1
    assert grid.samples.tolist() == clip_indices(rule, 75, num_segments=8).tolist()
    assert (grid.starts[0], grid.ends[0]) == (0.0, 3.0)


def test_cells_divide_the_video_and_their_frames() -> None:
    grid = make_grid(constant(307, 30.0), RULE, window_seconds=2.0, stride_seconds=0.5)
    assert grid.cell_edges[0] == 0.0
    assert grid.cell_edges[-1] == pytest.approx(307 / 30)
    assert (np.diff(grid.cell_edges) > 0).all()
    assert grid.cell_frames[[0, -1]].tolist() == [0, 307]
    assert grid.ends[-1] == pytest.approx(307 / 30)
    assert grid.end_frames[-1] == 307


def test_overlapping_windows_of_a_constant_rate_share_their_frames() -> None:
    grid = make_grid(constant(300, 30.0), RULE, window_seconds=2.0, stride_seconds=0.5)
    assert len(np.unique(grid.samples)) == len(grid) + 3  # each window adds one frame to those of the one before


def test_windows_of_a_variable_rate_hold_the_frames_of_their_time() -> None:
    seconds = np.concatenate((np.arange(60) / 60, 1 + np.arange(5) / 5))  # one second at 60 a second, one at 5
    grid = make_grid(Timeline(seconds, 2.0), RULE, window_seconds=1.0, stride_seconds=1.0)
    assert grid.start_frames.tolist() == [0, 60]
    assert grid.end_frames.tolist() == [60, 65]
    assert grid.samples.tolist() == [[7, 22, 37, 52], [60, 61, 63, 64]]


def test_a_window_between_two_frames_shows_the_one_before() -> None:
    grid = make_grid(Timeline(np.array([0.0, 5.0]), 6.0), RULE, window_seconds=1.0, stride_seconds=1.0)
    assert grid.samples[:, 0].tolist() == [0, 0, 0, 0, 0, 1]
    assert (grid.end_frames > grid.start_frames).all()


def test_a_frame_whose_time_is_rounded_down_belongs_to_the_window_it_starts() -> None:
    seconds = np.arange(20) / 10
    seconds[10] = np.nextafter(1.0, 0.0)
    grid = make_grid(Timeline(seconds, 2.0), RULE, window_seconds=1.0, stride_seconds=1.0)
    assert grid.start_frames.tolist() == [0, 10]


@pytest.mark.parametrize("duration", [0.05, 1.0, 7.3, 60.0, 61.999])
@pytest.mark.parametrize(("window", "stride"), [(2.0, 1.0), (1.0, 1.0), (0.3, 0.1), (4.0, 0.25)])
def test_windows_reach_both_ends_and_leave_nothing_out(duration: float, window: float, stride: float) -> None:
    starts = window_starts(duration, window_seconds=window, stride_seconds=stride)
    assert starts[0] == 0.0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= window + 1e-9).all()
    assert starts[-1] + window >= duration - 1e-3 * stride
    assert len(starts) <= count_windows(duration, window_seconds=window, stride_seconds=stride)
