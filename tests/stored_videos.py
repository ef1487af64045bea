"""Stored videos with features of random numbers."""

from typing import Any

import numpy as np

from serve.features import VideoFeatures
from serve.video.windows import Window
from serve.videos.half_precision import round_features
from serve.videos.records import FeaturePart, NewVideo, SourceInfo, StoredVideoMetadata

WIDTH = 16


def new_video(**changes: Any) -> NewVideo:
    values: dict[str, Any] = {
        "video_id": NewVideo.new_id(), "kind": "windows", "model_name": "tiny", "model_version": 1,
        "model_digest": "d" * 32, "tags": (), "key_id": None, "expires_in_seconds": None,
        "abandoned_after_seconds": 3600.0,
    }  # fmt: skip
    return NewVideo(**{**values, **changes})


def window(number: int) -> Window:
    """The window of one second that starts at second `number`."""
    return Window(
        start_seconds=float(number), end_seconds=number + 1.0, start_frame=25 * number, end_frame=25 * (number + 1),
        cell_start_seconds=float(number), cell_end_seconds=number + 1.0, cell_start_frame=25 * number,
        cell_end_frame=25 * (number + 1), frame_indices=(),
    )  # fmt: skip


def part(first: int, count: int, *, seed: int = 0, width: int = WIDTH, **others: Any) -> FeaturePart:
    """Windows from second `first` on, with features as a store gives them back."""
    values = np.random.default_rng(seed + first).standard_normal((count, width), dtype=np.float32)
    features = round_features(VideoFeatures(video_features=values, **others))
    return FeaturePart(windows=[window(first + number) for number in range(count)], features=features)


def facts(filename: str | None = "a.mp4") -> StoredVideoMetadata:
    source = SourceInfo(
        filename=filename, num_bytes=1000, num_frames=250, fps=25.0, duration_seconds=10.0, width=64, height=48,
        truncated=False, num_corrupt_frames=0,
    )  # fmt: skip
    return StoredVideoMetadata(
        engine="onnxruntime-cpu", source=source, sampling=None, window_seconds=1.0, stride_seconds=1.0
    )
