"""Plan which packets to decode for the wanted frames."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serve.video.containers import RELIABLE_TIMES, UNRELIABLE_TIMES
from serve.video.packet_index import PacketEntry, PacketIndex

# In MPEG-PS, one timestamp belongs to all pictures that begin in a pack, and FFmpeg's parser gives it to a neighbour if
# a start code lies across the border of two packs. The time is then wrong by at most the pictures that H.264 reorders.
MAX_REORDERED = 16


@dataclass(frozen=True)
class DecodePlan:
    """The shown packets in output order, and the access points where decoding may start."""

    order: list[int]  # packet positions, in output order
    access_points: list[int]  # packet positions where decoding may start, ascending
    rank: dict[int, int]  # packet position -> index in `order`
    head: range  # packets before the first usable access point; only decoding tells which frames they output

    def start_of(self, position: int) -> int:
        """Return the position where decoding must start to decode a packet.

        A picture that is output before the preceding access point (a leading picture) needs an earlier access point.
        """
        at = bisect_right(self.access_points, position)
        while at > 0:
            at -= 1
            if self.rank.get(self.access_points[at], -1) <= self.rank[position]:
                return self.access_points[at]
        return 0

    def runs(self, wanted: Iterable[int]) -> list[range]:
        """Return the ranges of packets to decode, each from an access point to the last wanted packet after it."""
        runs: list[range] = []
        for position in sorted(wanted):
            start = self.start_of(position)
            if runs and start < runs[-1].stop:
                runs[-1] = range(runs[-1].start, max(runs[-1].stop, position + 1))
            else:
                runs.append(range(start, position + 1))
        return runs


def make_plan(index: PacketIndex, container: str) -> DecodePlan | None:
    """Return the plan for a stream; None if it must be decoded in order."""
    if index.no_plan_reason is not None:
        return None
    entries = index.entries
    shown = [position for position, entry in enumerate(entries) if entry.is_shown]
    order = _output_order(entries, shown, container)
    if not order or _hides_inner_pictures(index, order):
        return None
    rank = {position: number for number, position in enumerate(order)}
    access_points = _usable_access_points(entries, rank)
    if not access_points:
        return None
    return DecodePlan(order, access_points, rank, _head_packets(access_points, rank))


def _hides_inner_pictures(index: PacketIndex, order: list[int]) -> bool:
    """Return whether an edit list hides pictures between shown ones.

    FFmpeg's demuxer then drops packets that other packets refer to, and only decoding tells which frames are output.
    """

    def output_key(position: int) -> tuple[int, int]:
        entry = index.entries[position]
        return entry.period, position if entry.order is None else entry.order

    first, last = output_key(order[0]), output_key(order[-1])
    return any(first < output_key(position) < last for position in index.discarded)


def _output_order(entries: Sequence[PacketEntry], shown: list[int], container: str) -> list[int] | None:
    """Return the shown packets in output order; None if it is inconsistent or contradicts the container's times."""
    if len({(entries[position].period, entries[position].order is None) for position in shown}) > len(
        {entries[position].period for position in shown}
    ):
        return None  # only some pictures of a period have an order
    keys = [
        (entries[position].period, entries[position].order) for position in shown if entries[position].order is not None
    ]
    if len(set(keys)) != len(keys):
        return None  # two pictures with the same order: the stream is damaged or was joined incorrectly
    order = sorted(shown, key=lambda position: (entries[position].period, entries[position].order or 0, position))
    if container in RELIABLE_TIMES or container in UNRELIABLE_TIMES:
        misses_times = any(entries[position].pts is None for position in order)
        distance = MAX_REORDERED if container == "mpeg" and misses_times else 1
        if _contradicts_times(entries, order, distance):
            return None
    return order


def _contradicts_times(entries: Sequence[PacketEntry], order: Sequence[int], distance: int) -> bool:
    """Return whether a picture has no later time than the one that is `distance` places before it.

    The clock may jump at an access point.
    """
    last_jump = 0
    for rank, position in enumerate(order):
        if entries[position].is_access_point:
            last_jump = rank
        if rank - distance >= last_jump:
            earlier, later = entries[order[rank - distance]].pts, entries[position].pts
            if earlier is not None and later is not None and later <= earlier:
                return True
    return False


def _usable_access_points(entries: Sequence[PacketEntry], rank: dict[int, int]) -> list[int]:
    """Return the access points, except those with leading pictures that later pictures may refer to."""
    points: list[int] = []
    for position, entry in enumerate(entries):
        if entry.is_access_point:
            points.append(position)
        elif points and entry.is_reference and points[-1] and rank.get(position, len(rank)) < rank.get(points[-1], -1):
            points.pop()
    return points


def _head_packets(access_points: list[int], rank: dict[int, int]) -> range:
    """Return the packets before the first access point, and later packets that are output before it."""
    first = access_points[0]
    following = access_points[1] if len(access_points) > 1 else len(rank) + first + 1
    leading = [position for position in range(first + 1, following) if rank.get(position, first) < rank.get(first, -1)]
    return range(max(leading) + 1 if leading else first)
