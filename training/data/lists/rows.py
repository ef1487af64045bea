"""What a list of labelled videos says, row by row, and how it was understood."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLASSES_SHOWN, NOTES_SHOWN = 6, 5


@dataclass(frozen=True, kw_only=True)
class ListRow:
    """One labelled video as its list names it."""

    path: Path  # relative paths start at the list's own folder, or at the root that was given
    label: int | None = None  # as the list counts, until names are looked up
    name: str | None = None  # class name, of lists of names
    num_frames: int | None = None  # of a folder of pictures; None: a video file
    split: str = ""  # train, val, test; empty in a list that names no parts
    group: str = ""  # clips of one group depend on each other
    place: str = ""  # where it stands, for messages


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One labelled video, ready to be read."""

    path: Path
    label: int
    num_frames: int | None = None  # of a folder of pictures; None: a video file
    packed: Sequence[bytes] = ()  # the pictures themselves, where they come out of a shard
    group: str = ""  # that its list declares


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How lists are to be read, the same for every command."""

    kind: str = ""  # a key of `listing.KINDS`; found from the path where empty
    root: Path | None = None  # where relative paths start; the list's own folder without it
    fold: str = ""  # of data sets that publish several: 1, 2, 3; xsub, xview, xset
    first_label: int | None = None  # 0 or 1: how a list of numbers counts, where the class list does not decide


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list that was read, with what is to be shown before anything is computed."""

    path: Path
    kind: str
    form: str  # how it was understood, in one line
    rows: tuple[ListRow, ...]
    notes: tuple[str, ...] = ()  # what was found and is not used, each in one line
    class_names: tuple[str, ...] = ()  # by label, where the data set names its classes itself

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that the list names."""
        return tuple(part for part in ("train", "val", "test") if any(row.split == part for row in self.rows))

    def layout(self) -> list[str]:
        """Lines for people."""
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
