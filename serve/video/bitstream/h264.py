"""H.264: IDR pictures, exact recovery points, parameter sets and picture order count (POC).

Field pictures, data partitioning and POC type 1 are not supported; such streams are decoded in order.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from serve.video.bitstream.inspector import (
    NO_PARAMETER_SETS,
    BitReader,
    PacketInfo,
    ParameterSets,
    UnsupportedBitstreamError,
)
from serve.video.bitstream.nal import PictureOrderCount, header_reader, join_units, split_units, trim_unit, unit_reader

_SLICE, _PARTITION_A, _PARTITION_C, _IDR, _SEI, _SPS, _PPS = 1, 2, 4, 5, 6, 7, 8
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_RECOVERY_POINT = 6  # payload type of the SEI message


@dataclass(frozen=True, slots=True)
class _SequenceParameters:
    """The fields of a sequence parameter set (SPS) that are needed to parse slice headers."""

    has_separate_colour_planes: bool
    frame_num_bits: int
    poc_type: int
    poc_lsb_bits: int
    allows_fields: bool


class H264Inspector:
    """Parses the NAL units before each picture's first slice, and the start of that slice's header."""

    can_skip_non_reference = True
    needs_inline_config = False
    extradata_header_bytes = 0

    def __init__(self) -> None:
        self._length_size = 0
        self._sps: dict[int, _SequenceParameters] = {}  # by SPS id
        self._sps_id_of_pps: dict[int, int] = {}  # id of a picture parameter set (PPS) -> id of its SPS
        self._poc = PictureOrderCount()

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return the parameter sets of an `avcC` box or of an Annex B byte stream, and use them from now on."""
        config: dict[Hashable, bytes] = {}
        if extradata[:1] != b"\x01":
            self._length_size = 0
            for unit in split_units(memoryview(extradata), 0):
                self._store_parameter_set(unit, config)
            return config
        self._length_size = (extradata[4] & 3) + 1
        at = 5
        for mask in (0x1F, 0xFF):
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                stop = at + 2 + int.from_bytes(extradata[at : at + 2], "big")
                self._store_parameter_set(memoryview(extradata)[at + 2 : stop], config)
                at = stop
        return config

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one access unit."""
        config: dict[Hashable, bytes] = {}
        recovers = False
        for unit in split_units(data, self._length_size):
            kind = unit[0] & 0x1F
            if kind in (_SLICE, _IDR):
                return self._parse_slice(unit, recovers=recovers, config=config or NO_PARAMETER_SETS)
            if kind in (_SPS, _PPS):
                self._store_parameter_set(unit, config)
            elif kind == _SEI:
                recovers = recovers or _is_exact_recovery_point(trim_unit(unit))
            elif _PARTITION_A <= kind <= _PARTITION_C:
                raise UnsupportedBitstreamError("H.264 data partitioning is not supported")
        return PacketInfo(is_access_point=False, is_shown=False, config=config or NO_PARAMETER_SETS)

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Concatenate the parameter sets: SPS first, then PPS."""
        return join_units([config[key] for key in sorted(config, key=str, reverse=True)], self._length_size)

    def _store_parameter_set(self, unit: memoryview, config: dict[Hashable, bytes]) -> None:
        content = trim_unit(unit)
        kind = content[0] & 0x1F
        if kind == _SPS:
            sps_id, self._sps[sps_id] = _parse_sps(content)
            config["sps", sps_id] = content
        elif kind == _PPS:
            bits = unit_reader(content, skip=1)
            pps_id = bits.read_exp_golomb()
            self._sps_id_of_pps[pps_id] = bits.read_exp_golomb()
            config["pps", pps_id] = content

    def _parse_slice(self, unit: memoryview, *, recovers: bool, config: ParameterSets) -> PacketInfo:
        """Describe a picture from its first slice; `recovers` says that an exact recovery point precedes it."""
        is_idr, is_reference = unit[0] & 0x1F == _IDR, bool(unit[0] & 0x60)
        bits = header_reader(unit, skip=1)
        bits.read_exp_golomb()  # first_mb_in_slice
        slice_type = bits.read_exp_golomb() % 5
        sps = self._sps.get(self._sps_id_of_pps.get(bits.read_exp_golomb(), -1))
        if sps is None:
            raise UnsupportedBitstreamError("the parameter sets of an H.264 slice are missing")
        order = None
        if sps.allows_fields or sps.poc_type != 2:
            order = self._parse_poc(bits, unit, sps, is_idr=is_idr)
        is_intra = slice_type in (2, 4)
        return PacketInfo(is_idr or (recovers and is_intra), True, is_idr, order, config, is_reference)

    def _parse_poc(self, bits: BitReader, unit: memoryview, sps: _SequenceParameters, *, is_idr: bool) -> int | None:
        """Return the picture order count, or None if output order is decoding order; H.264 sections 7.3.3, 8.2.1.1."""
        bits.read(2 * sps.has_separate_colour_planes + sps.frame_num_bits)
        if sps.allows_fields and bits.read(1):
            raise UnsupportedBitstreamError("H.264 field pictures are not supported")
        if sps.poc_type == 2:
            return None
        if sps.poc_type == 1:
            raise UnsupportedBitstreamError("H.264 picture order count type 1 is not supported")
        if is_idr:
            bits.read_exp_golomb()  # idr_pic_id
        lsb = bits.read(sps.poc_lsb_bits)
        return self._poc.next(lsb, bits=sps.poc_lsb_bits, restarts=is_idr, is_reference=bool(unit[0] & 0x60))


def _parse_sps(unit: bytes) -> tuple[int, _SequenceParameters]:
    """Return the id and the needed fields of a sequence parameter set; H.264 section 7.3.2.1.1."""
    bits = unit_reader(unit, skip=1)
    profile = bits.read(8)
    bits.read(16)  # constraint flags, level
    sps_id = bits.read_exp_golomb()
    has_separate_colour_planes = False
    if profile in _HIGH_PROFILES:
        chroma_format = bits.read_exp_golomb()
        if chroma_format == 3:
            has_separate_colour_planes = bool(bits.read(1))
        bits.read_exp_golomb()  # bit_depth_luma_minus8
        bits.read_exp_golomb()  # bit_depth_chroma_minus8
        bits.read(1)
        if bits.read(1):  # seq_scaling_matrix_present_flag
            for index in range(12 if chroma_format == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.read_exp_golomb() + 4
    poc_type = bits.read_exp_golomb()
    poc_lsb_bits = bits.read_exp_golomb() + 4 if poc_type == 0 else 0
    if poc_type == 1:
        bits.read(1)
        for _ in range(2):
            bits.read_exp_golomb()  # a signed code, which has the same length as an unsigned one
        for _ in range(bits.read_exp_golomb()):
            bits.read_exp_golomb()
    bits.read_exp_golomb()  # max_num_ref_frames
    bits.read(1)
    bits.read_exp_golomb()  # width
    bits.read_exp_golomb()  # height
    allows_fields = not bits.read(1)  # frame_mbs_only_flag
    return sps_id, _SequenceParameters(
        has_separate_colour_planes, frame_num_bits, poc_type, poc_lsb_bits, allows_fields
    )


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.read_exp_golomb()
            following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
        last = following or last


def _is_exact_recovery_point(unit: bytes) -> bool:
    """Return whether an SEI unit holds a recovery point with recovery_frame_cnt 0 and exact_match_flag 1.

    See H.264 section D.1.8.
    """
    content = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at + 2 < len(content):
        kind, at = _sei_number(content, at)
        size, at = _sei_number(content, at)
        if kind == _RECOVERY_POINT and at < len(content):
            bits = BitReader(content[at : at + size])
            return bits.read_exp_golomb() == 0 and bits.read(1) == 1
        at += size
    return False


def _sei_number(content: bytes, at: int) -> tuple[int, int]:
    """Return an SEI number, a sum of bytes up to the first that is not 255, and the position after it."""
    number = 0
    while at < len(content) and content[at] == 255:
        number, at = number + 255, at + 1
    if at >= len(content):
        raise UnsupportedBitstreamError("an SEI message is truncated")
    return number + content[at], at + 1
