"""Decoder job that streams the windows of a long video to the parent process, in parts.

Frames are cropped as soon as they are decoded and written into shared memory. A part is sent when the memory is full or
one second has passed; the child then waits until the parent has copied it. Time limits apply to each part.
"""

import os
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import VideoTooLong, VideoTooShort
from serve.video.child import Job, extend_cpu_limit
from serve.video.decode import open_video, stream_frames
from serve.video.metadata import Timeline
from serve.video.preprocess import crop_frame
from serve.video.view_request import VideoInfo, WindowRequest
from serve.video.windows import WindowGrid, count_windows, make_grid

MAX_SEND_INTERVAL_SECONDS = 1.0  # a part is sent at the latest after this time
NICENESS = 10  # nice value of timelines and background jobs, which gives interactive requests priority


def stream_windows(job: Job, *, request: WindowRequest) -> dict[str, Any]:
    """Stream the windows of a file; return the fields of `WindowStreamSummary`.

    Raises:
        ActserveError: the file cannot be used.
        OSError: the file cannot be read.
    """
    os.nice(NICENESS)
    video = open_video(job.file, job.settings, max_cached_bytes=0)  # packets of long videos are read again, not cached
    if video.is_still:
        raise VideoTooShort("the file is an image; a timeline requires a video", num_frames=1)
    sender = PartSender(job, request)
    summary = stream_frames(video, sender.start, sender.add_frame)
    sender.finish()
    return {
        "width": sender.size[1],
        "height": sender.size[0],
        "is_truncated": summary.is_truncated,
        "num_corrupt_frames": summary.num_corrupt_frames,
    }


class PartSender:
    """Crops frames and sends them in parts, with the windows that they complete."""

    def __init__(self, job: Job, request: WindowRequest) -> None:
        self._job = job
        self._request = request
        self._block = job.shared_array(request.shape)  # [F, 3, S, S] for F frames per part
        self.size = (0, 0)  # height and width of the first frame

    def start(self, timeline: Timeline) -> Int64Array:
        """Compute the W windows of the video and return the indices [W, T] of their frames.

        This method is called again if decoding restarts; the parent then discards the parts that were sent before.

        Raises:
            VideoTooLong: the video has more windows than the request allows.
        """
        request = self._request
        spacing = {"window_seconds": request.window_seconds, "stride_seconds": request.stride_seconds}
        if count_windows(timeline.duration_seconds, **spacing) > request.max_windows:
            raise VideoTooLong(
                f"the video lasts {timeline.duration_seconds:.0f} s and has more than {request.max_windows} windows "
                f"(the limit) at a stride of {request.stride_seconds:g} s; use a larger stride_seconds",
                duration_seconds=timeline.duration_seconds,
                limit_windows=request.max_windows,
            )
        self._seconds = timeline.pts_seconds
        self._grid = make_grid(timeline, request.sampling, **spacing)
        samples = self._grid.samples
        self._last_frames = np.maximum.accumulate(samples[:, -1])  # [W], index of the frame that completes each window
        self._first_frames = np.minimum.accumulate(samples[::-1, 0])[
            ::-1
        ]  # [W], index of the first frame needed by this or a later window
        self._next_window = 0
        self._indices: list[int] = []  # indices of the frames in the shared memory
        self._info: VideoInfo | None = _make_info(timeline, self._grid)  # None once it has been sent
        self._sent_at = time.monotonic()
        return samples

    def add_frame(self, index: int, frame: UInt8Array) -> None:
        """Crop and store a frame; send a part if the shared memory is full or one second has passed."""
        if self.size == (0, 0):
            self.size = (frame.shape[0], frame.shape[1])
        self._block[len(self._indices)] = crop_frame(frame, self._request.preprocess, num_crops=1)[0]
        self._indices.append(index)
        is_full = len(self._indices) == self._request.frames_per_part
        if is_full or time.monotonic() - self._sent_at > MAX_SEND_INTERVAL_SECONDS:
            self._send_part()

    def finish(self) -> None:
        """Send the remaining frames."""
        if self._indices:
            self._send_part()

    def _send_part(self) -> None:
        stop = int(np.searchsorted(self._last_frames, self._indices[-1], side="right"))
        completed = [asdict(self._grid.window(index)) for index in range(self._next_window, stop)]
        first_needed_frame = self._first_frames[stop] if stop < len(self._first_frames) else self._indices[-1] + 1
        self._job.send_part(
            {
                "info": None if self._info is None else asdict(self._info),
                "frame_indices": self._indices,
                "frame_seconds": self._seconds[self._indices].tolist(),
                "windows": completed,
                "first_needed_frame": int(first_needed_frame),
            }
        )
        extend_cpu_limit(self._job.settings.max_cpu_seconds)
        self._next_window, self._indices, self._info, self._sent_at = stop, [], None, time.monotonic()


def _make_info(timeline: Timeline, grid: WindowGrid) -> VideoInfo:
    return VideoInfo(
        num_frames=timeline.num_frames,
        fps=timeline.fps,
        duration_seconds=timeline.duration_seconds,
        num_windows=len(grid),
    )
