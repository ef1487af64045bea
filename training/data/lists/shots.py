"""Sample K examples of each class, deterministic by videos and seed.

Each class is sorted by a hash of the seed and the last two parts of the path, and the first K are its shots. So the 4
shots of a seed include its 2 shots, and the folder of the videos, the order of the list and other classes have no
influence.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.lists.rows import Entry


@dataclass(frozen=True, kw_only=True)
class ShotSample:
    """The shots of one seed and one K, as indices of entries."""

    seed: int
    shots: int  # K
    chosen: tuple[int, ...]  # by label, each in sampled order
    rest: tuple[int, ...]  # videos that are not a shot of this seed for any K
    short: Mapping[int, int]  # label -> number of shots, if fewer than K


def sample_shots(
    entries: Sequence[Entry], num_classes: int, *, shots: Sequence[int], seed: int, spared: int
) -> list[ShotSample]:
    """Sample the shots for each K; at least `spared` videos per class are never shots."""
    orders = [_order(entries, label, seed=seed) for label in range(num_classes)]
    free = [order[: max(0, len(order) - spared)] for order in orders]
    taken = {index for order in free for index in order[: max(shots)]}
    rest = tuple(index for index in range(len(entries)) if index not in taken)
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
    """Return K entries per class to train on.

    Raises:
        AnnotationError: a class has fewer entries.
    """
    (draw,) = sample_shots(entries, len(names), shots=[shots], seed=seed, spared=0)
    if draw.short:
        short_classes = ", ".join(f"{names[label]} ({count})" for label, count in list(draw.short.items())[:5])
        raise AnnotationError(f"data.shots: {len(draw.short)} classes have fewer than {shots} videos: {short_classes}")
    return [entries[index] for index in draw.chosen]


def _order(entries: Sequence[Entry], label: int, *, seed: int) -> list[int]:
    """Return the indices of a class's entries in sampled order."""
    members = [index for index, entry in enumerate(entries) if entry.label == label]
    return sorted(members, key=lambda index: _hash(entries[index].path, seed))


def _hash(path: Path, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{path.parent.name}/{path.name}".encode(errors="surrogateescape")).digest()
