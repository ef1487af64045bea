"""HEVC: random access pictures, parameter sets, hidden pictures and picture order count (POC)."""

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

_VPS, _SPS, _PPS, _END_OF_SEQUENCE, _END_OF_BITSTREAM = 32, 33, 34, 36, 37
_RASL, _RADL, _BLA, _IDR, _CRA, _RESERVED_IRAP = (8, 9), (6, 7), (16, 17, 18), (19, 20), 21, (22, 23)
_NAMES = {_VPS: "vps", _SPS: "sps", _PPS: "pps"}
_CONFIG_ORDER = ("vps", "sps", "pps")


@dataclass(frozen=True, slots=True)
class _SequenceParameters:
    """The fields of a sequence parameter set (SPS) that are needed to parse slice headers."""

    has_separate_colour_planes: bool
    poc_lsb_bits: int


@dataclass(frozen=True, slots=True)
class _PictureParameters:
    """The fields of a picture parameter set (PPS) that are needed to parse slice headers."""

    sps_id: int
    has_output_flag: bool
    num_extra_bits: int


class HevcInspector:
    """Parses the NAL units before each picture's first slice, and the start of that slice's header."""

    needs_inline_config = False
    extradata_header_bytes = 0

    def __init__(self) -> None:
        # False once there are temporal sub-layers: FFmpeg would also skip pictures that higher sub-layers refer to.
        self.can_skip_non_reference = True
        self._length_size = 0
        self._sps: dict[int, _SequenceParameters] = {}  # by SPS id
        self._pps: dict[int, _PictureParameters] = {}  # by PPS id
        self._poc = PictureOrderCount()
        self._starts_sequence = True  # the next picture starts a coded video sequence
        # The last random access picture started a sequence, so its RASL pictures are hidden.
        self._hides_leading = False

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return the parameter sets of an `hvcC` box or of an Annex B byte stream, and use them from now on."""
        config: dict[Hashable, bytes] = {}
        if len(extradata) < 23 or extradata[:3] in (b"\x00\x00\x00", b"\x00\x00\x01"):
            self._length_size = 0
            for unit in split_units(memoryview(extradata), 0):
                self._store_parameter_set(unit, config)
            return config
        self._length_size = (extradata[21] & 3) + 1
        at = 23
        for _ in range(extradata[22]):
            count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
            for _ in range(count):
                stop = at + 2 + int.from_bytes(extradata[at : at + 2], "big")
                self._store_parameter_set(memoryview(extradata)[at + 2 : stop], config)
                at = stop
        return config

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one access unit."""
        config: dict[Hashable, bytes] = {}
        for unit in split_units(data, self._length_size):
            if len(unit) < 3:
                if len(unit) == 2 and unit[0] >> 1 in (_END_OF_SEQUENCE, _END_OF_BITSTREAM):
                    self._starts_sequence = True
                continue
            kind, layer = unit[0] >> 1, (unit[0] & 1) << 5 | unit[1] >> 3
            if layer:
                continue  # another view or a scalable layer; it is not decoded
            if kind < _VPS:
                return self._parse_slice(unit, kind, config or NO_PARAMETER_SETS)
            if kind in _NAMES:
                self._store_parameter_set(unit, config)
            elif kind in (_END_OF_SEQUENCE, _END_OF_BITSTREAM):
                self._starts_sequence = True
        return PacketInfo(is_access_point=False, is_shown=False, config=config or NO_PARAMETER_SETS)

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Concatenate the parameter sets: VPS first, then SPS, then PPS."""
        keys = sorted(config, key=lambda key: (_CONFIG_ORDER.index(key[0]), key[1]))  # type: ignore[index]
        return join_units([config[key] for key in keys], self._length_size)

    def _store_parameter_set(self, unit: memoryview, config: dict[Hashable, bytes]) -> None:
        content = trim_unit(unit)
        kind = content[0] >> 1
        if kind not in _NAMES or len(content) < 4:
            return
        bits = unit_reader(content, skip=2)
        if kind == _VPS:
            identifier = bits.read(4)
        elif kind == _SPS:
            identifier, self._sps[identifier] = _parse_sps(bits)
        else:
            identifier = bits.read_exp_golomb()
            sps_id = bits.read_exp_golomb()
            bits.read(1)  # dependent_slice_segments_enabled_flag
            self._pps[identifier] = _PictureParameters(sps_id, bool(bits.read(1)), bits.read(3))
        config[_NAMES[kind], identifier] = content

    def _parse_slice(self, unit: memoryview, kind: int, config: ParameterSets) -> PacketInfo:
        """Describe a picture from its first slice."""
        if kind in _RESERVED_IRAP:
            raise UnsupportedBitstreamError("the type of an HEVC picture is reserved")
        if unit[1] & 7 > 1:
            self.can_skip_non_reference = False
        bits = header_reader(unit, skip=2)
        if not bits.read(1):
            raise UnsupportedBitstreamError("the first slice of an HEVC picture is missing")
        is_random_access = kind in _BLA or kind in _IDR or kind == _CRA
        starts_sequence = kind in _BLA or kind in _IDR or (kind == _CRA and self._starts_sequence)
        if is_random_access:
            if bits.read(1) and not self._starts_sequence:
                raise UnsupportedBitstreamError("no_output_of_prior_pics_flag is set in an HEVC picture")
            self._hides_leading = starts_sequence
        elif self._starts_sequence:
            raise UnsupportedBitstreamError("an HEVC sequence does not start with a random access picture")
        self._starts_sequence = False
        pps = self._pps.get(bits.read_exp_golomb())
        sps = self._sps.get(pps.sps_id) if pps else None
        if pps is None or sps is None:
            raise UnsupportedBitstreamError("the parameter sets of an HEVC slice are missing")
        bits.read(pps.num_extra_bits)
        bits.read_exp_golomb()  # slice_type
        is_hidden = (pps.has_output_flag and not bits.read(1)) or (kind in _RASL and self._hides_leading)
        order = self._parse_poc(bits, unit, kind, sps, restarts=starts_sequence)
        is_leading = kind in _RASL or kind in _RADL
        return PacketInfo(is_random_access, not is_hidden, starts_sequence, order, config, not is_leading)

    def _parse_poc(
        self, bits: BitReader, unit: memoryview, kind: int, sps: _SequenceParameters, *, restarts: bool
    ) -> int:
        """Return the picture order count; HEVC sections 7.3.6.1 and 8.3.1."""
        bits.read(2 * sps.has_separate_colour_planes)
        lsb = 0 if kind in _IDR else bits.read(sps.poc_lsb_bits)
        is_sub_layer_non_reference = kind < 16 and kind % 2 == 0
        is_reference = unit[1] & 7 == 1 and kind not in _RASL and kind not in _RADL and not is_sub_layer_non_reference
        return self._poc.next(lsb, bits=sps.poc_lsb_bits, restarts=restarts, is_reference=is_reference)


def _parse_sps(bits: BitReader) -> tuple[int, _SequenceParameters]:
    """Return the id and the needed fields of a sequence parameter set; HEVC section 7.3.2.2."""
    bits.read(4)
    max_sub_layers_minus1 = bits.read(3)
    bits.read(1)
    bits.read(96)  # profile, level
    if max_sub_layers_minus1:
        present = [(bits.read(1), bits.read(1)) for _ in range(max_sub_layers_minus1)]
        bits.read(2 * (8 - max_sub_layers_minus1))
        for has_profile, has_level in present:
            bits.read(88 * has_profile + 8 * has_level)
    sps_id = bits.read_exp_golomb()
    has_separate_colour_planes = bits.read_exp_golomb() == 3 and bool(bits.read(1))
    bits.read_exp_golomb()  # width
    bits.read_exp_golomb()  # height
    if bits.read(1):  # conformance_window_flag
        for _ in range(4):
            bits.read_exp_golomb()
    bits.read_exp_golomb()  # bit_depth_luma_minus8
    bits.read_exp_golomb()  # bit_depth_chroma_minus8
    return sps_id, _SequenceParameters(has_separate_colour_planes, poc_lsb_bits=bits.read_exp_golomb() + 4)
