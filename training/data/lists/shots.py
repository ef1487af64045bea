"""Sample K videos (shots) of each class; the sample depends only on the videos and the seed.

The videos of each class are ordered by a hash of the seed and the last two parts of the path, and the shots are the
first K of them. So samples are balanced and nested (the 4 shots of a seed contain its 2 shots), and they do not depend
on the folder of the videos, the order of the list, or added classes.

Videos of one group are not independent: a group that contains a shot is never used for evaluation, and groups are held
out as a whole.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.lists.rows import Entry


@dataclass(frozen=True, kw_only=True)
class ShotSample:
    """The shots for one seed and one K, as indices into the entries."""

    seed: int
    shots: int  # K
    chosen: tuple[int, ...]  # label by label, each in sampling order
    remaining: tuple[int, ...]  # videos of groups without a shot in any sample of this seed
    num_available: Mapping[int, int]  # label -> number of shots, for labels with fewer than K


def sample_shots(
    entries: Sequence[Entry],
    num_classes: int,
    *,
    shots: Sequence[int],
    seed: int,
    num_held_out_groups: int,
    groups: Sequence[int] | None = None,
) -> list[ShotSample]:
    """Return one sample per K in `shots`; at least `num_held_out_groups` groups of each class contain no shot.

    `groups` are the group ids of the entries; entries with the same id are not independent. By default, each entry is
    a group of its own.
    """
    group_ids = range(len(entries)) if groups is None else groups
    orders = [_sampling_order(entries, label, seed=seed) for label in range(num_classes)]
    held_out = {group for order in orders for group in _last_groups(order, group_ids, num_held_out_groups)}
    candidates = [[index for index in order if group_ids[index] not in held_out] for order in orders]
    used_groups = {group_ids[index] for order in candidates for index in order[: max(shots)]}
    remaining = tuple(index for index in range(len(entries)) if group_ids[index] not in used_groups)
    return [
        ShotSample(
            seed=seed,
            shots=count,
            chosen=tuple(index for order in candidates for index in order[:count]),
            remaining=remaining,
            num_available={label: len(order) for label, order in enumerate(candidates) if len(order) < count},
        )
        for count in sorted(set(shots))
    ]


def sample_shots_to_train(entries: Sequence[Entry], names: Sequence[str], *, shots: int, seed: int) -> list[Entry]:
    """Return `shots` entries of each class, to train on them only.

    Raises:
        AnnotationError: a class has fewer than `shots` videos.
    """
    (sample,) = sample_shots(entries, len(names), shots=[shots], seed=seed, num_held_out_groups=0)
    if sample.num_available:
        num_classes = len(sample.num_available)
        counts = ", ".join(f"{names[label]} ({count})" for label, count in list(sample.num_available.items())[:5])
        raise AnnotationError(f"data.shots: {num_classes} classes have fewer than {shots} videos: {counts}")
    return [entries[index] for index in sample.chosen]


def _last_groups(order: Sequence[int], group_ids: Sequence[int], count: int) -> list[int]:
    """Return the last `count` distinct groups of the entries in an order."""
    return list(dict.fromkeys(group_ids[index] for index in reversed(order)))[:count]


def _sampling_order(entries: Sequence[Entry], label: int, *, seed: int) -> list[int]:
    """Return the indices of the entries of a class in the order in which they are sampled."""
    members = [index for index, entry in enumerate(entries) if entry.label == label]
    return sorted(members, key=lambda index: _path_hash(entries[index].path, seed))


def _path_hash(path: Path, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{path.parent.name}/{path.name}".encode(errors="surrogateescape")).digest()
