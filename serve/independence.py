"""Determine which clips are independent: copies, parts of one video and takes of one group count once.

Confidence intervals depend on the number of independent clips. Clips with a common source video, group of a data set or
content are correlated, so resampling is by group (cluster bootstrap), and reports give the number of groups. Only this
module decides which clips form a group.

Clips are in one group if any of these is equal:

- the group their list declares,
- the SHA-256 of their content,
- the naming convention of their files: `source_of_name`,
- a pair that the caller found, e.g. by comparing pictures.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from serve.arrays import Int64Array

WORDS_OF_PIECES = "part|pt|piece|segment|seg|chunk|cut|clip|scene|shot|split|slice|window"
# Patterns of naming conventions; the first match is used.
CONVENTIONS: dict[str, re.Pattern[str]] = {
    # v_Archery_g01_c03: take 3 of group 1, which is one person or one source video
    "ucf101": re.compile(r"(?P<source>v_.+_g\d+)_c\d+"),
    # S001C002P003R002A013: one performance, seen by up to three cameras
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
    "pieces": re.compile(rf"(?P<source>.*\w)[._ (\[-]+(?:{WORDS_OF_PIECES})[._ -]*\d+[)\]]?", re.IGNORECASE),
}


LONGEST_NAME = 255  # of a file on common file systems; the patterns take time that grows with the square


@dataclass(frozen=True, kw_only=True)
class Independence:
    """Numbers of clips and of independent groups."""

    num_clips: int
    num_independent: int  # groups
    num_copies: int  # clips with the content of an earlier clip
    largest_group: int  # clips

    @property
    def has_dependent(self) -> bool:
        """Return whether some clips share a group."""
        return self.num_independent < self.num_clips


def source_of_name(name: str) -> str | None:
    """Return the source video or group in a file name, by the conventions of data sets, or None.

    Folders are ignored, so parts of one video in folders of several classes are in one group.

    >>> source_of_name("Archery/v_Archery_g01_c03.avi")
    'ucf101:v_Archery_g01'
    >>> source_of_name("abseiling/3vBb2lPFVLg_000012_000022.mp4")
    'kinetics:3vBb2lPFVLg'
    >>> source_of_name("holiday_part2.mov") == source_of_name("other class/holiday_part3.mov")
    True
    >>> source_of_name("clip_2.mp4")
    """
    stem = _stem(name)
    if len(stem) > LONGEST_NAME:
        return None
    for convention, pattern in CONVENTIONS.items():
        if match := pattern.fullmatch(stem):
            return f"{convention}:{match['source']}{match.groupdict().get('rest') or ''}"
    return None


def independent_groups(
    *,
    names: Sequence[str] = (),
    digests: Sequence[str | None] = (),
    declared: Sequence[str] = (),
    pairs: Iterable[tuple[int, int]] = (),
    source_of: Callable[[str], str | None] = source_of_name,
) -> Int64Array:
    """Return the group of each clip [N], numbered in order of appearance.

    Each given sequence has one item per clip; empty sequences, empty declared groups and digests that are None are
    ignored.

    >>> independent_groups(names=["a_part1.mp4", "a_part2.mp4", "b.mp4"], digests=["1", "2", "2"]).tolist()
    [0, 0, 0]

    Raises:
        ValueError: the sequences differ in length.
    """
    given = [sequence for sequence in (names, digests, declared) if len(sequence)]
    if len({len(sequence) for sequence in given}) > 1:
        raise ValueError(f"one item for each clip is needed, found {', '.join(str(len(each)) for each in given)}")
    joined = _DisjointSets(len(given[0]) if given else 0)
    joined.join_equal([source_of(name) for name in names])
    joined.join_equal([digest or None for digest in digests])
    joined.join_equal([group or None for group in declared])
    for one, other in pairs:
        joined.join(one, other)
    return joined.numbers()


def independence(groups: Int64Array, *, digests: Sequence[str | None] = ()) -> Independence:
    """Count the clips, groups and copies, for reports.

    >>> independence(independent_groups(digests=["1", "1", "2"]), digests=["1", "1", "2"])
    Independence(num_clips=3, num_independent=2, num_copies=1, largest_group=2)
    """
    known = [digest for digest in digests if digest]
    sizes = Counter(groups.tolist())
    return Independence(
        num_clips=len(groups),
        num_independent=len(sizes),
        num_copies=len(known) - len(set(known)),
        largest_group=max(sizes.values(), default=0),
    )


class _DisjointSets:
    """Disjoint sets of clips (union-find)."""

    def __init__(self, size: int) -> None:
        self._above = list(range(size))

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self._top(one), self._top(other)))
        self._above[second] = first

    def join_equal(self, keys: Sequence[Hashable | None]) -> None:
        """Join the clips whose keys are equal; None joins nothing."""
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            if key is not None:
                self.join(first.setdefault(key, index), index)

    def numbers(self) -> Int64Array:
        order: dict[int, int] = {}
        return np.array([order.setdefault(self._top(i), len(order)) for i in range(len(self._above))], np.int64)

    def _top(self, index: int) -> int:
        while self._above[index] != index:
            self._above[index] = self._above[self._above[index]]
            index = self._above[index]
        return index


def _stem(name: str) -> str:
    """Return the file name without folders and without the suffix of a video."""
    file = PurePosixPath(name.replace("\\", "/")).name
    stem, dot, suffix = file.rpartition(".")
    return stem if dot and stem and suffix.isalnum() and not suffix.isdecimal() and len(suffix) <= 5 else file
