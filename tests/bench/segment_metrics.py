"""How well found segments match known ones: F1 at an intersection over union, and the error of their boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[str, float, float]  # label, start and end in seconds


@dataclass(frozen=True, kw_only=True)
class SegmentFigures:
    """Figures over the segments of some videos."""

    num_known: int
    num_found: int
    num_matched: int
    boundary_errors: tuple[float, ...]  # seconds, of both boundaries of each matched segment

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if there is nothing to find and nothing was found."""
        both = self.num_known + self.num_found
        return 2 * self.num_matched / both if both else 1.0

    @property
    def boundary_error(self) -> float:
        """Mean over matched boundaries in seconds; NaN if nothing matched."""
        return sum(self.boundary_errors) / len(self.boundary_errors) if self.boundary_errors else float("nan")

    def __add__(self, other: "SegmentFigures") -> "SegmentFigures":
        return SegmentFigures(
            num_known=self.num_known + other.num_known,
            num_found=self.num_found + other.num_found,
            num_matched=self.num_matched + other.num_matched,
            boundary_errors=self.boundary_errors + other.boundary_errors,
        )


def overlap(first: Span, second: Span) -> float:
    """Intersection over union of two spans in time.

    >>> overlap(("a", 0.0, 2.0), ("a", 1.0, 3.0))
    0.3333333333333333
    """
    shared = min(first[2], second[2]) - max(first[1], second[1])
    union = max(first[2], second[2]) - min(first[1], second[1])
    return max(0.0, shared) / union if union > 0 else 0.0


def segment_figures(known: Sequence[Span], found: Sequence[Span], *, least_overlap: float = 0.5) -> SegmentFigures:
    """Match segments of the same label one to one, best overlap first.

    >>> figures = segment_figures([("a", 0, 4), ("b", 4, 8)], [("a", 0, 3), ("b", 4, 8), ("a", 6, 8)])
    >>> figures.f1, figures.boundary_error
    (0.8, 0.25)
    """
    pairs = sorted(
        (
            (overlap(one, other), i, j)
            for i, one in enumerate(known)
            for j, other in enumerate(found)
            if one[0] == other[0]
        ),
        key=lambda pair: -pair[0],
    )
    errors: list[float] = []
    used_known: set[int] = set()
    used_found: set[int] = set()
    for share, i, j in pairs:
        if share >= least_overlap and i not in used_known and j not in used_found:
            used_known.add(i)
            used_found.add(j)
            errors += [abs(known[i][1] - found[j][1]), abs(known[i][2] - found[j][2])]
    return SegmentFigures(
        num_known=len(known), num_found=len(found), num_matched=len(used_known), boundary_errors=tuple(errors)
    )
