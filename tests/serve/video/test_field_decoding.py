"""Files whose container says too little or something wrong: every sampled frame is that of full decoding by ffmpeg."""

import numpy as np
import pytest

from serve.video.decode import frames_at, load_views, open_video
from serve.video.limits import DecodeSettings
from serve.video.sampling import clip_indices
from tests.serve.video.conftest import view_request
from tests.serve.video.independent import ffmpeg_frames
from tests.shared_data import FIELD, needs_shared

SETTINGS = DecodeSettings(threads=2)


@needs_shared
@pytest.mark.parametrize(
    ("name", "num_frames"),
    [("joined_two_descriptions.mp4", 325), ("h263_no_stss.3gp", 60), ("dropped_frames.avi", 60)],
)
@pytest.mark.parametrize("segments", [1, 3, 8])
def test_sampled_frames_are_those_of_full_decoding(name: str, num_frames: int, segments: int) -> None:
    path = FIELD / name
    video = open_video(path, SETTINGS)
    assert video.is_planned
    indices = clip_indices("centres", num_frames, num_segments=segments)[0]
    found = frames_at(path, indices, settings=SETTINGS)
    wanted = dict(zip(indices.tolist(), found, strict=True))
    height, width = found.shape[1:3]
    shown = 0
    for index, frame in enumerate(ffmpeg_frames(path, width=width, height=height)):
        shown += 1
        if index in wanted:
            np.testing.assert_array_equal(wanted[index], frame)
    assert shown == num_frames


@needs_shared
def test_empty_chunks_of_an_avi_take_time() -> None:
    found = load_views(FIELD / "dropped_frames.avi", view_request(), settings=SETTINGS)
    assert found.metadata.duration_seconds == pytest.approx(4.0)
    assert found.metadata.num_frames == 60
    timeline = open_video(FIELD / "dropped_frames.avi", SETTINGS).read_timeline()
    assert timeline.pts_seconds[-1] == pytest.approx(3.96)
    # 60 pictures in 100 ticks of 1/25 s: every time is a whole tick, and none is used twice
    ticks = timeline.pts_seconds * 25
    np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-9)
    assert np.all(np.diff(ticks) >= 1 - 1e-9)
