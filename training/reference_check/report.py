"""Report of a reference check: the largest difference of each group of arrays, with its tolerance."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class ToleranceGroup:
    """Result of comparing a group of arrays with the same tolerance."""

    tolerance: float
    max_difference: float = 0.0
    worst_array: str = ""  # name of the array with the largest difference
    num_arrays: int = 0

    @property
    def passed(self) -> bool:
        """Return whether the largest difference is within the tolerance."""
        return self.max_difference <= self.tolerance


@dataclass
class ReferenceReport:
    """Results by group name; a tolerance of 0 requires equal arrays."""

    groups: dict[str, ToleranceGroup] = field(default_factory=dict)
    not_checked: list[str] = field(default_factory=list)
    checked_files: set[Path] = field(default_factory=set)

    def mark_if_exists(self, path: Path) -> bool:
        """Return whether a file exists; if so, mark it as checked."""
        exists = path.is_file()
        if exists:
            self.checked_files.add(path)
        return exists

    def mark_folder(self, folder: Path, *, exclude: Collection[str] = ()) -> None:
        """Mark all files in a folder as checked, except the names in `exclude`."""
        self.checked_files.update(path for path in folder.iterdir() if path.name not in exclude)

    def compare(self, group: str, name: str, actual: ArrayLike, expected: ArrayLike, *, tolerance: float) -> None:
        """Compare two arrays; different shapes and non-finite numbers count as an infinite difference."""
        entry = self.groups.setdefault(f"{group} (<= {tolerance:g})", ToleranceGroup(tolerance))
        actual, expected = np.asarray(actual), np.asarray(expected)
        max_difference = float("inf")
        if actual.shape == expected.shape:
            differences = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
            max_difference = float(differences.max()) if differences.size else 0.0
            max_difference = max_difference if np.isfinite(max_difference) else float("inf")
        entry.num_arrays += 1
        if max_difference > entry.max_difference or not entry.worst_array:
            entry.max_difference, entry.worst_array = max(max_difference, entry.max_difference), name

    @property
    def passed(self) -> bool:
        """Return whether anything was checked and all groups passed."""
        return bool(self.groups) and all(group.passed for group in self.groups.values())

    def show(self) -> None:
        """Print one line per group, the unchecked files, and a JSON line."""
        for name, group in sorted(self.groups.items()):
            result = "ok" if group.passed else "EXCEEDED"
            largest = f"largest {group.max_difference:.3g} ({group.worst_array})"
            print(f"{name:<44}{group.num_arrays:>7} arrays  {largest}  {result}")
        for name in self.not_checked:
            print(f"not checked: {name}")
        groups = {
            name: {
                "arrays": group.num_arrays,
                "largest": group.max_difference,
                "tolerance": group.tolerance,
                "passed": group.passed,
            }
            for name, group in self.groups.items()
        }
        print(json.dumps({"passed": self.passed, "groups": groups, "not_checked": self.not_checked}))
