"""Prepend missing parameter sets to the packets of a decoder that starts in the middle of a stream."""

from collections.abc import Hashable

import av

from serve.video.packet_index import ConfigChange, PacketIndex, read_new_extradata


class ParameterSetFeeder:
    """Tracks which parameter sets a decoder has, and prepends missing ones to the first packet of a run.

    The `pts` of each packet is replaced with its position, which the decoder copies to the frame.
    """

    def __init__(self, index: PacketIndex) -> None:
        self._index = index
        self._active: dict[Hashable, bytes] = dict(index.initial_config)  # parameter sets that the decoder has
        self._next_change = 0  # index into `PacketIndex.changes`
        self.hidden: set[int] = set()  # positions of copied packets that an edit list hides

    def prepare(self, packet: av.Packet, position: int, *, is_first: bool) -> av.Packet:
        """Return the packet to decode; `is_first` marks the first packet of a run. Positions must ascend."""
        is_hidden = packet.is_discard
        skipped = self._pop_changes_before(position)
        current = self._pop_changes_before(position + 1)
        is_replaced = any(change.extradata is not None for change in current)
        if is_first and skipped and not is_replaced:
            packet = self._prepend_missing(packet, skipped)
        for change in current:
            if change.extradata is not None:
                self._active = {}
                if self._index.needs_inline_config:
                    packet = _prepend_data(packet, bytes(change.extradata)[self._index.extradata_header_bytes :])
            self._active |= change.config
        if is_hidden and not packet.is_discard:
            self.hidden.add(position)
        packet.pts = position
        return packet

    def _pop_changes_before(self, position: int) -> list[ConfigChange]:
        """Return the changes before a position that have not been returned yet."""
        first, changes = self._next_change, self._index.changes
        while self._next_change < len(changes) and changes[self._next_change].position < position:
            self._next_change += 1
        return changes[first : self._next_change]

    def _prepend_missing(self, packet: av.Packet, skipped: list[ConfigChange]) -> av.Packet:
        """Return the packet with the configuration and parameter sets of the skipped packets prepended."""
        active, needed = self._active, dict(self._active)
        replacement: ConfigChange | None = None
        for change in skipped:
            if change.extradata is not None:
                replacement, active, needed = change, dict(change.config), {}
            needed |= change.config
        self._active = needed
        changed = {key: value for key, value in needed.items() if active.get(key) != value}
        missing = self._index.join_parameter_sets(changed)
        if replacement is not None and replacement.extradata is not None:
            if self._index.needs_inline_config:
                missing = bytes(replacement.extradata)[self._index.extradata_header_bytes :] + missing
            packet = _prepend_data(packet, missing)
            if not self._index.needs_inline_config:
                packet.set_sidedata(replacement.extradata)
            return packet
        return _prepend_data(packet, missing) if missing else packet


def _prepend_data(packet: av.Packet, prefix: bytes) -> av.Packet:
    """Return a copy of the packet with `prefix` prepended to its data."""
    copy = av.Packet(prefix + bytes(packet))
    copy.time_base, copy.pts, copy.dts, copy.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    if (extradata := read_new_extradata(packet)) is not None:
        copy.set_sidedata(extradata)
    return copy
