"""A codec context with limits that tracks which frames are damaged; it is strict or lenient.

A strict decoder uses all threads and stops at the first error that FFmpeg detects. A lenient decoder conceals errors,
as FFmpeg does by default. It uses one thread and collects FFmpeg's messages to assign each error to its packet.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging

from serve.arrays import UInt8Array
from serve.video.library_errors import is_exhaustion, is_exhaustion_message
from serve.video.limits import DecodeSettings
from serve.video.memory import is_memory_short
from serve.video.packet_index import PacketIndex
from serve.video.parameter_sets import ParameterSetFeeder
from serve.video.pictures import FrameConverter
from serve.video.streams import silence_ffmpeg_log

# Messages that FFmpeg logs as errors although the frames are intact.
_HARMLESS = re.compile(
    r"SEI|sei |VUI|Overread|unknown .*type|Invalid timestamps|non monotonically|reserved|deprecated|DTS|"
    r"A non-intra|No start code|Too many bits|timecode|ICC|EXIF",
)


class DamagedError(Exception):
    """A packet cannot be decoded, or a strict decoder has found an error in it."""


class Decoder:
    """Decodes packets of one stream; their positions must ascend."""

    def __init__(
        self, stream: av.VideoStream, index: PacketIndex, settings: DecodeSettings, *, is_strict: bool
    ) -> None:
        self._converter = FrameConverter(settings)
        self._index = index
        self._feeder = ParameterSetFeeder(index)
        self.is_strict = is_strict
        self._damaged_ranges: list[range] = []  # each from a packet with an error to the next access point
        self.damaged: set[int] = set()  # positions of the packets whose frames depend on corrupt data
        self.num_broken = 0  # packets that the decoder rejected
        self._context = stream.codec_context
        # FFmpeg's frame threads have a race if the sequence parameters change: runs have returned different frames.
        has_threads = is_strict and index.is_uniform
        self._context.thread_type = "AUTO"
        self._context.thread_count = settings.thread_count() if has_threads else 1
        options = {"max_pixels": str(settings.max_picture_pixels)}  # also applies if the size changes later
        self._context.options = options | {"err_detect": "explode"} if is_strict else options

    def decode(
        self, packet: av.Packet, position: int, *, is_first: bool = False, may_skip: bool = False
    ) -> list[av.VideoFrame]:
        """Decode a packet; return the completed frames, each with the position of its packet as `pts`.

        `is_first` marks the first packet of a run.

        Raises:
            DamagedError: a strict decoder found an error.
            MemoryError: memory ran out, so the error is not caused by the data.
        """
        self._context.skip_frame = "NONREF" if may_skip else "DEFAULT"
        packet = self._feeder.prepare(packet, position, is_first=is_first)
        return self._drop_hidden(self._decode_or_conceal(packet, position))

    def drain(self) -> list[av.VideoFrame]:
        """Return the remaining frames and reset the decoder for another run.

        Raises:
            DamagedError, MemoryError: see `decode`.
        """
        try:
            return self._drop_hidden(self._decode_or_conceal(None, len(self._index.entries)))
        finally:
            self._context.flush_buffers()

    def to_rgb(self, frame: av.VideoFrame) -> UInt8Array:
        """Convert a frame to upright RGB [H, W, 3].

        Raises:
            PictureTooLarge: the frame exceeds a limit.
        """
        return self._converter.to_rgb(frame)

    def _drop_hidden(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """Drop the frames that an edit list hides but FFmpeg outputs: the feeder's copies of packets lack the flag."""
        hidden = self._feeder.hidden
        return [frame for frame in frames if frame.pts not in hidden] if hidden else frames

    def _decode_or_conceal(self, packet: av.Packet | None, position: int) -> list[av.VideoFrame]:
        """Decode a packet, or drain the decoder if it is None; a lenient decoder records the damaged frames."""
        if self.is_strict:
            return self._decode_strictly(packet)
        with _capture_errors() as messages:
            try:
                frames = self._decode(packet)
            except DamagedError:
                frames = []
                self.num_broken += 1
                messages.append("the packet was rejected")
        if messages:
            self._check_memory(messages)
        if messages and not any(position in damaged for damaged in self._damaged_ranges):
            self._damaged_ranges.append(range(position, self._next_access_point(position)))
        for frame in frames:
            if frame.is_corrupt or any(frame.pts in damaged for damaged in self._damaged_ranges):
                self.damaged.add(frame.pts or 0)
        return frames

    def _next_access_point(self, position: int) -> int:
        """Return the position of the first access point after `position`, or the number of packets."""
        entries = self._index.entries
        following = range(position + 1, len(entries))
        return next((other for other in following if entries[other].is_access_point), len(entries))

    def _decode_strictly(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            frames = self._decode(packet)
        except DamagedError:
            self._check_memory([])
            raise
        if any(frame.is_corrupt for frame in frames):
            self._check_memory([])
            raise DamagedError
        return frames

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet, or drain the decoder if it is None.

        Every FFmpeg error counts as damage, because decoders report corrupt data with different error codes: dav1d
        uses "invalid argument".

        Raises:
            DamagedError: the packet cannot be decoded for a reason other than memory.
        """
        try:
            frames: list[av.VideoFrame] = self._context.decode(packet)
        except av.error.FFmpegError as error:
            if is_exhaustion(error):
                raise
            raise DamagedError from error
        return frames

    def _check_memory(self, messages: list[str]) -> None:
        """Raise `MemoryError` if an error may be caused by a lack of memory instead of corrupt data."""
        if is_memory_short(self._context.width, self._context.height) or any(map(is_exhaustion_message, messages)):
            raise MemoryError("the decoder ran out of memory")


@contextmanager
def _capture_errors() -> Iterator[list[str]]:
    """Collect the errors that FFmpeg logs in the block; no other thread of the process may decode meanwhile."""
    messages: list[str] = []
    logger = logging.getLogger("libav")
    previous, logger.propagate = logger.propagate, False
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as captured:
            yield messages
        messages.extend(message for _, _, message in captured if not _HARMLESS.search(message))
    finally:
        silence_ffmpeg_log()
        logger.propagate = previous
