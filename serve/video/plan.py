"""Which packets are decoded for the wanted frames."""

from collections.abc import Sequence

from serve.video.containers import TRUSTED_TIMES
from serve.video.packet_index import Entry


def presentation_order(entries: Sequence[Entry], container: str) -> list[int] | None:
    """Positions of the shown packets by presentation time; None where the times cannot be trusted."""
    shown = [position for position, entry in enumerate(entries) if entry.is_shown]
    times = [entries[position].pts for position in shown]
    if container not in TRUSTED_TIMES or not times or None in times or len(set(times)) != len(times):
        return None
    return sorted(shown, key=lambda position: entries[position].pts or 0)


def runs(entries: Sequence[Entry], wanted: list[int]) -> list[range]:
    """Stretches of packets to decode, each from a key frame to the last wanted packet of it.

    A wanted picture shown before the key frame that precedes it (a leading picture) needs the key frame before that.
    """
    keys = [position for position, entry in enumerate(entries) if entry.is_key]
    found: list[range] = []
    for position in sorted(wanted):
        pts = entries[position].pts or 0
        before = [key for key in keys if key <= position]
        start = next((key for key in reversed(before) if (entries[key].pts or 0) <= pts), 0)
        if found and start < found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, position + 1))
        else:
            found.append(range(start, position + 1))
    return found
