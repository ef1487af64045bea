"""VP8 and VP9: key frames and hidden frames."""

from collections.abc import Iterator

from serve.video.bitstream.intra import IntraInspector
from serve.video.bitstream.picture import BitReader, Picture, UnprovableError


class Vp8Inspector(IntraInspector):
    """VP8: RFC 6386 section 9.1."""

    may_skip = True

    def inspect(self, data: memoryview) -> Picture:
        """Describe one frame."""
        is_key = not data[0] & 1
        if is_key and bytes(data[3:6]) != b"\x9d\x01\x2a":
            raise UnprovableError("a VP8 key frame without its start code")
        return Picture(is_key, bool(data[0] & 0x10))


class Vp9Inspector(IntraInspector):
    """VP9: a packet is one frame or a superframe of which at most one is shown."""

    may_skip = True

    def inspect(self, data: memoryview) -> Picture:
        """Describe one packet."""
        frames = [_vp9_frame(frame) for frame in _vp9_frames(data)]
        num_shown = sum(is_shown for _, is_shown in frames)
        if not frames or num_shown > 1:
            raise UnprovableError("a VP9 packet that shows several frames")
        return Picture(frames[0][0], num_shown == 1)


def _vp9_frames(data: memoryview) -> Iterator[memoryview]:
    marker = data[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index_size = 2 + count * width
    if marker & 0xE0 != 0xC0 or len(data) < index_size or data[-index_size] != marker:
        yield data
        return
    index, at = data[-index_size + 1 : -1], 0
    for number in range(count):
        size = int.from_bytes(index[number * width : (number + 1) * width], "little")
        if size:
            yield data[at : at + size]
        at += size


def _vp9_frame(data: memoryview) -> tuple[bool, bool]:
    """Whether a frame is a key frame, and whether it is shown."""
    bits = BitReader(bytes(data[:4]))
    if bits.take(2) != 2:
        raise UnprovableError("a VP9 frame without its marker")
    profile = bits.take(1) + 2 * bits.take(1)
    if profile == 3:
        bits.take(1)
    if bits.take(1):
        return False, True  # shows a frame that was decoded before
    is_key = not bits.take(1)
    return is_key, bool(bits.take(1))
