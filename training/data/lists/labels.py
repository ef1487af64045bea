"""From rows to entries: which classes there are, and which class each row means.

Labels of lists of numbers count as the ids of the class list do, from 0 or from 1. A list that seems to count from 1
where the class list has no ids, or has them from 0, is refused until `first_label` says how it counts.
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
    """A list whose labels run from 1, under a class list whose ids start at 0 or that has none."""


@dataclass(frozen=True, kw_only=True)
class IndexedRows:
    """Class names, and rows whose numbers count from 0."""

    names: tuple[str, ...]
    rows: list[ListRow]
    first_label: int | None = None  # what the list counts from; None where it names its classes


def index_labels(
    rows: Sequence[ListRow],
    listing: Listing,
    classes: Path | Sequence[str] | None = None,
    *,
    first_label: int | None = None,
) -> IndexedRows:
    """Find the class names of a listing and count the labels of its rows from 0.

    `classes` is a class list or its names; without it the classes are those of the listing.

    Raises:
        AnnotationError: there are no class names, numbers stand where names are needed, or the numbers do not fit.
    """
    known = class_list(listing, classes)
    if known is None:
        result = IndexedRows(names=_names_of_rows(listing.rows), rows=list(rows))
    elif listing.class_names or listing.kind == "ntu":  # the reader of the data set has counted already
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
        raise AnnotationError(f"--first-label is for lists of numbers; {listing.path} ({listing.kind}) needs none")
    return result


def index_labels_like(
    other: IndexedRows, rows: Sequence[ListRow], listing: Listing, classes: Path | Sequence[str] | None = None
) -> list[ListRow]:
    """Count the labels of a further list of the same data set as those of another one, under its class names.

    Raises:
        AnnotationError: as for `index_labels`.
    """
    has_numbers = any(row.name is None or is_number(row.name) for row in rows)
    read = index_labels(rows, listing, classes or other.names, first_label=other.first_label if has_numbers else None)
    return with_known_names(read.rows, other.names)


def index_labels_together(
    listings: Sequence[Listing], classes: Path | Sequence[str] | None, *, first_label: int | None
) -> list[IndexedRows]:
    """Count the labels of several lists of one data set, such as its parts, under one class list.

    Lists of one set count alike, though not each of them holds class 0; without a class list the classes are those of
    all lists together.

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
    """Return the class list that decides; None where the names of the rows do.

    Raises:
        AnnotationError: a list of numbers has none.
    """
    if isinstance(classes, Path):
        return read_class_list(classes)
    if classes is not None:
        return ClassList(names=tuple(classes), first_id=None, form="given")
    if listing.class_names and any(row.name is None for row in listing.rows):
        return ClassList(names=listing.class_names, first_id=0, form=listing.kind)
    if not listing.rows:
        raise AnnotationError(f"{listing.path}: the list holds no video")
    if all(row.name is None for row in listing.rows):
        raise AnnotationError(
            f"{listing.path}: lists of numbers need the class names: a CSV `id,name` or another class list "
            "(--classes, data.classes)"
        )
    return None


def refuse_numbers_as_names(rows: Sequence[ListRow]) -> None:
    """Refuse a list whose classes are all numbers: they would become prompts.

    Raises:
        AnnotationError: names the first one.
    """
    if rows and all(row.name is not None and is_number(row.name) for row in rows):
        raise AnnotationError(
            f"{rows[0].place}: the classes are numbers, such as {rows[0].name}; numbers alone are no prompts, give the "
            "class names: a CSV `id,name` or another class list (--classes, data.classes)"
        )


def labelled(rows: Sequence[ListRow], names: Sequence[str]) -> list[ListRow]:
    """Return the rows with names looked up; the label is None where the class list has no such name."""
    number_of = {name: number for number, name in enumerate(names)}
    return [row if row.name is None else replace(row, label=number_of.get(row.name)) for row in rows]


def with_known_names(rows: Sequence[ListRow], names: Sequence[str]) -> list[ListRow]:
    """Return rows whose names are spelt as a class list spells them, where a reader would take them for the same."""
    known = {caseless_form(name): name for name in reversed(names)}
    return [
        row if row.name is None else replace(row, name=known.get(caseless_form(row.name), row.name)) for row in rows
    ]


def entries_of(rows: Sequence[ListRow], names: Sequence[str]) -> list[Entry]:
    """Return rows as entries.

    Raises:
        AnnotationError: there is none, or labels lie outside the class list.
    """
    found = labelled(rows, names)
    outside = [row for row in found if row.label is None or not 0 <= row.label < len(names)]
    if outside:
        shown = ", ".join(f"{row.place}: {row.name if row.name is not None else row.label}" for row in outside[:SHOWN])
        raise AnnotationError(f"{len(outside)} labels outside the class list of {len(names)} ({shown})")
    if not found:
        raise AnnotationError("the list holds no video")
    return [Entry(path=row.path, label=row.label or 0, num_frames=row.num_frames, group=row.group) for row in found]


def names_of(rows: Sequence[ListRow]) -> list[str]:
    """Return the class names of the rows, sorted."""
    return sorted({row.name for row in rows if row.name is not None})


def classes_without_videos(rows: Sequence[ListRow], names: Sequence[str]) -> list[str]:
    """Return the classes that no row has."""
    seen = {row.label for row in labelled(rows, names)}
    return [name for number, name in enumerate(names) if number not in seen]


def _names_of_rows(rows: Sequence[ListRow]) -> tuple[str, ...]:
    """Names of all rows, of every part: a class that one part lacks is still one of the classes.

    Raises:
        AnnotationError: all names are numbers, or two differ in case, spaces, dashes and underscores alone.
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
    """A row of a table whose label is the number of a class, unless a class is called so."""
    if row.name is None or row.name in names or not row.name.isascii() or not row.name.isdecimal():
        return row
    return replace(row, name=None, label=int(row.name))


def _first_label(rows: Sequence[ListRow], known: ClassList, asked: int | None) -> int:
    """What the labels count from.

    Raises:
        AnnotationError: they start below it, or seem to count from 1. Others outside the list are left to `entries_of`.
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
            "seem to count from 1: say so with --first-label 1 (data.first_label)"
        )
    is_from_one = lowest == 1 and first == 0 and len(labels) > 1 and labels == list(range(1, highest + 1))
    if is_from_one and asked is None:
        raise OneBasedLabelsError(
            f"{rows[0].place}: the labels run from 1 to {highest} and class 0 ({known.names[0]!r}) is not used, so "
            "they seem to count from 1; say how they count with --first-label 0 or 1 (data.first_label)"
        )
    return first


def _of_published(rows: Sequence[ListRow], listing: Listing, known: ClassList) -> list[ListRow]:
    """Rows of a published data set under the names of a class list.

    Raises:
        AnnotationError: the class list has another number of classes.
    """
    if listing.class_names and all(row.name is None for row in rows) and len(known.names) != len(listing.class_names):
        raise AnnotationError(
            f"{listing.kind} has {len(listing.class_names)} classes here, the class list names {len(known.names)}"
        )
    return with_known_names(rows, known.names)
