"""Decoding with Pillow: animated WebP and AVIF stills, which FFmpeg does not show as viewers do.

FFmpeg 8.1 has no decoder for animated WebP, and it returns the tiles of an AVIF grid one by one. Frames are composited
(disposal and blending), and transparency is dropped, as in FFmpeg.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image, ImageOps

from serve.arrays import Int64Array, UInt8Array
from serve.errors import PictureTooLarge, UndecodableVideo, VideoTooLong
from serve.video.border import is_exhaustion
from serve.video.decode_pyav import Choose, ChooseByTime, DecodedFrames, Give, StreamEnd, Take, within
from serve.video.identify import FileKind
from serve.video.limits import DecodeSettings
from serve.video.memory import is_memory_short
from serve.video.metadata import Timeline
from serve.video.pictures import check_picture

_CODECS = {"WEBP": "webp", "AVIF": "av1"}
_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    struct.error,
)  # exceptions of Pillow for invalid data
_BROKEN_EXIF = (*_UNREADABLE, KeyError, TypeError)
_NO_DELAY_MS = 100  # duration of a frame without a delay in browsers, and in FFmpeg for GIF


class PillowVideo:
    """One opened picture or animation; `read` returns its frames."""

    def __init__(self, path: Path, kind: FileKind, settings: DecodeSettings) -> None:
        self.path = path
        self.is_still = kind.is_still
        self._settings = settings
        with self._opened() as image:
            assert image.format is not None
            self.container = image.format.lower()
            self.canonical_codec = _CODECS[image.format]
            self._num_frames = 1 if kind.is_still else int(getattr(image, "n_frames", 1))
        if self._num_frames > settings.max_frames:
            raise VideoTooLong(
                f"the animation has {self._num_frames} frames; at most {settings.max_frames} are allowed",
                limit_frames=settings.max_frames,
            )

    def counted(self) -> Timeline:
        """Return the times of the frames; this decodes all of them."""
        return self._pass(set(), np.copy)[1]

    def read(self, choose: Choose, take: Take) -> DecodedFrames:
        """Decode all frames in order and keep the result of `take` for those that `choose` selects.

        Raises:
            UndecodableVideo: no frame can be decoded.
            PictureTooLarge, VideoTooLong, VideoTooShort: a limit is exceeded.
        """
        kept, timeline = self._pass(_distinct(choose(self._num_frames)), take)
        indices = within(choose(timeline.num_frames), timeline.num_frames)
        if missing := _distinct(indices) - kept.keys():  # the file is truncated
            kept |= self._pass(missing, take)[0]
        return DecodedFrames(timeline, indices, {index: kept[index] for index in _distinct(indices)})

    def stream(self, choose: ChooseByTime, give: Give) -> StreamEnd:
        """Give each frame that `choose` selects once, in ascending order; see `PyavVideo.stream`.

        The frames are decoded twice, because the file does not say how long each is shown.
        """
        timeline = self.counted()
        wanted = sorted(_distinct(choose(timeline)))
        numbers = iter(wanted)
        self._pass(set(wanted), lambda picture: give(next(numbers), picture))
        return StreamEnd(timeline, 0, 0, is_truncated=timeline.num_frames < self._num_frames)

    def _pass(self, wanted: set[int], take: Take) -> tuple[dict[int, Any], Timeline]:
        kept: dict[int, Any] = {}
        ends = [0]  # milliseconds
        with self._opened() as image:
            for index in range(self._num_frames):
                if not _load_frame(image, index):
                    break
                ends.append(ends[-1] + (int(image.info.get("duration", 0)) or _NO_DELAY_MS))
                if index in wanted:
                    kept[index] = take(_upright(image))
        if len(ends) == 1:
            raise UndecodableVideo("no frame can be decoded: the data of the picture is corrupt")
        seconds = np.asarray(ends) / 1000
        self._refuse_long(float(seconds[-1]))
        return kept, Timeline(seconds[:-1], float(seconds[-1]))

    def _refuse_long(self, seconds: float) -> None:
        limit = self._settings.max_duration_seconds
        if seconds > limit:
            raise VideoTooLong(
                f"the animation lasts {seconds:.0f} s; at most {limit:.0f} s are allowed",
                duration_seconds=seconds,
                limit_seconds=limit,
            )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        """Open the image and check its canvas against the limits before a frame is decoded."""
        _check_canvas(self.path, self._settings)
        AvifImagePlugin.DEFAULT_MAX_THREADS = self._settings.thread_count()
        with self._translated():
            image = Image.open(self.path, formats=list(_CODECS))
        with image:
            check_picture(image.width, image.height, self._settings)
            yield image

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Image.DecompressionBombError as error:
            raise PictureTooLarge(
                "the picture has more pixels than allowed", limit_pixels=self._settings.max_picture_pixels
            ) from error
        except _UNREADABLE as error:
            raise UndecodableVideo(f"the picture cannot be decoded: {error}") from error


def _check_canvas(path: Path, settings: DecodeSettings) -> None:
    """Refuse a large WebP canvas before the decoder allocates it."""
    with path.open("rb") as stream:
        head = stream.read(30)
    if head[:4] == b"RIFF" and head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        check_picture(width, height, settings)


def _upright(image: Image.Image) -> UInt8Array:
    """Return the loaded frame, rotated by its EXIF orientation if that is readable. [H, W, 3] RGB"""
    with contextlib.suppress(*_BROKEN_EXIF):
        image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert("RGB"))


def _load_frame(image: Image.Image, index: int) -> bool:
    """Decode one frame; return False if the data is truncated or corrupt."""
    try:
        image.seek(index)
        image.load()
    except _UNREADABLE as error:
        if is_exhaustion(error) or is_memory_short(image.width, image.height):
            raise MemoryError("the decoder ran out of memory") from error
        return False
    return True


def _distinct(indices: Int64Array) -> set[int]:
    return {int(index) for index in np.unique(indices)}
