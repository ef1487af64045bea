"""Split videos into train, val and test; the result depends only on the videos, the seed and the fractions.

Each class has the requested fraction in each split, as closely as possible without dividing a group: videos of a group
(for example, of one person or one film) are always in the same split.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.lists.rows import ListRow


def split_rows(
    rows: Sequence[ListRow],
    fractions: Mapping[str, float],
    *,
    seed: int,
    base: Path,
    groups: Sequence[int] | None = None,
) -> list[str]:
    """Return the split of each row.

    `fractions` are those of `val` and `test`; the remaining rows are `train`. If the list contains splits, they are
    returned, and rows without a split are `train`. Paths are used relative to `base`, so that moving the data set does
    not change the result. `groups` are group ids of the rows; by default, the groups that the list declares.
    """
    if any(row.split for row in rows):
        return [row.split or "train" for row in rows]
    members = _group_rows(rows, groups, base)
    order = sorted(
        members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode(errors="surrogateescape")).digest()
    )
    splits = ["train"] * len(rows)
    class_sizes = Counter(map(_row_class, rows))
    unassigned = order
    for split in ("test", "val"):
        missing = {name: _target_size(size, fractions.get(split, 0.0)) for name, size in class_sizes.items()}
        skipped = []
        for group in unassigned:
            counts = Counter(_row_class(rows[index]) for index in members[group])
            num_useful = sum(min(count, max(0, missing[name])) for name, count in counts.items())
            if 2 * num_useful <= counts.total():  # at least half of the group would exceed the targets
                skipped.append(group)
                continue
            for index in members[group]:
                splits[index] = split
            for name, count in counts.items():
                missing[name] -= count
        unassigned = skipped
    return splits


def _row_class(row: ListRow) -> str | int | None:
    return row.label if row.name is None else row.name


def _group_rows(rows: Sequence[ListRow], groups: Sequence[int] | None, base: Path) -> dict[str, list[int]]:
    """Return the row indices of each group; a group is named after the alphabetically first name of its rows."""
    row_names = [f"group {row.group}" if row.group else f"video {_relative_path(row.path, base)}" for row in rows]
    if groups is None:
        keys = row_names
    else:
        group_names: dict[int, str] = {}
        for name, group in zip(row_names, groups, strict=True):
            group_names[group] = min(name, group_names.get(group, name))
        keys = [group_names[group] for group in groups]
    members: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    return members


def _target_size(class_size: int, fraction: float) -> int:
    """Return how many videos of a class a split should contain.

    The split gets at least one video and never all of them. It gets none if the fraction is 0 or the class has a single
    video.
    """
    return 0 if fraction <= 0 or class_size < 2 else min(class_size - 1, max(1, int(class_size * fraction + 0.5)))


def _relative_path(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
