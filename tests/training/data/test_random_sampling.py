"""Training samplers: what holds for every video length, and draws that stay inside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.augmentation.random_sampling import SampleFrames, actionclip_training
from training.data.augmentation.rngs import seeded_rngs

lengths = st.integers(1, 400)
segments = st.integers(1, 40)


@given(num_frames=lengths, num_segments=segments, seed=st.integers(0, 2**31))
def test_actionclip_draws_one_frame_of_each_segment_in_order(num_frames: int, num_segments: int, seed: int) -> None:
    indices = actionclip_training(num_frames, num_segments, rngs=seeded_rngs(seed))
    assert len(indices) == num_segments
    assert (np.diff(indices) >= 0).all()
    if num_frames > num_segments:
        assert (indices * num_segments // num_frames <= np.arange(num_segments)).all()
        assert (indices < num_frames).all()
    else:
        assert set(indices) == set(range(num_frames)), "a short video shows every frame"


@given(
    num_frames=lengths,
    clips=segments,
    seed=st.integers(0, 2**31),
    clip_len=st.integers(1, 8),
    interval=st.integers(1, 8),
    test_mode=st.booleans(),
    jitter=st.booleans(),
)
def test_x_clip_looping_stays_inside_the_video(
    num_frames: int, clips: int, seed: int, clip_len: int, interval: int, test_mode: bool, jitter: bool
) -> None:
    sampler = SampleFrames(
        clip_len=clip_len, frame_interval=interval, num_clips=clips, test_mode=test_mode, temporal_jitter=jitter
    )
    indices = sampler.indices(num_frames, rngs=seeded_rngs(seed))
    assert indices.shape == (clips * clip_len,)
    assert indices.min() >= 0
    assert indices.max() < num_frames


def test_repeat_last_stays_on_a_clips_last_frame() -> None:
    sampler = SampleFrames(clip_len=4, frame_interval=3, num_clips=1, test_mode=True, out_of_bound="repeat_last")
    assert sampler.indices(8, rngs=seeded_rngs(0)).tolist() == [0, 3, 6, 6]


def test_several_views_are_drawn_apart_and_test_mode_ignores_them() -> None:
    drawn = SampleFrames(clip_len=1, num_clips=8, multiview=4).indices(300, rngs=seeded_rngs(0)).reshape(4, 8)
    assert len({tuple(row) for row in drawn.tolist()}) == 4
    fixed = SampleFrames(clip_len=1, num_clips=8, multiview=4, test_mode=True).indices(300, rngs=seeded_rngs(0))
    assert fixed.tolist() == [18, 56, 93, 131, 168, 206, 243, 281]


def test_a_short_training_video_wraps_as_the_original_does() -> None:
    found = SampleFrames(clip_len=1, num_clips=16).indices(5, rngs=seeded_rngs(0))
    assert found.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 0]


def test_looping_needs_two_frames() -> None:
    with pytest.raises(ValueError):
        actionclip_training(1, 8, rngs=seeded_rngs(0), loop=True)
