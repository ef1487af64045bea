"""Few-shot training lists: K entries of each class, the same for the same entries, K and seed."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from training.data.annotations import AnnotationError
from training.data.listings import Entry


def few_of_each(entries: Sequence[Entry], names: Sequence[str], *, shots: int, seed: int) -> list[Entry]:
    """`shots` entries of every class, in the order of the list; a larger K holds the smaller ones of its seed.

    Raises:
        AnnotationError: a class has fewer.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        members[entry.label].append(index)
    short = [name for label, name in enumerate(names) if len(members[label]) < shots]
    if short:
        raise AnnotationError(
            f"data.shots: {len(short)} classes have fewer than {shots} videos: {', '.join(short[:5])}"
        )
    chosen = set()
    for found in members.values():
        chosen |= set(sorted(found, key=lambda index: _order(entries[index], seed))[:shots])
    return [entry for index, entry in enumerate(entries) if index in chosen]


def _order(entry: Entry, seed: int) -> bytes:
    name = f"{entry.path.parent.name}/{entry.path.name}"  # a set that was moved is drawn alike
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
