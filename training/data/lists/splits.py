"""Split videos into train, val and test; deterministic by videos, seed and shares.

Each class has its share in each part as closely as whole groups allow; a group (a person, a source film) is never in
two parts.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.lists.rows import ListRow

PARTS = ("train", "val", "test")


def split_rows(
    rows: Sequence[ListRow], shares: Mapping[str, float], *, seed: int, base: Path, groups: Sequence[int] | None = None
) -> list[str]:
    """Return the part of each row; `shares` are those of `val` and `test`, the rest is train.

    Parts named in the list are kept; its other rows are train. Paths are taken relative to `base`, so that a moved set
    has the same split. `groups` are group numbers of the rows; by default those that the list declares.
    """
    if any(row.split for row in rows):
        return [row.split or "train" for row in rows]
    members = _members(rows, groups, base)
    order = sorted(
        members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode(errors="surrogateescape")).digest()
    )
    parts = ["train"] * len(rows)
    sizes = Counter(map(_class_of, rows))
    open_groups = order
    for part in ("test", "val"):
        missing = {name: _wanted(size, shares.get(part, 0.0)) for name, size in sizes.items()}
        left = []
        for group in open_groups:
            counts = Counter(_class_of(rows[index]) for index in members[group])
            gain = sum(min(count, max(0, missing[name])) for name, count in counts.items())
            if 2 * gain <= counts.total():
                left.append(group)
                continue
            for index in members[group]:
                parts[index] = part
            for name, count in counts.items():
                missing[name] -= count
        open_groups = left
    return parts


def _class_of(row: ListRow) -> str | int | None:
    return row.label if row.name is None else row.name


def _members(rows: Sequence[ListRow], groups: Sequence[int] | None, base: Path) -> dict[str, list[int]]:
    """Return rows by group; the name of a group is the first of its sorted names."""
    own = [f"group {row.group}" if row.group else f"video {_relative(row.path, base)}" for row in rows]
    if groups is None:
        keys = own
    else:
        name_of: dict[int, str] = {}
        for name, number in zip(own, groups, strict=True):
            name_of[number] = min(name, name_of.get(number, name))
        keys = [name_of[number] for number in groups]
    found: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        found[key].append(index)
    return found


def _wanted(size: int, share: float) -> int:
    """Return the target number of videos of a class of `size` in a part; at least one if possible."""
    return 0 if share <= 0 or size < 2 else min(size - 1, max(1, int(size * share + 0.5)))


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
