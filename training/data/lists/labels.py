"""Convert the rows of a list to entries: determine the class names, and the label of each row.

If the labels of a list are numbers, they start at the same number as the ids of the class list, 0 or 1. A list whose
labels seem to start at 1, although the ids start at 0 or are missing, is an error unless `first_label` is given.
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

MAX_SHOWN_ROWS = 5  # in a message


class OneBasedLabelsError(AnnotationError):
    """The labels seem to start at 1, but the ids of the class list start at 0 or are missing."""


@dataclass(frozen=True, kw_only=True)
class IndexedRows:
    """Class names, and rows with labels that count from 0."""

    names: tuple[str, ...]
    rows: list[ListRow]
    first_label: int | None = None  # first label in the list; None if the list contains class names


def index_labels(
    rows: Sequence[ListRow],
    listing: Listing,
    classes: Path | Sequence[str] | None = None,
    *,
    first_label: int | None = None,
) -> IndexedRows:
    """Determine the class names of a listing, and convert the labels of `rows` to count from 0.

    `classes` is the path of a class list, or the class names; by default, the classes are those of the listing.

    Raises:
        AnnotationError: there are no class names, all class names are numbers, or labels are out of range.
    """
    class_list = resolve_class_list(listing, classes)
    if class_list is None:
        result = IndexedRows(names=_names_of_rows(listing.rows), rows=list(rows))
    elif listing.class_names or listing.kind == "ntu":  # labels already count from 0
        result = IndexedRows(names=class_list.names, rows=_index_published(rows, listing, class_list))
    else:
        parsed = [_parse_numeric_name(row, class_list.names) for row in rows]
        numeric = [row for row in parsed if row.name is None]
        if not numeric:
            result = IndexedRows(names=class_list.names, rows=parsed)
        else:
            first = _first_label(numeric, class_list, first_label)
            shifted = [row if row.name is not None else replace(row, label=(row.label or 0) - first) for row in parsed]
            return IndexedRows(names=class_list.names, rows=shifted, first_label=first)
    if first_label is not None:
        raise AnnotationError(
            f"--first-label is for lists with numeric labels; {listing.path} ({listing.kind}) has class names"
        )
    return result


def index_labels_like(
    other: IndexedRows, rows: Sequence[ListRow], listing: Listing, classes: Path | Sequence[str] | None = None
) -> list[ListRow]:
    """Convert the labels of another list of a data set, with the class names and the first label of `other`.

    Raises:
        AnnotationError: see `index_labels`.
    """
    has_numbers = any(row.name is None or is_number(row.name) for row in rows)
    first_label = other.first_label if has_numbers else None
    indexed = index_labels(rows, listing, classes or other.names, first_label=first_label)
    return unify_spelling(indexed.rows, other.names)


def index_labels_together(
    listings: Sequence[Listing], classes: Path | Sequence[str] | None, *, first_label: int | None
) -> list[IndexedRows]:
    """Convert the labels of several lists of one data set, such as its splits, with the same class list.

    All lists have the same first label, even if one of them does not contain class 0. By default, the classes are those
    of all lists together.

    Raises:
        AnnotationError: see `index_labels`.
    """
    if classes is None and all(row.name is not None for listing in listings for row in listing.rows):
        classes = _names_of_rows([row for listing in listings for row in listing.rows]) if listings else None
    has_zero = any(row.label == 0 or row.name == "0" for listing in listings for row in listing.rows)
    results = []
    for listing in listings:
        try:
            indexed = index_labels(listing.rows, listing, classes, first_label=first_label)
        except OneBasedLabelsError:
            if not has_zero:
                raise
            indexed = index_labels(listing.rows, listing, classes, first_label=0)
        results.append(indexed)
    return results


def resolve_class_list(listing: Listing, classes: Path | Sequence[str] | None) -> ClassList | None:
    """Return the class list of a listing, or None if its rows contain the class names.

    Raises:
        AnnotationError: the listing is empty, or its labels are numbers and there is no class list.
    """
    if isinstance(classes, Path):
        return read_class_list(classes)
    if classes is not None:
        return ClassList(names=tuple(classes), first_id=None, format_name="names")
    if listing.class_names and any(row.name is None for row in listing.rows):
        return ClassList(names=listing.class_names, first_id=0, format_name=listing.kind)
    if not listing.rows:
        raise AnnotationError(f"{listing.path}: the list is empty")
    if all(row.name is None for row in listing.rows):
        raise AnnotationError(
            f"{listing.path}: the labels are numbers; give the class names as a CSV `id,name` or another class list "
            "(--classes, data.classes)"
        )
    return None


def reject_numeric_names(rows: Sequence[ListRow]) -> None:
    """Raise if all class names are numbers, because they would be used as prompts.

    Raises:
        AnnotationError: all class names are numbers; the message contains the first one.
    """
    if rows and all(row.name is not None and is_number(row.name) for row in rows):
        raise AnnotationError(
            f"{rows[0].location}: the classes are numbers, such as {rows[0].name}, which cannot be used as prompts; "
            "give the class names as a CSV `id,name` or another class list (--classes, data.classes)"
        )


def label_rows(rows: Sequence[ListRow], names: Sequence[str]) -> list[ListRow]:
    """Return the rows with the label of each class name; the label is None if `names` does not contain the name."""
    label_of = {name: label for label, name in enumerate(names)}
    return [row if row.name is None else replace(row, label=label_of.get(row.name)) for row in rows]


def unify_spelling(rows: Sequence[ListRow], names: Sequence[str]) -> list[ListRow]:
    """Return the rows with class names spelt as in `names`; names are compared ignoring case and separators."""
    spelling = {caseless_form(name): name for name in reversed(names)}
    return [
        row if row.name is None else replace(row, name=spelling.get(caseless_form(row.name), row.name)) for row in rows
    ]


def entries_of(rows: Sequence[ListRow], names: Sequence[str]) -> list[Entry]:
    """Convert rows to entries.

    Raises:
        AnnotationError: there are no rows, or labels are not in the class list.
    """
    rows = label_rows(rows, names)
    unknown = [row for row in rows if row.label is None or not 0 <= row.label < len(names)]
    if unknown:
        shown = ", ".join(
            f"{row.location}: {row.name if row.name is not None else row.label}" for row in unknown[:MAX_SHOWN_ROWS]
        )
        raise AnnotationError(f"{len(unknown)} labels are not in the class list of {len(names)} classes ({shown})")
    if not rows:
        raise AnnotationError("the list is empty")
    return [Entry(path=row.path, label=row.label or 0, num_frames=row.num_frames, group=row.group) for row in rows]


def class_names_of(rows: Sequence[ListRow]) -> list[str]:
    """Return the class names of the rows, sorted."""
    return sorted({row.name for row in rows if row.name is not None})


def classes_without_videos(rows: Sequence[ListRow], names: Sequence[str]) -> list[str]:
    """Return the class names that no row has."""
    used_labels = {row.label for row in label_rows(rows, names)}
    return [name for label, name in enumerate(names) if label not in used_labels]


def _names_of_rows(rows: Sequence[ListRow]) -> tuple[str, ...]:
    """Return the class names of the rows of all splits.

    Raises:
        AnnotationError: all names are numbers, or two names differ only in case, separators or Unicode form.
    """
    reject_numeric_names(rows)
    names = class_names_of(rows)
    counts = Counter(map(_comparable_name, names))
    ambiguous = [name for name in names if counts[_comparable_name(name)] > 1]
    if ambiguous:
        first_rows = [next(row for row in rows if row.name == name) for name in ambiguous]
        shown = "; ".join(f"{row.location}: {row.name!r}" for row in first_rows[:MAX_SHOWN_ROWS])
        raise AnnotationError(
            f"class names differ only in case, separators or Unicode form ({shown}); use one spelling, or give a class "
            "list that contains both"
        )
    return tuple(names)


def _comparable_name(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", caseless_form(name))


def _parse_numeric_name(row: ListRow, names: Sequence[str]) -> ListRow:
    """Convert a numeric name to a label, unless it is the name of a class."""
    if row.name is None or row.name in names or not row.name.isascii() or not row.name.isdecimal():
        return row
    return replace(row, name=None, label=int(row.name))


def _first_label(rows: Sequence[ListRow], class_list: ClassList, requested: int | None) -> int:
    """Return the first label: as requested, or the first id of the class list.

    Raises:
        AnnotationError: a label is lower, or the labels seem to start at 1. `entries_of` checks the upper bound.
    """
    size, labels = len(class_list.names), sorted({row.label for row in rows if row.label is not None})
    lowest, highest = labels[0], labels[-1]
    first = requested if requested is not None else class_list.first_id or 0
    if lowest < first:
        row = next(row for row in rows if row.label == lowest)
        reason = "the ids of the class list start" if requested is None else "the labels were requested to start"
        raise AnnotationError(f"{row.location}: the label is {lowest}, but {reason} at {first}")
    if first == 0 and lowest >= 1 and highest == size and requested is None:
        row = next(row for row in rows if row.label == highest)
        raise AnnotationError(
            f"{row.location}: the label {highest} is not in the class list of {size} classes, and no label is 0, so "
            "the labels seem to start at 1; give --first-label 1 (data.first_label)"
        )
    is_from_one = lowest == 1 and first == 0 and len(labels) > 1 and labels == list(range(1, highest + 1))
    if is_from_one and requested is None:
        raise OneBasedLabelsError(
            f"{rows[0].location}: the labels are 1 to {highest} and no label is 0 ({class_list.names[0]!r}), so they "
            "seem to start at 1; give --first-label 0 or 1 (data.first_label)"
        )
    return first


def _index_published(rows: Sequence[ListRow], listing: Listing, class_list: ClassList) -> list[ListRow]:
    """Return the rows of a published data set with class names spelt as in the class list.

    Raises:
        AnnotationError: the class list has a different number of classes.
    """
    num_classes = len(listing.class_names)
    if num_classes and all(row.name is None for row in rows) and len(class_list.names) != num_classes:
        raise AnnotationError(
            f"{listing.kind}: the data set has {num_classes} classes, but the class list has {len(class_list.names)}"
        )
    return unify_spelling(rows, class_list.names)
