"""HEVC: random access pictures, parameter sets, hidden pictures and the order of pictures."""

from collections.abc import Hashable
from dataclasses import dataclass

from serve.video.bitstream.nal import OrderCount, full_reader, join_units, reader, units, whole
from serve.video.bitstream.picture import NO_CONFIG, BitReader, Config, Picture, UnprovableError

_VPS, _SPS, _PPS, _END_OF_SEQUENCE, _END_OF_BITSTREAM = 32, 33, 34, 36, 37
_RASL, _RADL, _BLA, _IDR, _CRA, _RESERVED_IRAP = (8, 9), (6, 7), (16, 17, 18), (19, 20), 21, (22, 23)
_NAMES = {_VPS: "vps", _SPS: "sps", _PPS: "pps"}
_ORDER = ("vps", "sps", "pps")


@dataclass(frozen=True, slots=True)
class _PictureParameters:
    sequence: int
    has_output_flag: bool
    num_extra_bits: int


class HevcInspector:
    """Reads the NAL units in front of each picture's first slice, and of that slice a few fields."""

    injects_config = False
    extradata_header = 0

    def __init__(self) -> None:
        self.may_skip = True  # until temporal layers: the decoder skips pictures that higher layers refer to
        self._length_size = 0
        self._sequences: dict[int, tuple[bool, int]] = {}  # colour planes apart, bits of the order count
        self._pictures: dict[int, _PictureParameters] = {}
        self._count = OrderCount()
        self._is_first = True
        self._hides_leading = False  # the last random access picture began a sequence

    def reset(self, extradata: bytes) -> Config:
        """Parameter sets of an `hvcC` box or of start codes."""
        config: dict[Hashable, bytes] = {}
        if len(extradata) < 23 or extradata[:3] in (b"\x00\x00\x00", b"\x00\x00\x01"):
            self._length_size = 0
            for unit in units(memoryview(extradata), 0):
                self._keep(unit, config)
            return config
        self._length_size = (extradata[21] & 3) + 1
        at = 23
        for _ in range(extradata[22]):
            count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
            for _ in range(count):
                stop = at + 2 + int.from_bytes(extradata[at : at + 2], "big")
                self._keep(memoryview(extradata)[at + 2 : stop], config)
                at = stop
        return config

    def inspect(self, data: memoryview) -> Picture:
        """Describe one access unit."""
        config: dict[Hashable, bytes] = {}
        for unit in units(data, self._length_size):
            if len(unit) < 3:
                if len(unit) == 2 and unit[0] >> 1 in (_END_OF_SEQUENCE, _END_OF_BITSTREAM):
                    self._is_first = True
                continue
            kind, layer = unit[0] >> 1, (unit[0] & 1) << 5 | unit[1] >> 3
            if layer:
                continue  # another view or a scalable layer; it is not decoded
            if kind < _VPS:
                return self._picture(unit, kind, config or NO_CONFIG)
            if kind in _NAMES:
                self._keep(unit, config)
            elif kind in (_END_OF_SEQUENCE, _END_OF_BITSTREAM):
                self._is_first = True
        return Picture(is_access=False, is_shown=False, config=config or NO_CONFIG)

    def join(self, config: Config) -> bytes:
        """Video, sequence and picture parameter sets."""
        keys = sorted(config, key=lambda key: (_ORDER.index(key[0]), key[1]))  # type: ignore[index]
        return join_units([config[key] for key in keys], self._length_size)

    def _keep(self, unit: memoryview, config: dict[Hashable, bytes]) -> None:
        content = whole(unit)
        kind = content[0] >> 1
        if kind not in _NAMES or len(content) < 4:
            return
        bits = full_reader(content, skip=2)
        if kind == _VPS:
            identifier = bits.take(4)
        elif kind == _SPS:
            identifier, self._sequences[identifier] = _sequence(bits)
        else:
            identifier = bits.exp_golomb()
            sequence = bits.exp_golomb()
            bits.take(1)
            self._pictures[identifier] = _PictureParameters(sequence, bool(bits.take(1)), bits.take(3))
        config[_NAMES[kind], identifier] = content

    def _picture(self, unit: memoryview, kind: int, config: Config) -> Picture:
        if kind in _RESERVED_IRAP:
            raise UnprovableError("a reserved kind of HEVC picture")
        if unit[1] & 7 > 1:
            self.may_skip = False
        bits = reader(unit, skip=2)
        if not bits.take(1):
            raise UnprovableError("an HEVC picture without its first slice")
        is_random_access = kind in _BLA or kind in _IDR or kind == _CRA
        begins = kind in _BLA or kind in _IDR or (kind == _CRA and self._is_first)
        if is_random_access:
            if bits.take(1) and not self._is_first:
                raise UnprovableError("an HEVC picture that discards those before it")
            self._hides_leading = begins
        elif self._is_first:
            raise UnprovableError("HEVC that begins without a random access picture")
        self._is_first = False
        parameters = self._pictures.get(bits.exp_golomb())
        sequence = self._sequences.get(parameters.sequence) if parameters else None
        if parameters is None or sequence is None:
            raise UnprovableError("an HEVC slice without its parameter sets")
        bits.take(parameters.num_extra_bits)
        bits.exp_golomb()  # slice_type
        is_hidden = (parameters.has_output_flag and not bits.take(1)) or (kind in _RASL and self._hides_leading)
        order = self._order(bits, unit, kind, sequence, begins=begins)
        is_leading = kind in _RASL or kind in _RADL
        return Picture(is_random_access, not is_hidden, begins, order, config, not is_leading)

    def _order(self, bits: BitReader, unit: memoryview, kind: int, sequence: tuple[bool, int], *, begins: bool) -> int:
        has_colour_planes, order_bits = sequence
        bits.take(2 * has_colour_planes)
        low = 0 if kind in _IDR else bits.take(order_bits)
        is_sub_layer_non_reference = kind < 16 and kind % 2 == 0
        is_reference = unit[1] & 7 == 1 and kind not in _RASL and kind not in _RADL and not is_sub_layer_non_reference
        return self._count.next(low, bits=order_bits, restarts=begins, is_reference=is_reference)


def _sequence(bits: BitReader) -> tuple[int, tuple[bool, int]]:
    """Identifier of a sequence parameter set and what it says about slices; HEVC section 7.3.2.2."""
    bits.take(4)
    num_sub_layers = bits.take(3)
    bits.take(1)
    bits.take(96)  # profile, level
    if num_sub_layers:
        present = [(bits.take(1), bits.take(1)) for _ in range(num_sub_layers)]
        bits.take(2 * (8 - num_sub_layers))
        for has_profile, has_level in present:
            bits.take(88 * has_profile + 8 * has_level)
    identifier = bits.exp_golomb()
    has_colour_planes = bits.exp_golomb() == 3 and bool(bits.take(1))
    bits.exp_golomb()  # width, height
    bits.exp_golomb()
    if bits.take(1):
        for _ in range(4):
            bits.exp_golomb()
    bits.exp_golomb()  # bit depths
    bits.exp_golomb()
    return identifier, (has_colour_planes, bits.exp_golomb() + 4)
