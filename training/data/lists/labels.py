"""Convert rows to entries: determine the classes and the label of each row.

Labels of lists of numbers start at the same number as the ids of the class list, 0 or 1. A list that seems to start at
1 although the ids start at 0 or are missing is refused unless `first_label` is given.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import is_number
from serve.text.normalization import caseless_form
from training.data.lists.class_lists import ClassList, read_class_list
from training.data.lists.rows import Entry, Listing, ListRow

SHOWN = 5


class OneBasedLabelsError(AnnotationError):
    """Labels run from 1, but the ids of the class list start at 0 or are missing."""


@dataclass(frozen=True, kw_only=True)
class IndexedRows:
    """Class names, and rows with labels from 0."""

    names: tuple[str, ...]
    rows: list[ListRow]
    first_label: int | None = None  # first label of the list; None if it names its classes


def index_labels(
    rows: Sequence[ListRow],
    listing: Listing,
    classes: Path | Sequence[str] | None = None,
    *,
    first_label: int | None = None,
) -> IndexedRows:
    """Determine the class names of a listing and convert the labels of its rows to count from 0.

    `classes` is a class list or its names; without it the classes are those of the listing.

    Raises:
        AnnotationError: there are no class names, classes are numbers, or the numbers are out of range.
    """
    known = class_list(listing, classes)
    if known is None:
        result = IndexedRows(names=_names_of_rows(listing.rows), rows=list(rows))
    elif listing.class_names or listing.kind == "ntu":  # labels already count from 0
        result = IndexedRows(names=known.names, rows=_of_published(rows, listing, known))
    else:
        counted = [_as_number(row, known.names) for row in rows]
        numbers = [row for row in counted if row.name is None]
        if not numbers:
            result = IndexedRows(names=known.names, rows=counted)
        else:
            first = _first_label(numbers, known, first_label)
            moved = [row if row.name is not None else replace(row, label=(row.label or 0) - first) for row in counted]
            return IndexedRows(names=known.names, rows=moved, first_label=first)
    if first_label is not None:
        raise AnnotationError(f"--first-label is for lists of numbers; {listing.path} ({listing.kind}) has names")
    return result


def index_labels_like(
    other: IndexedRows, rows: Sequence[ListRow], listing: Listing, classes: Path | Sequence[str] | None = None
) -> list[ListRow]:
    """Convert the labels of another list of the same data set, with the class names of the first.

    Raises:
        AnnotationError: as for `index_labels`.
    """
    has_numbers = any(row.name is None or is_number(row.name) for row in rows)
    read = index_labels(rows, listing, classes or other.names, first_label=other.first_label if has_numbers else None)
    return with_known_names(read.rows, other.names)


def index_labels_together(
    listings: Sequence[Listing], classes: Path | Sequence[str] | None, *, first_label: int | None
) -> list[IndexedRows]:
    """Convert the labels of several lists of one data set, such as its parts, with one class list.

    All lists of a set have the same first label, even if class 0 is not in each; without a class list the classes are
    those of all lists together.

    Raises:
        AnnotationError: as for `index_labels`.
    """
    if classes is None and all(row.name is not None for listing in listings for row in listing.rows):
        classes = _names_of_rows([row for listing in listings for row in listing.rows]) if listings else None
    has_zero = any(row.label == 0 or row.name == "0" for listing in listings for row in listing.rows)
    found = []
    for listing in listings:
        try:
            read = index_labels(listing.rows, listing, classes, first_label=first_label)
        except OneBasedLabelsError:
            if not has_zero:
                raise
            read = index_labels(listing.rows, listing, classes, first_label=0)
        found.append(read)
    return found


def class_list(listing: Listing, classes: Path | Sequence[str] | None) -> ClassList | None:
    """Return the class list, or None if the rows name the classes.

    Raises:
        AnnotationError: a list of numbers has no class list.
    """
    if isinstance(classes, Path):
        return read_class_list(classes)
    if classes is not None:
        return ClassList(names=tuple(classes), first_id=None, form="given")
    if listing.class_names and any(row.name is None for row in listing.rows):
        return ClassList(names=listing.class_names, first_id=0, form=listing.kind)
    if not listing.rows:
        raise AnnotationError(f"{listing.path}: the list is empty")
    if all(row.name is None for row in listing.rows):
        raise AnnotationError(
            f"{listing.path}: lists of numbers need the class names: a CSV `id,name` or another class list "
            "(--classes, data.classes)"
        )
    return None


def refuse_numbers_as_names(rows: Sequence[ListRow]) -> None:
    """Refuse a list whose classes are all numbers, which would become prompts.

    Raises:
        AnnotationError: names the first one.
    """
    if rows and all(row.name is not None and is_number(row.name) for row in rows):
        raise AnnotationError(
            f"{rows[0].place}: the classes are numbers, such as {rows[0].name}; numbers are not prompts; give the "
            "class names: a CSV `id,name` or another class list (--classes, data.classes)"
        )


def labelled(rows: Sequence[ListRow], names: Sequence[str]) -> list[ListRow]:
    """Return the rows with labels for names; None if the class list does not have the name."""
    number_of = {name: number for number, name in enumerate(names)}
    return [row if row.name is None else replace(row, label=number_of.get(row.name)) for row in rows]


def with_known_names(rows: Sequence[ListRow], names: Sequence[str]) -> list[ListRow]:
    """Return rows with names in the spelling of the class list, ignoring case and separators."""
    known = {caseless_form(name): name for name in reversed(names)}
    return [
        row if row.name is None else replace(row, name=known.get(caseless_form(row.name), row.name)) for row in rows
    ]


def entries_of(rows: Sequence[ListRow], names: Sequence[str]) -> list[Entry]:
    """Return rows as entries.

    Raises:
        AnnotationError: there are none, or labels are outside the class list.
    """
    found = labelled(rows, names)
    outside = [row for row in found if row.label is None or not 0 <= row.label < len(names)]
    if outside:
        shown = ", ".join(f"{row.place}: {row.name if row.name is not None else row.label}" for row in outside[:SHOWN])
        raise AnnotationError(f"{len(outside)} labels outside the class list of {len(names)} ({shown})")
    if not found:
        raise AnnotationError("the list is empty")
    return [Entry(path=row.path, label=row.label or 0, num_frames=row.num_frames, group=row.group) for row in found]


def names_of(rows: Sequence[ListRow]) -> list[str]:
    """Return the class names of the rows, sorted."""
    return sorted({row.name for row in rows if row.name is not None})


def classes_without_videos(rows: Sequence[ListRow], names: Sequence[str]) -> list[str]:
    """Return the classes without a row."""
    seen = {row.label for row in labelled(rows, names)}
    return [name for number, name in enumerate(names) if number not in seen]


def _names_of_rows(rows: Sequence[ListRow]) -> tuple[str, ...]:
    """Return the class names of the rows of all parts.

    Raises:
        AnnotationError: all names are numbers, or two differ only in case, spaces, dashes and underscores.
    """
    refuse_numbers_as_names(rows)
    names = names_of(rows)
    counts = Counter(map(_spelling, names))
    alike = [name for name in names if counts[_spelling(name)] > 1]
    if alike:
        first = [next(row for row in rows if row.name == name) for name in alike]
        shown = "; ".join(f"{row.place}: {row.name!r}" for row in first[:SHOWN])
        raise AnnotationError(
            f"class names that read the same ({shown}); spell them alike, or give a class list that names both"
        )
    return tuple(names)


def _spelling(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", caseless_form(name))


def _as_number(row: ListRow, names: Sequence[str]) -> ListRow:
    """Convert a numeric name to a label, unless a class has this name."""
    if row.name is None or row.name in names or not row.name.isascii() or not row.name.isdecimal():
        return row
    return replace(row, name=None, label=int(row.name))


def _first_label(rows: Sequence[ListRow], known: ClassList, asked: int | None) -> int:
    """Return the first label.

    Raises:
        AnnotationError: labels start below it, or seem to start at 1. `entries_of` checks the upper bound.
    """
    size, labels = len(known.names), sorted({row.label for row in rows if row.label is not None})
    lowest, highest = labels[0], labels[-1]
    first = asked if asked is not None else known.first_id or 0
    if lowest < first:
        row = next(row for row in rows if row.label == lowest)
        raise AnnotationError(
            f"{row.place}: the label {lowest}, where the {'ids of the class list' if asked is None else 'labels'} "
            f"start at {first}"
        )
    if first == 0 and lowest >= 1 and highest == size and asked is None:
        row = next(row for row in rows if row.label == highest)
        raise AnnotationError(
            f"{row.place}: the label {highest} is outside the class list of {size} and class 0 is not used, so labels "
            "seem to count from 1: give --first-label 1 (data.first_label)"
        )
    is_from_one = lowest == 1 and first == 0 and len(labels) > 1 and labels == list(range(1, highest + 1))
    if is_from_one and asked is None:
        raise OneBasedLabelsError(
            f"{rows[0].place}: the labels run from 1 to {highest} and class 0 ({known.names[0]!r}) is not used, so "
            "they seem to count from 1; give --first-label 0 or 1 (data.first_label)"
        )
    return first


def _of_published(rows: Sequence[ListRow], listing: Listing, known: ClassList) -> list[ListRow]:
    """Return the rows of a published data set with the names of a class list.

    Raises:
        AnnotationError: the class list has another number of classes.
    """
    if listing.class_names and all(row.name is None for row in rows) and len(known.names) != len(listing.class_names):
        raise AnnotationError(
            f"{listing.kind} has {len(listing.class_names)} classes here, the class list names {len(known.names)}"
        )
    return with_known_names(rows, known.names)
