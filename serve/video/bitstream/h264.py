"""H.264: IDR pictures, exact recovery points, parameter sets and the order of pictures.

Field pictures, data partitioning and picture order count type 1 are not understood; such streams are decoded in order.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from serve.video.bitstream.nal import OrderCount, full_reader, join_units, reader, units, whole
from serve.video.bitstream.picture import NO_CONFIG, BitReader, Config, Picture, UnprovableError

_SLICE, _PARTITION_A, _PARTITION_C, _IDR, _SEI, _SPS, _PPS = 1, 2, 4, 5, 6, 7, 8
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_RECOVERY_POINT = 6  # payload type of the SEI message


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a sequence parameter set says about slice headers."""

    has_colour_planes: bool
    frame_num_bits: int
    order_type: int
    order_bits: int
    may_have_fields: bool


class H264Inspector:
    """Reads the NAL units in front of each picture's first slice, and of that slice a few fields."""

    may_skip = True
    injects_config = False
    extradata_header = 0

    def __init__(self) -> None:
        self._length_size = 0
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}  # picture parameter set -> sequence parameter set
        self._period_order = OrderCount()

    def reset(self, extradata: bytes) -> Config:
        """Parameter sets of an `avcC` box or of start codes."""
        config: dict[Hashable, bytes] = {}
        if extradata[:1] != b"\x01":
            self._length_size = 0
            for unit in units(memoryview(extradata), 0):
                self._keep(unit, config)
            return config
        self._length_size = (extradata[4] & 3) + 1
        at = 5
        for mask in (0x1F, 0xFF):
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                stop = at + 2 + int.from_bytes(extradata[at : at + 2], "big")
                self._keep(memoryview(extradata)[at + 2 : stop], config)
                at = stop
        return config

    def inspect(self, data: memoryview) -> Picture:
        """Describe one access unit."""
        config: dict[Hashable, bytes] = {}
        recovers = False
        for unit in units(data, self._length_size):
            kind = unit[0] & 0x1F
            if kind in (_SLICE, _IDR):
                return self._picture(unit, recovers=recovers, config=config or NO_CONFIG)
            if kind in (_SPS, _PPS):
                self._keep(unit, config)
            elif kind == _SEI:
                recovers = recovers or _is_exact_recovery_point(whole(unit))
            elif _PARTITION_A <= kind <= _PARTITION_C:
                raise UnprovableError("H.264 with data partitioning")
        return Picture(is_access=False, is_shown=False, config=config or NO_CONFIG)

    def join(self, config: Config) -> bytes:
        """Sequence parameter sets, then picture parameter sets."""
        return join_units([config[key] for key in sorted(config, key=str, reverse=True)], self._length_size)

    def _keep(self, unit: memoryview, config: dict[Hashable, bytes]) -> None:
        content = whole(unit)
        kind = content[0] & 0x1F
        if kind == _SPS:
            identifier, sequence = _sequence(content)
            self._sequences[identifier] = sequence
            config["sps", identifier] = content
        elif kind == _PPS:
            bits = full_reader(content, skip=1)
            identifier = bits.exp_golomb()
            self._sequence_of[identifier] = bits.exp_golomb()
            config["pps", identifier] = content

    def _picture(self, unit: memoryview, *, recovers: bool, config: Config) -> Picture:
        is_idr, is_reference = unit[0] & 0x1F == _IDR, bool(unit[0] & 0x60)
        bits = reader(unit, skip=1)
        bits.exp_golomb()  # first_mb_in_slice
        slice_type = bits.exp_golomb() % 5
        sequence = self._sequences.get(self._sequence_of.get(bits.exp_golomb(), -1))
        if sequence is None:
            raise UnprovableError("an H.264 slice without its parameter sets")
        order = None
        if sequence.may_have_fields or sequence.order_type != 2:
            order = self._order(bits, unit, sequence, is_idr=is_idr)
        is_intra = slice_type in (2, 4)
        return Picture(is_idr or (recovers and is_intra), True, is_idr, order, config, is_reference)

    def _order(self, bits: BitReader, unit: memoryview, sequence: _Sequence, *, is_idr: bool) -> int | None:
        """Picture order count; H.264 sections 7.3.3 and 8.2.1.1."""
        bits.take(2 * sequence.has_colour_planes + sequence.frame_num_bits)
        if sequence.may_have_fields and bits.take(1):
            raise UnprovableError("H.264 field pictures")
        if sequence.order_type == 2:
            return None
        if sequence.order_type == 1:
            raise UnprovableError("H.264 with picture order count type 1")
        if is_idr:
            bits.exp_golomb()  # idr_pic_id
        low = bits.take(sequence.order_bits)
        return self._period_order.next(
            low, bits=sequence.order_bits, restarts=is_idr, is_reference=bool(unit[0] & 0x60)
        )


def _sequence(unit: bytes) -> tuple[int, _Sequence]:
    """Identifier and content of a sequence parameter set; H.264 section 7.3.2.1.1."""
    bits = full_reader(unit, skip=1)
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    identifier = bits.exp_golomb()
    has_colour_planes = False
    if profile in _HIGH_PROFILES:
        chroma_format = bits.exp_golomb()
        if chroma_format == 3:
            has_colour_planes = bool(bits.take(1))
        bits.exp_golomb()  # bit depths
        bits.exp_golomb()
        bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma_format == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.exp_golomb() + 4
    order_type = bits.exp_golomb()
    order_bits = bits.exp_golomb() + 4 if order_type == 0 else 0
    if order_type == 1:
        bits.take(1)
        for _ in range(2):
            bits.exp_golomb()  # signed, of the same length
        for _ in range(bits.exp_golomb()):
            bits.exp_golomb()
    bits.exp_golomb()  # max_num_ref_frames
    bits.take(1)
    bits.exp_golomb()  # width, height
    bits.exp_golomb()
    may_have_fields = not bits.take(1)
    return identifier, _Sequence(has_colour_planes, frame_num_bits, order_type, order_bits, may_have_fields)


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.exp_golomb()
            following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
        last = following or last


def _is_exact_recovery_point(unit: bytes) -> bool:
    """Whether a recovery point asks for no further frame and gives exact pictures; H.264 section D.1.8."""
    content = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at + 2 < len(content):
        kind, at = _sei_number(content, at)
        size, at = _sei_number(content, at)
        if kind == _RECOVERY_POINT and at < len(content):
            bits = BitReader(content[at : at + size])
            return bits.exp_golomb() == 0 and bits.take(1) == 1
        at += size
    return False


def _sei_number(content: bytes, at: int) -> tuple[int, int]:
    """A number as SEI writes it (each byte 255 adds to the next), and the place after it."""
    number = 0
    while at < len(content) and content[at] == 255:
        number, at = number + 255, at + 1
    if at >= len(content):
        raise UnprovableError("an SEI message ends early")
    return number + content[at], at + 1
