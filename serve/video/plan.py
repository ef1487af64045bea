"""Plan which packets to decode for the wanted frames."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from serve.video.containers import TRUSTED_TIMES, WRITTEN_TIMES
from serve.video.packet_index import PacketEntry, PacketIndex


@dataclass(frozen=True)
class DecodePlan:
    """The shown packets in output order, and where decoding starts for each."""

    order: list[int]  # packet positions
    access: list[int]  # positions where decoding may start, ascending
    rank: dict[int, int]  # position -> place in `order`
    head: range  # packets before the first usable access point; only decoding tells which frames they output

    def start(self, position: int) -> int:
        """Return the position where decoding starts for a packet.

        A picture that is shown before its access point (a leading picture) needs the access point before that.
        """
        at = bisect_right(self.access, position)
        while at > 0:
            at -= 1
            if self.rank.get(self.access[at], -1) <= self.rank[position]:
                return self.access[at]
        return 0

    def runs(self, wanted: Iterable[int]) -> list[range]:
        """Return the ranges of packets to decode, each from an access point to its last wanted packet."""
        found: list[range] = []
        for position in sorted(wanted):
            start = self.start(position)
            if found and start < found[-1].stop:
                found[-1] = range(found[-1].start, max(found[-1].stop, position + 1))
            else:
                found.append(range(start, position + 1))
        return found


def make_plan(index: PacketIndex, container: str) -> DecodePlan | None:
    """Make the plan; return None if the stream must be decoded in order."""
    if index.doubt is not None:
        return None
    entries = index.entries
    shown = [position for position, entry in enumerate(entries) if entry.is_shown]
    order = _output_order(entries, shown, container)
    if not order or _hides_middle(index, order):
        return None
    rank = {position: place for place, position in enumerate(order)}
    access = _usable_access(entries, rank)
    if not access:
        return None
    return DecodePlan(order, access, rank, _head(access, rank))


def _hides_middle(index: PacketIndex, order: list[int]) -> bool:
    """Return whether an edit list hides pictures between shown ones.

    FFmpeg's demuxer then leaves out packets that others refer to, and only decoding tells what is shown of these.
    """

    def place(position: int) -> tuple[int, int]:
        entry = index.entries[position]
        return entry.period, position if entry.order is None else entry.order

    first, last = place(order[0]), place(order[-1])
    return any(first < place(position) < last for position in index.discarded)


def _output_order(entries: Sequence[PacketEntry], shown: list[int], container: str) -> list[int] | None:
    """Return the output order of the decoder; None if it is inconsistent or contradicts the container's times."""
    if len({(entries[position].period, entries[position].order is None) for position in shown}) > len(
        {entries[position].period for position in shown}
    ):
        return None  # only some pictures of a period have an order
    places = [
        (entries[position].period, entries[position].order) for position in shown if entries[position].order is not None
    ]
    if len(set(places)) != len(places):
        return None  # two pictures with the same order: the stream is damaged or was joined incorrectly
    order = sorted(shown, key=lambda position: (entries[position].period, entries[position].order or 0, position))
    if container in TRUSTED_TIMES or container in WRITTEN_TIMES:
        for before, after in pairwise(order):
            earlier, later = entries[before].pts, entries[after].pts
            if earlier is not None and later is not None and later <= earlier and not entries[after].is_access:
                return None
    return order


def _usable_access(entries: Sequence[PacketEntry], rank: dict[int, int]) -> list[int]:
    """Return the access points, except those with leading pictures that later pictures may refer to."""
    access: list[int] = []
    for position, entry in enumerate(entries):
        if entry.is_access:
            access.append(position)
        elif access and entry.is_reference and access[-1] and rank.get(position, len(rank)) < rank.get(access[-1], -1):
            access.pop()
    return access


def _head(access: list[int], rank: dict[int, int]) -> range:
    """Return the packets before the first access point, and later ones that are shown before it."""
    first = access[0]
    following = access[1] if len(access) > 1 else len(rank) + first + 1
    leading = [position for position in range(first + 1, following) if rank.get(position, first) < rank.get(first, -1)]
    return range(max(leading) + 1 if leading else first)
