"""Split H.264 and HEVC packets into NAL units, which follow start codes (Annex B) or length fields (MP4)."""

from collections.abc import Iterator

from serve.video.bitstream.inspector import BitReader, UnsupportedBitstreamError

START_CODE = b"\x00\x00\x01"
_HEADER_BYTES = 64  # more than the fields parsed from a slice header can occupy
_SCAN_BYTES = 2048  # block size of the search for start codes


def split_units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield the NAL units of a packet; `length_size` is the size of the length fields, 0 for start codes.

    After a start code, the yielded unit extends to the end of the packet; `trim_unit` truncates it to its real length.

    Raises:
        UnsupportedBitstreamError: a unit is longer than the packet.
    """
    if length_size == 0:
        begin = _find_start_code(data, 0)
        while begin + 3 < len(data):
            yield data[begin + 3 :]
            begin = _find_start_code(data, begin + 3)
        return
    at, end = 0, len(data)
    while at + length_size < end:
        begin = at + length_size
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > end:
            raise UnsupportedBitstreamError("a NAL unit is longer than its packet")
        if at > begin:
            yield data[begin:at]


def trim_unit(unit: memoryview) -> bytes:
    """Return a unit truncated at the next start code, without trailing zeros."""
    return bytes(unit[: _find_start_code(unit, 0)]).rstrip(b"\x00")


def header_reader(unit: bytes | memoryview, *, skip: int) -> BitReader:
    """Return a reader of a unit's first bits, after `skip` bytes, with emulation prevention bytes removed."""
    return BitReader(bytes(unit[skip : skip + _HEADER_BYTES]).replace(b"\x00\x00\x03", b"\x00\x00"))


def unit_reader(unit: bytes, *, skip: int) -> BitReader:
    """Return a reader of all bits of a unit, after `skip` bytes, with emulation prevention bytes removed."""
    return BitReader(unit[skip:].replace(b"\x00\x00\x03", b"\x00\x00"))


def join_units(parts: list[bytes], length_size: int) -> bytes:
    """Concatenate NAL units with start codes (`length_size` 0) or length fields, as in the packets."""
    if length_size == 0:
        return b"".join(b"\x00" + START_CODE + unit for unit in parts)
    return b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in parts)


class PictureOrderCount:
    """Computes picture order counts (POC) from their low bits; H.264 section 8.2.1.1 and HEVC section 8.3.1."""

    def __init__(self) -> None:
        self._previous_msb = self._previous_lsb = 0

    def next(self, lsb: int, *, bits: int, restarts: bool, is_reference: bool) -> int:
        """Return the POC of the next picture in decoding order; `restarts` marks the start of a sequence."""
        size = 1 << bits
        msb = 0 if restarts else self._previous_msb
        previous_lsb = 0 if restarts else self._previous_lsb
        if lsb < previous_lsb and previous_lsb - lsb >= size // 2:
            msb += size
        elif lsb > previous_lsb and lsb - previous_lsb > size // 2:
            msb -= size
        if is_reference:
            self._previous_msb, self._previous_lsb = msb, lsb
        return msb + lsb


def _find_start_code(data: memoryview, at: int) -> int:
    """Return the position of the next start code, or the length of the data if there is none."""
    while at < len(data):
        offset = bytes(data[at : at + _SCAN_BYTES]).find(START_CODE)
        if offset >= 0:
            return at + offset
        at += _SCAN_BYTES - 2
    return len(data)
