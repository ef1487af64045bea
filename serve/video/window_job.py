"""Job of a decode child that streams the windows of a long video, in parts.

Frames are cropped as soon as they are decoded and written into shared memory. A part is sent when that is full or a
second has passed; the child then waits until the parent has copied it. Limits of time apply to each part.
"""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import VideoTooLong, VideoTooShort
from serve.video.child import Job, raise_processor_limit
from serve.video.decode import open_video, stream_frames
from serve.video.metadata import Timeline
from serve.video.preprocess import crop_frame
from serve.video.view_request import VideoFacts, WindowRequest
from serve.video.windows import WindowGrid, count_windows, make_grid

SECONDS_PER_PART = 1.0
NICENESS = 10  # timelines and jobs use the processors that interactive requests leave


def windows(job: Job, *, path: Path, request: WindowRequest) -> dict[str, Any]:
    """Stream the windows of a file; return the fields of `WindowsEnd`.

    Raises:
        ActserveError: the file cannot be used.
        OSError: the file cannot be opened.
    """
    os.nice(NICENESS)
    video = open_video(path, job.settings, max_kept_bytes=0)  # a long video is read again
    if video.is_still:
        raise VideoTooShort("the file is a picture, and a picture has no timeline", num_frames=1)
    writer = PartWriter(job, request)
    end = stream_frames(video, writer.begin, writer.give)
    writer.finish()
    return {
        "width": writer.size[1],
        "height": writer.size[0],
        "is_truncated": end.is_truncated,
        "num_corrupt_frames": end.num_corrupt_frames,
    }


class PartWriter:
    """Crops frames and sends them with the windows that they complete."""

    def __init__(self, job: Job, request: WindowRequest) -> None:
        self._job = job
        self._request = request
        self._block = job.shared_array(request.shape)  # [N, 3, S, S]
        self.size = (0, 0)  # height and width of the first frame

    def begin(self, timeline: Timeline) -> Int64Array:
        """Lay the windows and return the frames [N, T] that they show; what was sent before is void."""
        request = self._request
        spacing = {"window_seconds": request.window_seconds, "stride_seconds": request.stride_seconds}
        if count_windows(timeline.duration_seconds, **spacing) > request.max_windows:
            raise VideoTooLong(
                f"the video lasts {timeline.duration_seconds:.0f} s, which a stride of {request.stride_seconds:g} s "
                f"divides into more than {request.max_windows} windows, the limit; use a larger stride_seconds",
                duration_seconds=timeline.duration_seconds,
                limit_windows=request.max_windows,
            )
        self._seconds = timeline.pts_seconds
        self._grid = make_grid(timeline, request.sampling, **spacing)
        samples = self._grid.samples
        self._last = np.maximum.accumulate(samples[:, -1])  # [N], frame that completes each window
        self._first = np.minimum.accumulate(samples[::-1, 0])[::-1]  # [N], first frame that it or a later one needs
        self._next = 0  # window
        self._indices: list[int] = []
        self._facts: VideoFacts | None = _facts(timeline, self._grid)
        self._sent_at = time.monotonic()
        return samples

    def give(self, index: int, picture: UInt8Array) -> None:
        """Take a frame; send a part if it is time."""
        if self.size == (0, 0):
            self.size = (picture.shape[0], picture.shape[1])
        self._block[len(self._indices)] = crop_frame(picture, self._request.preprocess, num_crops=1)[0]
        self._indices.append(index)
        is_full = len(self._indices) == self._request.frames_at_once
        if is_full or time.monotonic() - self._sent_at > SECONDS_PER_PART:
            self._send()

    def finish(self) -> None:
        """Send what is left."""
        if self._indices:
            self._send()

    def _send(self) -> None:
        stop = int(np.searchsorted(self._last, self._indices[-1], side="right"))
        completed = [asdict(self._grid.window(number)) for number in range(self._next, stop)]
        keep_from = self._first[stop] if stop < len(self._first) else self._indices[-1] + 1
        self._job.send_part(
            {
                "facts": None if self._facts is None else asdict(self._facts),
                "frame_indices": self._indices,
                "frame_seconds": self._seconds[self._indices].tolist(),
                "windows": completed,
                "keep_from": int(keep_from),
            }
        )
        raise_processor_limit(self._job.settings.max_cpu_seconds)
        self._next, self._indices, self._facts, self._sent_at = stop, [], None, time.monotonic()


def _facts(timeline: Timeline, grid: WindowGrid) -> VideoFacts:
    return VideoFacts(
        num_frames=timeline.num_frames,
        fps=timeline.fps,
        duration_seconds=timeline.duration_seconds,
        num_windows=len(grid),
    )
