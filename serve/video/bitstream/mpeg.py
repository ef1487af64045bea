"""MPEG-1, MPEG-2, MPEG-4 part 2 and H.263 video: picture types, headers and output order.

Field pictures, packets with several pictures (packed streams) and MPEG-4 shapes are not supported; such streams are
decoded in order.
"""

from collections.abc import Iterator

from serve.video.bitstream.inspector import (
    NO_PARAMETER_SETS,
    BitReader,
    PacketInfo,
    ParameterSets,
    UnsupportedBitstreamError,
)

_PREFIX = b"\x00\x00\x01"
_GROUP_SIZE = 1 << 32  # more than the number of B pictures between two reference pictures


class OutputOrder:
    """Computes the output order: a reference picture is output only when the next reference picture arrives."""

    def __init__(self) -> None:
        self._num_references = self._num_b_pictures = 0

    def next(self, *, is_reference: bool) -> int:
        """Return the output position of the next picture in decoding order; positions have gaps."""
        if is_reference:
            self._num_references += 1
            self._num_b_pictures = 0
            return self._num_references * _GROUP_SIZE - 1
        self._num_b_pictures += 1
        return (self._num_references - 1) * _GROUP_SIZE + self._num_b_pictures


class MpegInspector:
    """MPEG-1 and MPEG-2: an access point is an intra picture after a sequence header."""

    can_skip_non_reference = True
    needs_inline_config = True
    extradata_header_bytes = 0

    def __init__(self) -> None:
        self._order = OutputOrder()
        self._formats: dict[int, bytes] = {}  # start code -> format fields of the sequence header and its extension

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return nothing: every access point carries its own sequence header."""
        return NO_PARAMETER_SETS

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one picture."""
        content = bytes(data)
        picture: int | None = None
        has_sequence = False
        for at in _find_start_codes(content):
            code = content[at + 3]
            if code == 0xB3:
                has_sequence = True
                self._check_format(code, content[at + 4 : at + 8])
            elif code == 0xB5 and content[at + 4 : at + 5] and content[at + 4] >> 4 == 1:
                self._check_format(code, content[at + 4 : at + 7])
            elif code == 0x00:
                if picture is not None:
                    raise UnsupportedBitstreamError("an MPEG packet contains two pictures")
                picture = at
            elif code == 0xB5 and content[at + 4 : at + 5] and content[at + 4] >> 4 == 8:
                if len(content) > at + 6 and content[at + 6] & 3 != 3:
                    raise UnsupportedBitstreamError("MPEG-2 field pictures are not supported")
            elif 0x01 <= code <= 0xAF:
                break
        if picture is None or len(content) < picture + 6:
            raise UnsupportedBitstreamError("an MPEG packet contains no picture")
        kind = content[picture + 5] >> 3 & 7
        if kind not in (1, 2, 3):
            raise UnsupportedBitstreamError("the type of an MPEG picture is unknown")
        is_reference = kind != 3
        order = self._order.next(is_reference=is_reference)
        return PacketInfo(kind == 1 and has_sequence, order=order, is_reference=is_reference)

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Concatenate the headers unchanged."""
        return b"".join(config.values())

    def _check_format(self, code: int, fields: bytes) -> None:
        """Raise if the size, aspect ratio or rate changes: FFmpeg then drops the reference picture not yet output."""
        if self._formats.setdefault(code, fields) != fields:
            raise UnsupportedBitstreamError("the format of an MPEG video changes")


class Mpeg4Inspector:
    """MPEG-4 part 2: an access point is an intra picture (video object plane, VOP)."""

    can_skip_non_reference = True
    needs_inline_config = True
    extradata_header_bytes = 0

    def __init__(self) -> None:
        self._order = OutputOrder()
        self._time_bits = 0
        self._layer = b""

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return the headers that precede the first picture."""
        return self._read_headers(extradata)

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one packet."""
        content = bytes(data)
        planes = [at for at in _find_start_codes(content) if content[at + 3] == 0xB6]
        if len(planes) != 1:
            raise UnsupportedBitstreamError(f"an MPEG-4 packet contains {len(planes)} pictures instead of one")
        config = self._read_headers(content[: planes[0]])
        if not self._time_bits:
            raise UnsupportedBitstreamError("the headers of an MPEG-4 picture are missing")
        bits = BitReader(content[planes[0] + 4 : planes[0] + 40])
        kind = bits.read(2)
        while bits.read(1):  # modulo_time_base
            pass
        bits.read(1 + self._time_bits + 1)
        if not bits.read(1):
            raise UnsupportedBitstreamError("an MPEG-4 picture is not coded (vop_coded is 0)")
        is_reference = kind != 2
        order = self._order.next(is_reference=is_reference)
        return PacketInfo(kind == 0, order=order, config=config, is_reference=is_reference)

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Concatenate the headers unchanged."""
        return b"".join(config.values())

    def _read_headers(self, content: bytes) -> ParameterSets:
        """Return the bytes from the first header to the first picture; nothing if they describe no video layer."""
        codes = list(_find_start_codes(content))
        layers = [at for at in codes if 0x20 <= content[at + 3] <= 0x2F]
        if not layers:
            return NO_PARAMETER_SETS
        for at in layers:
            layer = content[at + 4 : next((other for other in codes if other > at), len(content))]
            self._time_bits = _parse_time_bits(layer[:64])
            if self._layer and layer != self._layer:  # FFmpeg then drops the reference picture not yet output
                raise UnsupportedBitstreamError("the format of an MPEG-4 video changes")
            self._layer = layer
        stop = next((at for at in codes if content[at + 3] in (0xB3, 0xB6)), len(content))
        return {"headers": content[codes[0] : stop]}


def _parse_time_bits(layer: bytes) -> int:
    """Return the length in bits of a picture's time field from a video object layer; ISO/IEC 14496-2 section 6.2.3.

    Raises:
        UnsupportedBitstreamError: the layer has a shape or a sprite, or it is interlaced, because B pictures in
            direct mode may then depend on pictures before the access point.
    """
    bits = BitReader(layer)
    bits.read(1 + 8)
    version = 1
    if bits.read(1):
        version = bits.read(4)
        bits.read(3)
    if bits.read(4) == 15:
        bits.read(16)
    if bits.read(1):
        bits.read(3)
        if bits.read(1):
            bits.read(79)
    shape = bits.read(2)
    bits.read(1)
    resolution = bits.read(16)
    bits.read(1)
    time_bits = max(1, (resolution - 1).bit_length())
    if bits.read(1):
        bits.read(time_bits)
    if shape != 0 or resolution == 0:
        raise UnsupportedBitstreamError("MPEG-4 shapes are not supported")
    bits.read(1 + 13 + 1 + 13 + 1)
    if bits.read(1):
        raise UnsupportedBitstreamError("interlaced MPEG-4 is not supported")
    bits.read(1)
    if bits.read(1 if version == 1 else 2):
        raise UnsupportedBitstreamError("MPEG-4 sprites are not supported")
    return time_bits


class H263Inspector:
    """H.263: an access point is an intra picture."""

    can_skip_non_reference = True
    needs_inline_config = False
    extradata_header_bytes = 0

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return nothing: H.263 has no parameter sets."""
        return NO_PARAMETER_SETS

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one picture; H.263 section 5.1."""
        bits = BitReader(bytes(data[:16]))
        if bits.read(22) != 0x20:
            raise UnsupportedBitstreamError("an H.263 packet does not start with a picture")
        bits.read(8)
        if bits.read(2) != 2:
            raise UnsupportedBitstreamError("an H.263 picture header is invalid")
        bits.read(3)
        if bits.read(3) != 7:
            is_inter = bits.read(1)
            bits.read(3)
            if bits.read(1):
                raise UnsupportedBitstreamError("H.263 PB frames are not supported")
            return PacketInfo(not is_inter)
        is_full = bits.read(3) == 1
        if is_full:
            bits.read(18)
        kind = bits.read(3)
        if kind not in (0, 1):
            raise UnsupportedBitstreamError("H.263 layers and B pictures are not supported")
        return PacketInfo(kind == 0 and is_full)

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Return nothing: H.263 has no parameter sets."""
        return b""


class SorensonInspector(H263Inspector):
    """Sorenson Spark, the H.263 variant of Flash video."""

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one picture."""
        bits = BitReader(bytes(data[:16]))
        if bits.read(17) != 1:
            raise UnsupportedBitstreamError("a Flash video packet does not start with a picture")
        bits.read(5 + 8)
        size = bits.read(3)
        bits.read({0: 16, 1: 32}.get(size, 0))
        return PacketInfo(bits.read(2) == 0)


def _find_start_codes(content: bytes) -> Iterator[int]:
    """Yield the positions of all start codes; one at the very end, without its code byte, is left out."""
    at = content.find(_PREFIX)
    while 0 <= at < len(content) - 3:
        yield at
        at = content.find(_PREFIX, at + 3)
