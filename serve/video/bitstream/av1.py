"""AV1: key frames, hidden frames and sequence headers."""

from collections.abc import Hashable, Iterator

from serve.video.bitstream.inspector import (
    NO_PARAMETER_SETS,
    BitReader,
    PacketInfo,
    ParameterSets,
    UnsupportedBitstreamError,
)
from serve.video.bitstream.intra import IntraInspector

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of open bitstream units


class Av1Inspector(IntraInspector):
    """Parses AV1 temporal units: each shows one frame; an access point is a shown key frame after a sequence header."""

    can_skip_non_reference = False
    needs_inline_config = True
    extradata_header_bytes = 4

    def __init__(self) -> None:
        self._has_reduced_header = False  # reduced_still_picture_header: every frame is a shown key frame

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return the sequence header of an `av1C` box."""
        units = extradata[4:] if extradata[:1] == b"\x81" else b""
        config: dict[Hashable, bytes] = {}
        for unit_type, unit, payload in _split_units(memoryview(units)):
            if unit_type == _SEQUENCE_HEADER:
                config["sequence"] = bytes(unit)
                self._has_reduced_header = bool(payload[0] & 0x08)
        return config or NO_PARAMETER_SETS

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one temporal unit."""
        config: dict[Hashable, bytes] = {}
        frames: list[tuple[bool, bool]] = []
        for unit_type, unit, payload in _split_units(data):
            if unit_type == _SEQUENCE_HEADER:
                config["sequence"] = bytes(unit)
                self._has_reduced_header = bool(payload[0] & 0x08)
            elif unit_type in (_FRAME_HEADER, _FRAME):
                frames.append(self._parse_frame(payload))
        num_shown = sum(is_shown for _, is_shown in frames)
        if num_shown > 1:
            raise UnsupportedBitstreamError("an AV1 packet shows several frames")
        is_access_point = bool(frames) and frames[0] == (True, True)
        return PacketInfo(is_access_point, num_shown == 1, config=config or NO_PARAMETER_SETS)

    def _parse_frame(self, payload: memoryview) -> tuple[bool, bool]:
        """Return (is a key frame, is shown) of a frame header."""
        if self._has_reduced_header:
            return True, True
        bits = BitReader(bytes(payload[:1]))
        if bits.read(1):
            return False, True  # show_existing_frame: shows a frame that was decoded earlier
        is_key = bits.read(2) == 0
        return is_key, bool(bits.read(1))


def _split_units(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield (type, trim_unit unit, payload) of each open bitstream unit (OBU).

    Raises:
        UnsupportedBitstreamError: a unit has no size field, or is longer than the packet.
    """
    at = 0
    while at < len(data):
        header = data[at]
        payload = at + 1 + bool(header & 4)
        if not header & 2:
            raise UnsupportedBitstreamError("an AV1 unit has no size field")
        size = shift = 0
        while True:
            byte = data[payload]
            size |= (byte & 0x7F) << shift
            payload, shift = payload + 1, shift + 7
            if not byte & 0x80 or shift > 56:
                break
        if payload + size > len(data):
            raise UnsupportedBitstreamError("an AV1 unit is longer than its packet")
        yield header >> 3 & 15, data[at : payload + size], data[payload : payload + size]
        at = payload + size
