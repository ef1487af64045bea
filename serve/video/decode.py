"""From a file to views: choose frames, decode them one at a time, and crop each frame immediately.

Requests use `load_views`; training and tools use its parts `open_video`, `read_frames` and `frames_at`. There are two
decoders with the same interface, `decode_pyav.py` and `decode_decord.py`.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.video.border import translated
from serve.video.decode_pillow import PillowVideo
from serve.video.decode_pyav import Choose, ChooseByTime, DecodedFrames, Give, PyavVideo, StreamEnd, Take
from serve.video.identify import identify
from serve.video.limits import DecodeSettings
from serve.video.metadata import VideoMetadata
from serve.video.packet_index import MAX_KEPT_BYTES
from serve.video.preprocess import crop_frame
from serve.video.sampling import clip_indices
from serve.video.view_request import DecodedViews, ViewRequest

Video = PyavVideo | PillowVideo


def open_video(path: Path, settings: DecodeSettings, *, max_kept_bytes: int = MAX_KEPT_BYTES) -> Video:
    """Open a video or picture, read its timestamps and check it against the limits; nothing is decoded yet.

    Packets of a stream up to `max_kept_bytes` stay in memory; those of a larger one are read again.

    Raises:
        UnsupportedMedia, UndecodableVideo, VideoTooShort, VideoTooLong, PictureTooLarge: the file cannot be used.
    """
    with translated():
        kind = identify(path)
        return (
            PillowVideo(path, kind, settings)
            if kind.is_pillow
            else PyavVideo(path, settings, max_kept_bytes=max_kept_bytes)
        )


def read_frames(video: Video, choose: Choose, *, take: Take, settings: DecodeSettings) -> DecodedFrames:
    """Decode the frames that `choose` selects with the configured decoder, and keep the result of `take` for each."""
    with translated():
        return _DECODERS[settings.decoder](video, choose, take=take, settings=settings)


def stream_frames(video: Video, choose: ChooseByTime, give: Give) -> StreamEnd:
    """Give the frames that `choose` selects one after the other; see `PyavVideo.stream`.

    Always with the decoder of this project: decord, which reads the same frames, cannot stream them.
    """
    with translated():
        return video.stream(choose, give)


def frames_at(path: Path, indices: Int64Array, *, settings: DecodeSettings) -> UInt8Array:
    """Decode the frames at 0-based indices, upright. [N] -> [N, H, W, 3]

    Raises:
        VideoTooShort: an index lies beyond the last frame.
    """
    reading = read_frames(open_video(path, settings), lambda _: indices, take=np.copy, settings=settings)
    return np.stack([reading.kept[int(index)] for index in indices])


def load_views(
    path: Path, request: ViewRequest, *, settings: DecodeSettings, out: UInt8Array | None = None
) -> DecodedViews:
    """Decode a video or picture into views, in this process and without a deadline.

    Each frame is resized and cropped as soon as it is decoded, so memory holds one frame and the views. With `out`, the
    views are written into that array, e.g. shared memory.

    Raises:
        VideoError, UnsupportedMedia: the file cannot be used.
    """
    started = time.perf_counter()
    preprocess_seconds = 0.0
    shown_size = (0, 0)

    def take(frame: UInt8Array) -> UInt8Array:
        nonlocal preprocess_seconds, shown_size
        begun = time.perf_counter()
        shown_size = shown_size if shown_size != (0, 0) else frame.shape[:2]
        crops = crop_frame(frame, request.preprocess, num_crops=request.num_crops)
        preprocess_seconds += time.perf_counter() - begun
        return crops

    video = open_video(path, settings)
    reading = read_frames(video, lambda count: _wanted(count, request), take=take, settings=settings)
    views = np.empty(request.shape, dtype=np.uint8) if out is None else out
    _fill_(views, reading, num_clips=request.num_clips)
    elapsed = time.perf_counter() - started
    return DecodedViews(
        views=views,
        metadata=_metadata(video, reading, shown_size),
        frame_indices=reading.indices,
        pts_seconds=reading.timeline.pts_seconds[reading.indices],
        decode_ms=(elapsed - preprocess_seconds) * 1000,
        preprocess_ms=preprocess_seconds * 1000,
    )


def _wanted(num_frames: int, request: ViewRequest) -> Int64Array:
    sampling = request.sampling
    return clip_indices(sampling.rule, num_frames, num_segments=sampling.num_segments, num_clips=request.num_clips)


def _fill_(views: UInt8Array, reading: DecodedFrames, *, num_clips: int) -> None:
    for clip, row in enumerate(reading.indices):
        for segment, index in enumerate(row):
            views[clip::num_clips, segment] = reading.kept[int(index)]  # [num_crops, 3, S, S]


def _metadata(video: Video, reading: DecodedFrames, shown_size: tuple[int, int]) -> VideoMetadata:
    timeline = reading.timeline
    return VideoMetadata(
        num_frames=timeline.num_frames,
        fps=0.0 if video.is_still else timeline.fps,
        duration_seconds=0.0 if video.is_still else timeline.duration_seconds,
        height=shown_size[0],
        width=shown_size[1],
        container=video.container,
        codec=video.canonical_codec,
        num_broken_packets=reading.num_broken_packets,
        num_corrupt_frames=reading.num_corrupt_frames,
    )


def _read_with_own_decoder(video: Video, choose: Choose, *, take: Take, settings: DecodeSettings) -> DecodedFrames:
    return video.read(choose, take)


def _read_with_decord(video: Video, choose: Choose, *, take: Take, settings: DecodeSettings) -> DecodedFrames:
    from serve.video import decode_decord  # loads a second FFmpeg, so only if it is configured

    return decode_decord.read(video, choose, take=take, settings=settings)


_DECODERS: dict[str, Callable[..., DecodedFrames]] = {"pyav": _read_with_own_decoder, "decord": _read_with_decord}
