"""MPEG-1, MPEG-2 and MPEG-4 part 2 video: picture types, headers and the order of pictures.

Field pictures, packets of several pictures (packed streams) and shapes are not understood; such streams are decoded in
order.
"""

from collections.abc import Iterator

from serve.video.bitstream.picture import NO_CONFIG, BitReader, Config, Picture, UnprovableError

_PREFIX = b"\x00\x00\x01"
_GROUP_SIZE = 1 << 32  # more than the pictures between two that others refer to


class ReferenceOrder:
    """Output order of streams where a picture that others refer to waits for the next such picture."""

    def __init__(self) -> None:
        self._num_references = self._num_waiting = 0

    def next(self, *, is_reference: bool) -> int:
        """Place of the next picture in decoding order."""
        if is_reference:
            self._num_references += 1
            self._num_waiting = 0
            return self._num_references * _GROUP_SIZE - 1
        self._num_waiting += 1
        return (self._num_references - 1) * _GROUP_SIZE + self._num_waiting


class MpegInspector:
    """MPEG-1 and MPEG-2: an access point is an intra picture behind a sequence header."""

    may_skip = True
    injects_config = True
    extradata_header = 0

    def __init__(self) -> None:
        self._order = ReferenceOrder()
        self._formats: dict[int, bytes] = {}  # sequence header and its extension, as far as they give the format

    def reset(self, extradata: bytes) -> Config:
        """Every access point carries its sequence header."""
        return NO_CONFIG

    def inspect(self, data: memoryview) -> Picture:
        """Describe one picture."""
        content = bytes(data)
        picture: int | None = None
        has_sequence = False
        for at in _start_codes(content):
            code = content[at + 3]
            if code == 0xB3:
                has_sequence = True
                self._check_format(code, content[at + 4 : at + 8])
            elif code == 0xB5 and content[at + 4 : at + 5] and content[at + 4] >> 4 == 1:
                self._check_format(code, content[at + 4 : at + 7])
            elif code == 0x00:
                if picture is not None:
                    raise UnprovableError("an MPEG packet with two pictures")
                picture = at
            elif code == 0xB5 and content[at + 4 : at + 5] and content[at + 4] >> 4 == 8:
                if len(content) > at + 6 and content[at + 6] & 3 != 3:
                    raise UnprovableError("MPEG-2 field pictures")
            elif 0x01 <= code <= 0xAF:
                break
        if picture is None or len(content) < picture + 6:
            raise UnprovableError("an MPEG packet without a picture")
        kind = content[picture + 5] >> 3 & 7
        if kind not in (1, 2, 3):
            raise UnprovableError("an unknown type of MPEG picture")
        is_reference = kind != 3
        order = self._order.next(is_reference=is_reference)
        return Picture(kind == 1 and has_sequence, order=order, is_reference=is_reference)

    def join(self, config: Config) -> bytes:
        """Headers as they are."""
        return b"".join(config.values())

    def _check_format(self, code: int, fields: bytes) -> None:
        """Refuse a change of size, shape or rate: FFmpeg's decoder then loses the picture that waits to be shown."""
        if self._formats.setdefault(code, fields) != fields:
            raise UnprovableError("MPEG video whose format changes")


class Mpeg4Inspector:
    """MPEG-4 part 2: an access point is an intra video object plane."""

    may_skip = True
    injects_config = True
    extradata_header = 0

    def __init__(self) -> None:
        self._order = ReferenceOrder()
        self._time_bits = 0
        self._layer = b""

    def reset(self, extradata: bytes) -> Config:
        """The headers in front of the first picture."""
        return self._headers(extradata)

    def inspect(self, data: memoryview) -> Picture:
        """Describe one packet."""
        content = bytes(data)
        planes = [at for at in _start_codes(content) if content[at + 3] == 0xB6]
        if len(planes) != 1:
            raise UnprovableError("MPEG-4 packets with several pictures or none")
        config = self._headers(content[: planes[0]])
        if not self._time_bits:
            raise UnprovableError("an MPEG-4 picture without its headers")
        bits = BitReader(content[planes[0] + 4 : planes[0] + 40])
        kind = bits.take(2)
        while bits.take(1):  # modulo_time_base
            pass
        bits.take(1 + self._time_bits + 1)
        if not bits.take(1):
            raise UnprovableError("an MPEG-4 picture that is not coded")
        is_reference = kind != 2
        order = self._order.next(is_reference=is_reference)
        return Picture(kind == 0, order=order, config=config, is_reference=is_reference)

    def join(self, config: Config) -> bytes:
        """Headers as they are."""
        return b"".join(config.values())

    def _headers(self, content: bytes) -> Config:
        """Everything from the first header to the first picture, where a layer is described in it."""
        codes = list(_start_codes(content))
        layers = [at for at in codes if 0x20 <= content[at + 3] <= 0x2F]
        if not layers:
            return NO_CONFIG
        for at in layers:
            layer = content[at + 4 : next((other for other in codes if other > at), len(content))]
            self._time_bits = _layer_time_bits(layer[:64])
            if self._layer and layer != self._layer:  # the decoder loses the picture that waits to be shown
                raise UnprovableError("MPEG-4 video whose format changes")
            self._layer = layer
        stop = next((at for at in codes if content[at + 3] in (0xB3, 0xB6)), len(content))
        return {"headers": content[codes[0] : stop]}


def _layer_time_bits(layer: bytes) -> int:
    """Bits of a picture's time in a video object layer; ISO/IEC 14496-2 section 6.2.3.

    Raises:
        UnprovableError: a shape, or interlacing, whose direct mode depends on pictures far before.
    """
    bits = BitReader(layer)
    bits.take(1 + 8)
    version = 1
    if bits.take(1):
        version = bits.take(4)
        bits.take(3)
    if bits.take(4) == 15:
        bits.take(16)
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            bits.take(79)
    shape = bits.take(2)
    bits.take(1)
    resolution = bits.take(16)
    bits.take(1)
    time_bits = max(1, (resolution - 1).bit_length())
    if bits.take(1):
        bits.take(time_bits)
    if shape != 0 or resolution == 0:
        raise UnprovableError("MPEG-4 with a shape")
    bits.take(1 + 13 + 1 + 13 + 1)
    if bits.take(1):
        raise UnprovableError("interlaced MPEG-4")
    bits.take(1)
    if bits.take(1 if version == 1 else 2):
        raise UnprovableError("MPEG-4 with a sprite")
    return time_bits


class H263Inspector:
    """H.263: an access point is an intra picture."""

    may_skip = True
    injects_config = False
    extradata_header = 0

    def reset(self, extradata: bytes) -> Config:
        """H.263 has no parameter sets."""
        return NO_CONFIG

    def inspect(self, data: memoryview) -> Picture:
        """Describe one picture; H.263 section 5.1."""
        bits = BitReader(bytes(data[:16]))
        if bits.take(22) != 0x20:
            raise UnprovableError("an H.263 packet that does not begin with a picture")
        bits.take(8)
        if bits.take(2) != 2:
            raise UnprovableError("an H.263 picture header is broken")
        bits.take(3)
        if bits.take(3) != 7:
            is_inter = bits.take(1)
            bits.take(3)
            if bits.take(1):
                raise UnprovableError("H.263 with PB frames")
            return Picture(not is_inter)
        is_full = bits.take(3) == 1
        if is_full:
            bits.take(18)
        kind = bits.take(3)
        if kind not in (0, 1):
            raise UnprovableError("H.263 with layers or B pictures")
        return Picture(kind == 0 and is_full)

    def join(self, config: Config) -> bytes:
        """Nothing."""
        return b""


class SorensonInspector(H263Inspector):
    """Sorenson's H.263 of Flash video."""

    def inspect(self, data: memoryview) -> Picture:
        """Describe one picture."""
        bits = BitReader(bytes(data[:16]))
        if bits.take(17) != 1:
            raise UnprovableError("a Flash video packet that does not begin with a picture")
        bits.take(5 + 8)
        size = bits.take(3)
        bits.take({0: 16, 1: 32}.get(size, 0))
        return Picture(bits.take(2) == 0)


def _start_codes(content: bytes) -> Iterator[int]:
    """Positions of the start codes whose code byte is there."""
    at = content.find(_PREFIX)
    while 0 <= at < len(content) - 3:
        yield at
        at = content.find(_PREFIX, at + 3)
