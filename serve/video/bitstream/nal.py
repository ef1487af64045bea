"""NAL units, as H.264 and HEVC store them: behind start codes or behind their lengths."""

from collections.abc import Iterator

from serve.video.bitstream.picture import BitReader, UnprovableError

START_CODE = b"\x00\x00\x01"
_HEADER_BYTES = 64  # more than all fields that are read of a slice header can take
_SCANNED_BYTES = 2048  # read at a time while looking for start codes


def units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """NAL units of a packet; `length_size` 0 means start codes.

    A unit behind a start code reaches to the end of the data: `whole` cuts it, where its end matters.
    """
    if length_size == 0:
        begin = _find(data, 0)
        while begin + 3 < len(data):
            yield data[begin + 3 :]
            begin = _find(data, begin + 3)
        return
    at, end = 0, len(data)
    while at + length_size < end:
        begin = at + length_size
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > end:
            raise UnprovableError("a NAL unit is longer than its packet")
        if at > begin:
            yield data[begin:at]


def whole(unit: memoryview) -> bytes:
    """The unit up to the next start code, which no unit contains, without zeros that follow it."""
    return bytes(unit[: _find(unit, 0)]).rstrip(b"\x00")


def reader(unit: bytes | memoryview, *, skip: int) -> BitReader:
    """Bits at the front of a unit, after `skip` bytes of its header, without emulation prevention."""
    return BitReader(bytes(unit[skip : skip + _HEADER_BYTES]).replace(b"\x00\x00\x03", b"\x00\x00"))


def full_reader(unit: bytes, *, skip: int) -> BitReader:
    """Bits of a whole unit, after `skip` bytes of its header, without emulation prevention."""
    return BitReader(unit[skip:].replace(b"\x00\x00\x03", b"\x00\x00"))


def join_units(found: list[bytes], length_size: int) -> bytes:
    """Units in the form of the packets."""
    if length_size == 0:
        return b"".join(b"\x00" + START_CODE + unit for unit in found)
    return b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in found)


class OrderCount:
    """Picture order counts from their low bits; H.264 section 8.2.1.1 and HEVC section 8.3.1."""

    def __init__(self) -> None:
        self._high = self._low = 0

    def next(self, low: int, *, bits: int, restarts: bool, is_reference: bool) -> int:
        """Count of the next picture in decoding order."""
        size = 1 << bits
        high = 0 if restarts else self._high
        previous = 0 if restarts else self._low
        if low < previous and previous - low >= size // 2:
            high += size
        elif low > previous and low - previous > size // 2:
            high -= size
        if is_reference:
            self._high, self._low = high, low
        return high + low


def _find(data: memoryview, at: int) -> int:
    """Position of the next start code, or the end of the data."""
    while at < len(data):
        found = bytes(data[at : at + _SCANNED_BYTES]).find(START_CODE)
        if found >= 0:
            return at + found
        at += _SCANNED_BYTES - 2
    return len(data)
