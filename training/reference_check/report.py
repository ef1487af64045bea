"""Report of a reference check: the largest difference of each group of arrays, with its tolerance."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class ToleranceGroup:
    """Arrays compared with one tolerance."""

    tolerance: float
    largest: float = 0.0
    worst: str = ""
    arrays: int = 0

    @property
    def is_passed(self) -> bool:
        """Return whether the largest difference is within the tolerance."""
        return self.largest <= self.tolerance


@dataclass
class ReferenceReport:
    """Groups by name; a tolerance of 0 means exact."""

    groups: dict[str, ToleranceGroup] = field(default_factory=dict)
    not_checked: list[str] = field(default_factory=list)
    taken: set[Path] = field(default_factory=set)  # files that a check has read

    def takes(self, path: Path) -> bool:
        """Return whether a file exists, and mark it as checked."""
        if path.is_file():
            self.taken.add(path)
        return path.is_file()

    def take_folder(self, folder: Path, *, but: Collection[str] = ()) -> None:
        """Mark all files of a folder as checked, except for `but`."""
        self.taken.update(path for path in folder.iterdir() if path.name not in but)

    def compare(self, group: str, name: str, found: ArrayLike, expected: ArrayLike, *, tolerance: float) -> None:
        """Compare two arrays; different shapes and non-finite numbers count as an infinite difference."""
        entry = self.groups.setdefault(f"{group} (<= {tolerance:g})", ToleranceGroup(tolerance))
        found, expected = np.asarray(found), np.asarray(expected)
        difference = float("inf")
        if found.shape == expected.shape:
            gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
            difference = float(gap.max()) if gap.size else 0.0
            difference = difference if np.isfinite(difference) else float("inf")
        entry.arrays += 1
        if difference > entry.largest or not entry.worst:
            entry.largest, entry.worst = max(difference, entry.largest), name

    @property
    def is_passed(self) -> bool:
        """Return whether anything was checked and all groups passed."""
        return bool(self.groups) and all(group.is_passed for group in self.groups.values())

    def show(self) -> None:
        """Print one line per group, the unchecked files, and a JSON line."""
        for name, group in sorted(self.groups.items()):
            verdict = "ok" if group.is_passed else "EXCEEDED"
            print(f"{name:<44}{group.arrays:>7} arrays  largest {group.largest:.3g} ({group.worst})  {verdict}")
        for name in self.not_checked:
            print(f"not checked: {name}")
        facts = {
            name: {
                "arrays": group.arrays,
                "largest": group.largest,
                "tolerance": group.tolerance,
                "passed": group.is_passed,
            }
            for name, group in self.groups.items()
        }
        print(json.dumps({"passed": self.is_passed, "groups": facts, "not_checked": self.not_checked}))
