"""AV1: key frames, hidden frames and sequence headers."""

from collections.abc import Hashable, Iterator

from serve.video.bitstream.intra import IntraInspector
from serve.video.bitstream.picture import NO_CONFIG, BitReader, Config, Picture, UnprovableError


class Av1Inspector(IntraInspector):
    """AV1: a temporal unit shows one frame; an access point is a shown key frame behind its sequence header."""

    may_skip = False
    injects_config = True
    extradata_header = 4

    def __init__(self) -> None:
        self._is_still = False

    def reset(self, extradata: bytes) -> Config:
        """The sequence header of an `av1C` box."""
        units = extradata[4:] if extradata[:1] == b"\x81" else b""
        found: dict[Hashable, bytes] = {}
        for kind, unit, payload in _av1_units(memoryview(units)):
            if kind == 1:
                found["sequence"] = bytes(unit)
                self._is_still = bool(payload[0] & 0x08)
        return found or NO_CONFIG

    def inspect(self, data: memoryview) -> Picture:
        """Describe one temporal unit."""
        config: dict[Hashable, bytes] = {}
        frames: list[tuple[bool, bool]] = []
        for kind, unit, payload in _av1_units(data):
            if kind == 1:
                config["sequence"] = bytes(unit)
                self._is_still = bool(payload[0] & 0x08)
            elif kind in (3, 6):
                frames.append(self._frame(payload))
        num_shown = sum(is_shown for _, is_shown in frames)
        if num_shown > 1:
            raise UnprovableError("an AV1 packet that shows several frames")
        is_access = bool(frames) and frames[0] == (True, True)
        return Picture(is_access, num_shown == 1, config=config or NO_CONFIG)

    def _frame(self, payload: memoryview) -> tuple[bool, bool]:
        """Whether a frame is a key frame, and whether it is shown."""
        if self._is_still:
            return True, True
        bits = BitReader(bytes(payload[:1]))
        if bits.take(1):
            return False, True  # shows a frame that was decoded before
        is_key = bits.take(2) == 0
        return is_key, bool(bits.take(1))


def _av1_units(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Open bitstream units: kind, the unit, its payload."""
    at = 0
    while at < len(data):
        header = data[at]
        payload = at + 1 + bool(header & 4)
        if not header & 2:
            raise UnprovableError("an AV1 unit without its size")
        size = shift = 0
        while True:
            byte = data[payload]
            size |= (byte & 0x7F) << shift
            payload, shift = payload + 1, shift + 7
            if not byte & 0x80 or shift > 56:
                break
        if payload + size > len(data):
            raise UnprovableError("an AV1 unit is longer than its packet")
        yield header >> 3 & 15, data[at : payload + size], data[payload : payload + size]
        at = payload + size
