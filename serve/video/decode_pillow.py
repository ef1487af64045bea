"""Decode AVIF stills and animated WebP with Pillow, because FFmpeg does not decode them as image viewers do.

FFmpeg 8.1 has no decoder for animated WebP, and it returns the tiles of an AVIF grid one by one. Frames are composited
(disposal and blending), and transparency is dropped, as in FFmpeg.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image, ImageOps

from serve.arrays import Int64Array, UInt8Array
from serve.errors import PictureTooLarge, UndecodableVideo, VideoTooLong
from serve.video.decoded_frames import (
    DecodedFrames,
    FrameConsumer,
    FrameSelector,
    FrameTransform,
    StreamSummary,
    TimeSelector,
    check_indices,
)
from serve.video.identify import FileKind
from serve.video.library_errors import is_exhaustion
from serve.video.limits import DecodeSettings
from serve.video.memory import is_memory_short
from serve.video.metadata import Timeline
from serve.video.pictures import check_picture
from serve.video.video_file import VideoFile

_CODECS = {"WEBP": "webp", "AVIF": "av1"}
# Exceptions that Pillow raises for invalid data.
_INVALID_DATA_ERRORS = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, struct.error)
_INVALID_EXIF_ERRORS = (*_INVALID_DATA_ERRORS, KeyError, TypeError)
_DEFAULT_DELAY_MS = 100  # duration of a frame with a delay of 0, as in browsers and in FFmpeg for GIF


class PillowVideo:
    """One opened image or animation; `read` returns its frames."""

    def __init__(self, file: VideoFile, kind: FileKind, settings: DecodeSettings) -> None:
        self.file = file
        self.is_still = kind.is_still
        self._settings = settings
        with self._open() as image:
            assert image.format is not None
            self.container = image.format.lower()
            self.canonical_codec = _CODECS[image.format]
            self._num_frames = 1 if kind.is_still else int(getattr(image, "n_frames", 1))
        if self._num_frames > settings.max_frames:
            raise VideoTooLong(
                f"the animation has {self._num_frames} frames; at most {settings.max_frames} are allowed",
                limit_frames=settings.max_frames,
            )

    def read_timeline(self) -> Timeline:
        """Return the times of the frames; this decodes all frames."""
        return self._decode_all(set(), np.copy)[1]

    def read(self, choose: FrameSelector, transform: FrameTransform) -> DecodedFrames:
        """Decode all frames in order; return the result of `transform` for the frames that `choose` selects.

        Raises:
            UndecodableVideo: no frame can be decoded.
            PictureTooLarge, VideoTooLong, VideoTooShort: a limit is exceeded.
        """
        values, timeline = self._decode_all(_unique(choose(self._num_frames)), transform)
        indices = check_indices(choose(timeline.num_frames), timeline.num_frames)
        if missing := _unique(indices) - values.keys():  # the file is truncated
            values |= self._decode_all(missing, transform)[0]
        return DecodedFrames(timeline, indices, {index: values[index] for index in _unique(indices)})

    def stream(self, choose: TimeSelector, on_frame: FrameConsumer) -> StreamSummary:
        """Pass each frame that `choose` selects to `on_frame`, in ascending order; see `PyavVideo.stream`.

        The frames are decoded twice, because their durations are known only after decoding.
        """
        timeline = self.read_timeline()
        wanted = sorted(_unique(choose(timeline)))
        indices = iter(wanted)
        self._decode_all(set(wanted), lambda frame: on_frame(next(indices), frame))
        return StreamSummary(timeline, 0, 0, is_truncated=timeline.num_frames < self._num_frames)

    def _decode_all(self, wanted: set[int], transform: FrameTransform) -> tuple[dict[int, Any], Timeline]:
        """Decode all frames; return the result of `transform` for the wanted ones by index, and the times of all."""
        values: dict[int, Any] = {}
        edges_ms = [0]  # start of each frame, and the end of the last one
        with self._open() as image:
            for index in range(self._num_frames):
                if not _load_frame(image, index):
                    break
                edges_ms.append(edges_ms[-1] + (int(image.info.get("duration", 0)) or _DEFAULT_DELAY_MS))
                if index in wanted:
                    values[index] = transform(_to_upright_rgb(image))
        if len(edges_ms) == 1:
            raise UndecodableVideo("no frame can be decoded: the data of the image is corrupt")
        seconds = np.asarray(edges_ms) / 1000
        self._check_duration(float(seconds[-1]))
        return values, Timeline(seconds[:-1], float(seconds[-1]))

    def _check_duration(self, seconds: float) -> None:
        limit = self._settings.max_duration_seconds
        if seconds > limit:
            raise VideoTooLong(
                f"the animation lasts {seconds:.0f} s; at most {limit:.0f} s are allowed",
                duration_seconds=seconds,
                limit_seconds=limit,
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[Image.Image]:
        """Open the image and check the size of its canvas before a frame is decoded."""
        _check_canvas(self.file, self._settings)
        AvifImagePlugin.DEFAULT_MAX_THREADS = self._settings.thread_count()
        with self.file.open("rb") as stream:
            with self._translate_pillow_errors():
                image = Image.open(stream, formats=list(_CODECS))
            with image:
                check_picture(image.width, image.height, self._settings)
                yield image

    @contextlib.contextmanager
    def _translate_pillow_errors(self) -> Iterator[None]:
        try:
            yield
        except Image.DecompressionBombError as error:
            raise PictureTooLarge(
                f"the image has too many pixels; at most {self._settings.max_picture_pixels} are allowed",
                limit_pixels=self._settings.max_picture_pixels,
            ) from error
        except _INVALID_DATA_ERRORS as error:
            raise UndecodableVideo(f"the image cannot be decoded: {error}") from error


def _check_canvas(file: VideoFile, settings: DecodeSettings) -> None:
    """Raise `PictureTooLarge` for a large WebP canvas before the decoder allocates it."""
    with file.open("rb") as stream:
        head = stream.read(30)
    if head[:4] == b"RIFF" and head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        check_picture(width, height, settings)


def _to_upright_rgb(image: Image.Image) -> UInt8Array:
    """Return the loaded frame as RGB [H, W, 3], rotated by its EXIF orientation if that is valid."""
    with contextlib.suppress(*_INVALID_EXIF_ERRORS):
        image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert("RGB"))


def _load_frame(image: Image.Image, index: int) -> bool:
    """Decode one frame; return False if the data is truncated or corrupt."""
    try:
        image.seek(index)
        image.load()
    except _INVALID_DATA_ERRORS as error:
        if is_exhaustion(error) or is_memory_short(image.width, image.height):
            raise MemoryError("the decoder ran out of memory") from error
        return False
    return True


def _unique(indices: Int64Array) -> set[int]:
    return {int(index) for index in np.unique(indices)}
