"""K examples of each class, the same ones for the same videos and seed, on every machine.

Each class is ordered by a hash of the seed and the last two parts of the path, and K shots are its first K. So draws
are balanced, the 4 shots of a seed hold its 2 shots, and neither where the videos lie, nor the order of the list, nor a
class more changes anything.

VideoSet of one group depend on each other: none is judged by a video of a group that a shot has, and whole groups are
spared.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.lists.rows import Entry


@dataclass(frozen=True, kw_only=True)
class ShotSample:
    """The shots of one seed and one K, by place in the entries."""

    seed: int
    shots: int  # K
    chosen: tuple[int, ...]  # label by label, each in the order it was drawn
    rest: tuple[int, ...]  # videos of groups that no draw of this seed takes from, whatever its K
    short: Mapping[int, int]  # label -> shots it has, where they are fewer than K


def sample_shots(
    entries: Sequence[Entry],
    num_classes: int,
    *,
    shots: Sequence[int],
    seed: int,
    spared: int,
    groups: Sequence[int] | None = None,
) -> list[ShotSample]:
    """A draw of each K; every class keeps at least `spared` groups that no draw takes from.

    `groups` numbers the entries that depend on each other; without it every entry is its own group.
    """
    group = range(len(entries)) if groups is None else groups
    orders = [_order(entries, label, seed=seed) for label in range(num_classes)]
    kept = {number for order in orders for number in _last_groups(order, group, spared)}
    free = [[index for index in order if group[index] not in kept] for order in orders]
    taken = {group[index] for order in free for index in order[: max(shots)]}
    rest = tuple(index for index in range(len(entries)) if group[index] not in taken)
    return [
        ShotSample(
            seed=seed,
            shots=count,
            chosen=tuple(index for order in free for index in order[:count]),
            rest=rest,
            short={label: len(order) for label, order in enumerate(free) if len(order) < count},
        )
        for count in sorted(set(shots))
    ]


def sample_shots_to_train(entries: Sequence[Entry], names: Sequence[str], *, shots: int, seed: int) -> list[Entry]:
    """The entries of a draw, for training on them alone.

    Raises:
        AnnotationError: a class has fewer.
    """
    (draw,) = sample_shots(entries, len(names), shots=[shots], seed=seed, spared=0)
    if draw.short:
        short_classes = ", ".join(f"{names[label]} ({count})" for label, count in list(draw.short.items())[:5])
        raise AnnotationError(f"data.shots: {len(draw.short)} classes have fewer than {shots} videos: {short_classes}")
    return [entries[index] for index in draw.chosen]


def _last_groups(order: Sequence[int], group: Sequence[int], count: int) -> list[int]:
    """The last `count` groups of entries in an order."""
    return list(dict.fromkeys(group[index] for index in reversed(order)))[:count]


def _order(entries: Sequence[Entry], label: int, *, seed: int) -> list[int]:
    """Places of a class's entries in the order they are drawn."""
    members = [index for index, entry in enumerate(entries) if entry.label == label]
    return sorted(members, key=lambda index: _hash(entries[index].path, seed))


def _hash(path: Path, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{path.parent.name}/{path.name}".encode(errors="surrogateescape")).digest()
