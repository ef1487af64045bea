"""Group clips that are not independent of each other: copies, parts of one video, takes of one recording session.

Confidence intervals depend on the number of independent clips. Clips with the same source video, dataset group or
content are correlated, so resampling is by group (cluster bootstrap), and reports state the number of groups. All code
that needs groups uses this module.

Two clips are in the same group if

- their list declares the same group for both,
- the SHA-256 of their content is equal,
- their file names refer to the same source (`source_of_name`), or
- the caller names them as a pair, e.g. because their frames are nearly equal.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from serve.arrays import Int64Array

PIECE_WORDS = "part|pt|piece|segment|seg|chunk|cut|clip|scene|shot|split|slice|window"
# Patterns of naming conventions; the first match is used.
CONVENTIONS: dict[str, re.Pattern[str]] = {
    # v_Archery_g01_c03: clip 3 of group 1; a group has the same person or source video
    "ucf101": re.compile(r"(?P<source>v_.+_g\d+)_c\d+"),
    # S001C002P003R002A013: one performance, recorded by up to three cameras (C)
    "ntu": re.compile(r"(?P<source>S\d{3})C\d{3}(?P<rest>P\d{3}R\d{3}A\d{3})(_.*)?"),
    # April_09_brush_hair_u_nm_np1_ba_goo_0: visible body part, camera motion, people, direction, quality, number
    "hmdb51": re.compile(r"(?P<source>.+)_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+"),
    # 3vBb2lPFVLg_000012_000022: seconds 12 to 22 of a video
    "kinetics": re.compile(r"(?P<source>.+)_\d{6}_\d{6}"),
    # match_12.5-17, match_t0012_to_t0017: a range of times
    "times": re.compile(
        r"(?P<source>.*?\w)[._ -]+t?\d{1,6}(?:[.,]\d+)?s?(?:-|_to_)t?\d{1,6}(?:[.,]\d+)?s?", re.IGNORECASE
    ),
    # match_part2, match-clip03, match (scene 4): a piece with a number
    "pieces": re.compile(rf"(?P<source>.*\w)[._ (\[-]+(?:{PIECE_WORDS})[._ -]*\d+[)\]]?", re.IGNORECASE),
}

MAX_NAME_CHARS = 255  # limit of common file systems; the time to match a pattern is quadratic in the length


@dataclass(frozen=True, kw_only=True)
class GroupCounts:
    """Numbers of clips and of independent groups."""

    num_clips: int
    num_independent: int  # number of groups; the clips of one group depend on each other
    num_copies: int  # number of clips with the same content as an earlier clip
    largest_group: int  # number of clips

    @property
    def has_dependent_clips(self) -> bool:
        """Whether some clips share a group."""
        return self.num_independent < self.num_clips


def source_of_name(name: str) -> str | None:
    """Return the source video or group that is encoded in a file name by one of `CONVENTIONS`, or None.

    Folders are ignored, so parts of one video that are in folders of different classes have the same source.

    >>> source_of_name("Archery/v_Archery_g01_c03.avi")
    'ucf101:v_Archery_g01'
    >>> source_of_name("abseiling/3vBb2lPFVLg_000012_000022.mp4")
    'kinetics:3vBb2lPFVLg'
    >>> source_of_name("holiday_part2.mov") == source_of_name("other class/holiday_part3.mov")
    True
    >>> source_of_name("clip_2.mp4") is None  # nothing remains before the word for a piece
    True
    """
    stem = _stem(name)
    if len(stem) > MAX_NAME_CHARS:
        return None
    for convention, pattern in CONVENTIONS.items():
        if match := pattern.fullmatch(stem):
            return f"{convention}:{match['source']}{match.groupdict().get('rest') or ''}"
    return None


def assign_groups(
    *,
    names: Sequence[str] = (),
    digests: Sequence[str | None] = (),
    declared: Sequence[str] = (),
    pairs: Iterable[tuple[int, int]] = (),
    source_of: Callable[[str], str | None] = source_of_name,
) -> Int64Array:
    """Return the group index of each clip [N]; groups are numbered in order of first appearance.

    Each non-empty sequence must have one item per clip. Empty declared groups and digests that are None are ignored.

    >>> assign_groups(names=["a_part1.mp4", "a_part2.mp4", "b.mp4"], digests=["1", "2", "2"]).tolist()
    [0, 0, 0]

    Raises:
        ValueError: the sequences differ in length.
    """
    sequences = [sequence for sequence in (names, digests, declared) if len(sequence)]
    if len({len(sequence) for sequence in sequences}) > 1:
        raise ValueError(
            f"the sequences must have equal lengths, got {', '.join(str(len(sequence)) for sequence in sequences)}"
        )
    sets = _DisjointSets(len(sequences[0]) if sequences else 0)
    sets.union_by_key([source_of(name) for name in names])
    sets.union_by_key([digest or None for digest in digests])
    sets.union_by_key([group or None for group in declared])
    for one, other in pairs:
        sets.union(one, other)
    return sets.group_indices()


def count_groups(groups: Int64Array, *, digests: Sequence[str | None] = ()) -> GroupCounts:
    """Count the clips, groups and copies.

    >>> count_groups(assign_groups(digests=["1", "1", "2"]), digests=["1", "1", "2"])
    GroupCounts(num_clips=3, num_independent=2, num_copies=1, largest_group=2)
    """
    known_digests = [digest for digest in digests if digest]
    sizes = Counter(groups.tolist())
    return GroupCounts(
        num_clips=len(groups),
        num_independent=len(sizes),
        num_copies=len(known_digests) - len(set(known_digests)),
        largest_group=max(sizes.values(), default=0),
    )


class _DisjointSets:
    """Disjoint sets of clips (union-find)."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def union(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parents[second] = first

    def union_by_key(self, keys: Sequence[Hashable | None]) -> None:
        """Unite the clips whose keys are equal; None is ignored."""
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            if key is not None:
                self.union(first.setdefault(key, index), index)

    def group_indices(self) -> Int64Array:
        order: dict[int, int] = {}
        return np.array([order.setdefault(self._root(i), len(order)) for i in range(len(self._parents))], np.int64)

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index


def _stem(name: str) -> str:
    """Return the file name without folders and without a video suffix."""
    file = PurePosixPath(name.replace("\\", "/")).name
    stem, dot, suffix = file.rpartition(".")
    return stem if dot and stem and suffix.isalnum() and not suffix.isdecimal() and len(suffix) <= 5 else file
