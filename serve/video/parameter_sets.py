"""Packets for a decoder that starts in the middle of a stream: they get the parameter sets they need."""

from collections.abc import Hashable

import av

from serve.video.packet_index import ConfigChange, PacketIndex, new_extradata


class ParameterSetFeeder:
    """Tracks which parameter sets one decoder has, and prepends missing ones to the first packet of a run.

    The `pts` of each packet is replaced by its position, so that the decoder returns it with the frame.
    """

    def __init__(self, index: PacketIndex) -> None:
        self._index = index
        self._held: dict[Hashable, bytes] = dict(index.initial_config)
        self._next = 0  # index into the changes
        self.hidden: set[int] = set()  # packets that were copied and are hidden by an edit list

    def packet(self, packet: av.Packet, position: int, *, begins: bool) -> av.Packet:
        """Return the packet to decode; `begins` marks the first packet of a run. Positions must ascend."""
        is_hidden = packet.is_discard
        skipped = self._changes_before(position)
        present = self._changes_before(position + 1)
        is_replaced = any(change.extradata is not None for change in present)
        if begins and skipped and not is_replaced:
            packet = self._with_missing(packet, skipped)
        for change in present:
            if change.extradata is not None:
                self._held = {}
                if self._index.injects_config:
                    packet = _with_data(packet, bytes(change.extradata)[self._index.extradata_header :])
            self._held |= change.config
        if is_hidden and not packet.is_discard:
            self.hidden.add(position)
        packet.pts = position
        return packet

    def _changes_before(self, position: int) -> list[ConfigChange]:
        """Return the changes before a position that were not returned yet."""
        first, changes = self._next, self._index.changes
        while self._next < len(changes) and changes[self._next].position < position:
            self._next += 1
        return changes[first : self._next]

    def _with_missing(self, packet: av.Packet, skipped: list[ConfigChange]) -> av.Packet:
        """Add the configuration and parameter sets of the skipped packets before this one."""
        held, needed = self._held, dict(self._held)
        replacement: ConfigChange | None = None
        for change in skipped:
            if change.extradata is not None:
                replacement, held, needed = change, dict(change.config), {}
            needed |= change.config
        self._held = needed
        missing = self._index.join({key: value for key, value in needed.items() if held.get(key) != value})
        if replacement is not None and replacement.extradata is not None:
            if self._index.injects_config:
                missing = bytes(replacement.extradata)[self._index.extradata_header :] + missing
            packet = _with_data(packet, missing)
            if not self._index.injects_config:
                packet.set_sidedata(replacement.extradata)
            return packet
        return _with_data(packet, missing) if missing else packet


def _with_data(packet: av.Packet, prefix: bytes) -> av.Packet:
    """Return a copy of the packet with `prefix` in front of its data."""
    copy = av.Packet(prefix + bytes(packet))
    copy.time_base, copy.pts, copy.dts, copy.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    if (extradata := new_extradata(packet)) is not None:
        copy.set_sidedata(extradata)
    return copy
