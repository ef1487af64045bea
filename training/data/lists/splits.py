"""Which videos train and which are kept for evaluation: the same answer for the same videos, seed and shares.

Every class keeps its share in every part as closely as whole groups allow; a group (a person, a source film) never
lies in two parts.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.lists.listings import Row

PARTS = ("train", "val", "test")


def split_rows(rows: Sequence[Row], shares: Mapping[str, float], *, seed: int, base: Path) -> list[str]:
    """The part of each row; `shares` of `val` and `test`, the rest trains.

    A list that names parts itself keeps them, and what it leaves open trains. `base` is the folder videos are named
    from, so that a set that was moved is split alike.
    """
    if any(row.split for row in rows):
        return [row.split or "train" for row in rows]
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        members[f"group {row.group}" if row.group else f"video {_relative(row.path, base)}"].append(index)
    order = sorted(
        members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode(errors="surrogateescape")).digest()
    )
    parts = ["train"] * len(rows)
    sizes = Counter(row.name for row in rows)
    open_groups = order
    for part in ("test", "val"):
        missing = {name: _wanted(size, shares.get(part, 0.0)) for name, size in sizes.items()}
        left = []
        for group in open_groups:
            counts = Counter(rows[index].name for index in members[group])
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


def _wanted(size: int, share: float) -> int:
    """Videos of a class of `size` that a part should have: at least one where it can be spared."""
    return 0 if share <= 0 or size < 2 else min(size - 1, max(1, int(size * share + 0.5)))


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
