"""Which packets are decoded for the wanted frames."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from serve.video.containers import TRUSTED_TIMES, WRITTEN_TIMES
from serve.video.packet_index import Entry, PacketIndex


@dataclass(frozen=True)
class Plan:
    """The shown packets in the order in which their frames are shown, and where decoding begins for each."""

    order: list[int]  # packet positions
    access: list[int]  # positions at which decoding may begin, ascending
    rank: dict[int, int]  # position -> place in `order`
    head: range  # packets at the front that stand on no access point; what comes out of them is only known by decoding

    def start(self, position: int) -> int:
        """Where decoding begins for a packet.

        A picture that is shown before the access point in front of it (a leading picture) needs the one before that.
        """
        at = bisect_right(self.access, position)
        while at > 0:
            at -= 1
            if self.rank.get(self.access[at], -1) <= self.rank[position]:
                return self.access[at]
        return 0

    def runs(self, wanted: Iterable[int]) -> list[range]:
        """Stretches of packets to decode, each from an access point to the last wanted packet of it."""
        found: list[range] = []
        for position in sorted(wanted):
            start = self.start(position)
            if found and start < found[-1].stop:
                found[-1] = range(found[-1].start, max(found[-1].stop, position + 1))
            else:
                found.append(range(start, position + 1))
        return found


def make_plan(index: PacketIndex, container: str) -> Plan | None:
    """The plan; None where the stream must be decoded in order."""
    if index.doubt is not None:
        return None
    entries = index.entries
    shown = [position for position, entry in enumerate(entries) if entry.is_shown]
    order = _output_order(entries, shown, container)
    if not order:
        return None
    rank = {position: place for place, position in enumerate(order)}
    access = _usable_access(entries, rank)
    if not access:
        return None
    return Plan(order, access, rank, _head(access, rank))


def _output_order(entries: Sequence[Entry], shown: list[int], container: str) -> list[int] | None:
    """Output order of the decoder; None where the container's times contradict it."""
    if len({(entries[position].period, entries[position].order is None) for position in shown}) > len(
        {entries[position].period for position in shown}
    ):
        return None  # some pictures of a period have a place, others not
    places = [
        (entries[position].period, entries[position].order) for position in shown if entries[position].order is not None
    ]
    if len(set(places)) != len(places):
        return None  # two pictures cannot have one place: the stream is damaged, or badly joined
    order = sorted(shown, key=lambda position: (entries[position].period, entries[position].order or 0, position))
    if container in TRUSTED_TIMES or container in WRITTEN_TIMES:
        for before, after in pairwise(order):
            earlier, later = entries[before].pts, entries[after].pts
            if earlier is not None and later is not None and later <= earlier and not entries[after].is_access:
                return None
    return order


def _usable_access(entries: Sequence[Entry], rank: dict[int, int]) -> list[int]:
    """Access points, but for those whose leading pictures may be reference pictures of later ones."""
    access: list[int] = []
    for position, entry in enumerate(entries):
        if entry.is_access:
            access.append(position)
        elif access and entry.is_reference and access[-1] and rank.get(position, len(rank)) < rank.get(access[-1], -1):
            access.pop()
    return access


def _head(access: list[int], rank: dict[int, int]) -> range:
    """Packets before the first access point, and those after it that are shown before it."""
    first = access[0]
    following = access[1] if len(access) > 1 else len(rank) + first + 1
    leading = [position for position in range(first + 1, following) if rank.get(position, first) < rank.get(first, -1)]
    return range(max(leading) + 1 if leading else first)
