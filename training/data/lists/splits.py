"""Which videos train and which are kept for evaluation: the same answer for the same videos, seed and shares.

Every class keeps its share in every part as closely as whole groups allow; a group (a person, a source film) never
lies in two parts.
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
    """The part of each row; `shares` of `val` and `test`, the rest trains.

    A list that names parts itself keeps them, and what it leaves open trains. `base` is the folder videos are named
    from, so that a set that was moved is split alike. `groups` numbers the rows that belong together; without it those
    are the groups that the list declares.
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
    """Rows by group; a group is called by the first of its names, whatever the order of the list."""
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
    """Videos of a class of `size` that a part should have: at least one where it can be spared."""
    return 0 if share <= 0 or size < 2 else min(size - 1, max(1, int(size * share + 0.5)))


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
