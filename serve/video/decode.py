"""Decode a file into views, the spatial crops of sampled clips.

Requests use `load_views`; training and tools use `open_video`, `read_frames` and `frames_at`. The settings choose
between two decoders for videos, `decode_pyav.py` and `decode_decord.py`; images that FFmpeg does not support are
decoded by `decode_pillow.py`.
"""

import time
from collections.abc import Callable

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.video.decode_pillow import PillowVideo
from serve.video.decode_pyav import PyavVideo
from serve.video.decoded_frames import (
    DecodedFrames,
    FrameConsumer,
    FrameSelector,
    FrameTransform,
    StreamSummary,
    TimeSelector,
)
from serve.video.identify import identify
from serve.video.library_errors import translate_library_errors
from serve.video.limits import DecodeSettings
from serve.video.metadata import VideoMetadata
from serve.video.packet_index import MAX_CACHED_BYTES
from serve.video.preprocess import crop_frame
from serve.video.sampling import clip_indices
from serve.video.video_file import VideoFile
from serve.video.view_request import DecodedViews, ViewRequest

Video = PyavVideo | PillowVideo


def open_video(file: VideoFile, settings: DecodeSettings, *, max_cached_bytes: int = MAX_CACHED_BYTES) -> Video:
    """Open a video or image, read its timestamps and check it against the limits.

    The packets of a stream are cached in memory if they have at most `max_cached_bytes`; otherwise the file is read
    again for decoding.

    Raises:
        UnsupportedMedia, UndecodableVideo, VideoTooShort, VideoTooLong, PictureTooLarge: the file cannot be used.
    """
    with translate_library_errors():
        kind = identify(file)
        if kind.is_pillow:
            return PillowVideo(file, kind, settings)
        return PyavVideo(file, settings, max_cached_bytes=max_cached_bytes)


def read_frames(
    video: Video, choose: FrameSelector, *, transform: FrameTransform, settings: DecodeSettings
) -> DecodedFrames:
    """Decode the frames that `choose` selects with the configured decoder; return the result of `transform` for each.

    Raises:
        VideoError, UnsupportedMedia: the file cannot be used; see `PyavVideo.read` and `decode_decord.read`.
    """
    with translate_library_errors():
        return _DECODERS[settings.decoder](video, choose, transform=transform, settings=settings)


def stream_frames(video: Video, choose: TimeSelector, on_frame: FrameConsumer) -> StreamSummary:
    """Pass each frame that `choose` selects to `on_frame`, in ascending order; see `PyavVideo.stream`.

    The setting `decoder` has no effect, because decord cannot stream frames.
    """
    with translate_library_errors():
        return video.stream(choose, on_frame)


def frames_at(file: VideoFile, indices: Int64Array, *, settings: DecodeSettings) -> UInt8Array:
    """Return the upright frames [N, H, W, 3] at 0-based indices [N].

    Raises:
        VideoTooShort: an index is beyond the last frame.
    """
    reading = read_frames(open_video(file, settings), lambda _: indices, transform=np.copy, settings=settings)
    return np.stack([reading.values[int(index)] for index in indices])


def load_views(
    file: VideoFile, request: ViewRequest, *, settings: DecodeSettings, out: UInt8Array | None = None
) -> DecodedViews:
    """Decode a video or image into views, in this process and without a deadline.

    Each frame is resized and cropped as soon as it is decoded, so memory holds one frame and the views. If `out` is
    given, the views are written into that array, e.g. shared memory.

    Raises:
        VideoError, UnsupportedMedia: the file cannot be used.
    """
    started = time.perf_counter()
    preprocess_seconds = 0.0
    display_size: tuple[int, int] | None = None

    def transform(frame: UInt8Array) -> UInt8Array:
        nonlocal preprocess_seconds, display_size
        crop_started = time.perf_counter()
        display_size = display_size or (frame.shape[0], frame.shape[1])
        crops = crop_frame(frame, request.preprocess, num_crops=request.num_crops)
        preprocess_seconds += time.perf_counter() - crop_started
        return crops

    video = open_video(file, settings)
    reading = read_frames(video, lambda count: _sample_indices(count, request), transform=transform, settings=settings)
    assert display_size is not None, "at least one frame was decoded"
    views = np.empty(request.shape, dtype=np.uint8) if out is None else out
    _fill_(views, reading, num_clips=request.num_clips)
    elapsed = time.perf_counter() - started
    return DecodedViews(
        views=views,
        metadata=_make_metadata(video, reading, display_size),
        frame_indices=reading.indices,
        pts_seconds=reading.timeline.pts_seconds[reading.indices],
        decode_ms=(elapsed - preprocess_seconds) * 1000,
        preprocess_ms=preprocess_seconds * 1000,
    )


def _sample_indices(num_frames: int, request: ViewRequest) -> Int64Array:
    """Return the frame indices [num_clips, T] by the sampling rule of the request."""
    sampling = request.sampling
    return clip_indices(sampling.rule, num_frames, num_segments=sampling.num_segments, num_clips=request.num_clips)


def _fill_(views: UInt8Array, reading: DecodedFrames, *, num_clips: int) -> None:
    """Write the crops of the decoded frames to `views` [V, T, 3, S, S], crop-major, then clip."""
    for clip, row in enumerate(reading.indices):
        for segment, index in enumerate(row):
            views[clip::num_clips, segment] = reading.values[int(index)]  # [num_crops, 3, S, S]


def _make_metadata(video: Video, reading: DecodedFrames, display_size: tuple[int, int]) -> VideoMetadata:
    timeline = reading.timeline
    return VideoMetadata(
        num_frames=timeline.num_frames,
        fps=0.0 if video.is_still else timeline.fps,
        duration_seconds=0.0 if video.is_still else timeline.duration_seconds,
        height=display_size[0],
        width=display_size[1],
        container=video.container,
        codec=video.canonical_codec,
        num_broken_packets=reading.num_broken_packets,
        num_corrupt_frames=reading.num_corrupt_frames,
    )


def _read_with_pyav(
    video: Video, choose: FrameSelector, *, transform: FrameTransform, settings: DecodeSettings
) -> DecodedFrames:
    return video.read(choose, transform)  # with Pillow for a `PillowVideo`


def _read_with_decord(
    video: Video, choose: FrameSelector, *, transform: FrameTransform, settings: DecodeSettings
) -> DecodedFrames:
    from serve.video import decode_decord  # loads a second FFmpeg, so it is imported only if it is configured

    return decode_decord.read(video, choose, transform=transform, settings=settings)


_DECODERS: dict[str, Callable[..., DecodedFrames]] = {"pyav": _read_with_pyav, "decord": _read_with_decord}
