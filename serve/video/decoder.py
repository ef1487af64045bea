"""A codec context with limits, strict or lenient, that tracks which frames are damaged.

A strict decoder uses all threads and stops at the first error that FFmpeg detects. A lenient decoder conceals errors as
FFmpeg does by default, in one thread, and collects FFmpeg's messages, so that each error is assigned to its packet.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging

from serve.arrays import UInt8Array
from serve.video.border import is_exhaustion, is_exhaustion_message
from serve.video.limits import DecodeSettings
from serve.video.memory import is_memory_short
from serve.video.packet_index import PacketIndex
from serve.video.parameter_sets import ParameterSetFeeder
from serve.video.pictures import PictureConverter
from serve.video.streams import silence_library

# Messages that FFmpeg logs as errors although the pictures are intact.
_HARMLESS = re.compile(
    r"SEI|sei |VUI|Overread|unknown .*type|Invalid timestamps|non monotonically|reserved|deprecated|DTS|"
    r"A non-intra|No start code|Too many bits|timecode|ICC|EXIF",
)


class DamagedError(Exception):
    """A packet cannot be decoded, or a strict decoder found an error in it."""


class Decoder:
    """Decodes packets of one stream, in ascending positions."""

    def __init__(
        self, stream: av.VideoStream, index: PacketIndex, settings: DecodeSettings, *, is_strict: bool
    ) -> None:
        self._converter = PictureConverter(settings)
        self._index = index
        self._feed = ParameterSetFeeder(index)
        self.is_strict = is_strict
        self._damage: list[range] = []  # packets from an error to the next access point
        self.damaged: set[int] = set()  # positions whose frames depend on corrupt data
        self.num_broken = 0  # packets that caused an error and no frame
        self._context = stream.codec_context
        # FFmpeg's frame threads race if the sequence parameters change: frames were seen to differ from run to run.
        has_threads = is_strict and index.is_uniform
        self._context.thread_type = "AUTO"
        self._context.thread_count = settings.thread_count() if has_threads else 1
        options = {"max_pixels": str(settings.max_picture_pixels)}  # also applies if the size changes later
        self._context.options = options | {"err_detect": "explode"} if is_strict else options

    def decode(
        self, packet: av.Packet, position: int, *, begins: bool = False, may_skip: bool = False
    ) -> list[av.VideoFrame]:
        """Decode a packet; return the completed frames, with the position of their packet as `pts`.

        Raises:
            DamagedError: a strict decoder found an error.
            MemoryError: memory ran out, which is no fault of the data.
        """
        self._context.skip_frame = "NONREF" if may_skip else "DEFAULT"
        return self._shown(self._decoded(self._feed.packet(packet, position, begins=begins), position))

    def drain(self) -> list[av.VideoFrame]:
        """Return the remaining frames and make the decoder ready for another run."""
        try:
            return self._shown(self._decoded(None, len(self._index.entries)))
        finally:
            self._context.flush_buffers()

    def picture(self, frame: av.VideoFrame) -> UInt8Array:
        """Convert a frame to upright RGB [H, W, 3]."""
        return self._converter.picture(frame)

    def _shown(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """Leave out frames that an edit list hides, where FFmpeg cannot: the feed's copies of packets lack the flag."""
        hidden = self._feed.hidden
        return [frame for frame in frames if frame.pts not in hidden] if hidden else frames

    def _decoded(self, packet: av.Packet | None, position: int) -> list[av.VideoFrame]:
        if self.is_strict:
            return self._strictly(packet)
        with _messages() as messages:
            try:
                frames = self._decode(packet)
            except DamagedError:
                frames = []
                self.num_broken += 1
                messages.append("not decoded")
        if messages:
            self._refuse_exhaustion(messages)
        if messages and not any(position in stretch for stretch in self._damage):
            self._damage.append(range(position, self._next_access(position)))
        for frame in frames:
            if frame.is_corrupt or any(frame.pts in stretch for stretch in self._damage):
                self.damaged.add(frame.pts or 0)
        return frames

    def _next_access(self, position: int) -> int:
        entries = self._index.entries
        following = range(position + 1, len(entries))
        return next((other for other in following if entries[other].is_access), len(entries))

    def _strictly(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            frames = self._decode(packet)
        except DamagedError:
            self._refuse_exhaustion([])
            raise
        if any(frame.is_corrupt for frame in frames):
            self._refuse_exhaustion([])
            raise DamagedError
        return frames

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet. Decoders report corrupt data by several errors: dav1d says "invalid argument".

        Raises:
            DamagedError: the packet cannot be decoded, for any other reason than memory.
        """
        try:
            frames: list[av.VideoFrame] = self._context.decode(packet)
        except av.error.FFmpegError as error:
            if is_exhaustion(error):
                raise
            raise DamagedError from error
        return frames

    def _refuse_exhaustion(self, messages: list[str]) -> None:
        """Raise `MemoryError` if an error may be due to memory that ran out instead of corrupt data."""
        if is_memory_short(self._context.width, self._context.height) or any(map(is_exhaustion_message, messages)):
            raise MemoryError("the decoder ran out of memory")


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Collect the errors that FFmpeg logs in the block; safe only if no other thread of the process decodes."""
    found: list[str] = []
    library = logging.getLogger("libav")
    previous, library.propagate = library.propagate, False
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as captured:
            yield found
        found.extend(message for _, _, message in captured if not _HARMLESS.search(message))
    finally:
        silence_library()
        library.propagate = previous
