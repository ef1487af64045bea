"""VP8 and VP9: key frames and hidden frames."""

from collections.abc import Iterator

from serve.video.bitstream.inspector import BitReader, PacketInfo, UnsupportedBitstreamError
from serve.video.bitstream.intra import IntraInspector


class Vp8Inspector(IntraInspector):
    """VP8: the frame tag marks key frames and hidden frames; RFC 6386 section 9.1."""

    can_skip_non_reference = True

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one frame."""
        is_key = not data[0] & 1
        if is_key and bytes(data[3:6]) != b"\x9d\x01\x2a":
            raise UnsupportedBitstreamError("a VP8 key frame has no start code")
        return PacketInfo(is_key, bool(data[0] & 0x10))


class Vp9Inspector(IntraInspector):
    """VP9: a packet is one frame, or a superframe in which at most one frame is shown."""

    can_skip_non_reference = True

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one packet."""
        frames = [_parse_vp9_frame(frame) for frame in _split_superframe(data)]
        num_shown = sum(is_shown for _, is_shown in frames)
        if not frames or num_shown > 1:
            raise UnsupportedBitstreamError("a VP9 packet contains no frame or shows several")
        return PacketInfo(frames[0][0], num_shown == 1)


def _split_superframe(data: memoryview) -> Iterator[memoryview]:
    """Yield the frames of a superframe, or the packet itself if it has no superframe index."""
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


def _parse_vp9_frame(data: memoryview) -> tuple[bool, bool]:
    """Return (is a key frame, is shown) of a frame."""
    bits = BitReader(bytes(data[:4]))
    if bits.read(2) != 2:
        raise UnsupportedBitstreamError("a VP9 frame has no frame marker")
    profile = bits.read(1) + 2 * bits.read(1)
    if profile == 3:
        bits.read(1)
    if bits.read(1):
        return False, True  # show_existing_frame: shows a frame that was decoded earlier
    is_key = not bits.read(1)
    return is_key, bool(bits.read(1))
