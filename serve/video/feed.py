"""Packets as a decoder must get them, when decoding begins in the middle of a stream."""

from collections.abc import Hashable

import av

from serve.video.packet_index import ConfigChange, PacketIndex, is_extradata


class Feed:
    """Knows which parameter sets one decoder holds, and puts what it lacks in front of the first packet of a run.

    Each packet's time is replaced by its position: frames carry it out of the decoder, whatever times the file gives.
    """

    def __init__(self, index: PacketIndex) -> None:
        self._index = index
        self._held: dict[Hashable, bytes] = dict(index.initial_config)
        self._next = 0  # of the changes

    def packet(self, packet: av.Packet, position: int, *, begins: bool) -> av.Packet:
        """The packet to decode; `begins` at the start of a run. Positions ascend over the life of a decoder."""
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
        packet.pts = position
        return packet

    def _changes_before(self, position: int) -> list[ConfigChange]:
        """Changes that were not met yet, up to a packet."""
        first, changes = self._next, self._index.changes
        while self._next < len(changes) and changes[self._next].position < position:
            self._next += 1
        return changes[first : self._next]

    def _with_missing(self, packet: av.Packet, skipped: list[ConfigChange]) -> av.Packet:
        """Add the configuration and parameter sets of the packets that were skipped before this one."""
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
    """A copy of the packet with bytes in front of its own."""
    copy = av.Packet(prefix + bytes(packet))
    copy.time_base, copy.pts, copy.dts, copy.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    for data in packet.iter_sidedata():
        if is_extradata(data):
            copy.set_sidedata(data)
    return copy
