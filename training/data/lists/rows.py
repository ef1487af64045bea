"""Rows, entries and options of lists of labelled videos."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLASSES_SHOWN, NOTES_SHOWN = 6, 5


@dataclass(frozen=True, kw_only=True)
class ListRow:
    """One labelled video as given in a list."""

    path: Path  # resolved against the folder of the list, or the given root
    label: int | None = None  # as in the list, until classes are indexed
    name: str | None = None  # class name, for lists of names
    num_frames: int | None = None  # of a folder of pictures; None: a video file
    split: str = ""  # train, val, test; empty if the list names no parts
    group: str = ""  # clips of one group depend on each other
    place: str = ""  # file and line, for messages


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One labelled video, ready to be read."""

    path: Path
    label: int
    num_frames: int | None = None  # of a folder of pictures; None: a video file
    packed: Sequence[bytes] = ()  # the encoded pictures, if they are from a shard
    group: str = ""  # as declared in its list


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Options for reading lists, the same for every command."""

    kind: str = ""  # a key of `listing.KINDS`; empty: detected from the path
    root: Path | None = None  # base folder of relative paths; None: the folder of the list
    fold: str = ""  # for data sets with several: 1, 2, 3; xsub, xview, xset
    first_label: int | None = None  # 0 or 1: first label of a list of numbers; None: from the class list


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list that was read, with a description for the user."""

    path: Path
    kind: str
    form: str  # its format, in one line
    rows: tuple[ListRow, ...]
    notes: tuple[str, ...] = ()  # unused content, one line each
    class_names: tuple[str, ...] = ()  # by label, if the data set defines its class names

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the parts that the list names."""
        return tuple(part for part in ("train", "val", "test") if any(row.split == part for row in self.rows))

    def layout(self) -> list[str]:
        """Return the description as lines."""
        sizes = Counter(row.split for row in self.rows)
        parts = ", ".join(f"{part} {sizes[part]}" for part in self.parts) or "none named"
        lines = [f"{self.path}: {self.form}", f"  {len(self.rows)} videos; parts: {parts}"]
        names = self.class_names or tuple(sorted({row.name for row in self.rows if row.name is not None}))
        if names:
            more = f" and {len(names) - CLASSES_SHOWN} more" if len(names) > CLASSES_SHOWN else ""
            lines.append(f"  {len(names)} classes: {', '.join(names[:CLASSES_SHOWN])}{more}")
        elif labels := {row.label for row in self.rows if row.label is not None}:
            lines.append(f"  labels {min(labels)} to {max(labels)}, {len(labels)} of them")
        lines += [f"  note: {note}" for note in self.notes[:NOTES_SHOWN]]
        if len(self.notes) > NOTES_SHOWN:
            lines.append(f"  and {len(self.notes) - NOTES_SHOWN} more notes")
        return lines
