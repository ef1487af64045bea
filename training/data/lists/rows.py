"""Rows, entries and options of lists of labelled videos."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test")
MAX_SHOWN_CLASSES, MAX_SHOWN_NOTES = 6, 5


@dataclass(frozen=True, kw_only=True)
class ListRow:
    """One labelled video of a list."""

    path: Path  # resolved against the root, or the folder of the list
    label: int | None = None  # as in the list; `index_labels` converts it to count from 0
    name: str | None = None  # class name; None if the list contains numbers
    num_frames: int | None = None  # number of images of a frame folder; None: a video file
    split: str = ""  # train, val or test; empty if the list has no splits
    group: str = ""  # declared group; videos of the same group are not independent
    location: str = ""  # file and line, for messages


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One labelled video that can be read."""

    path: Path
    label: int  # from 0
    num_frames: int | None = None  # number of frame images; None: a video file
    encoded_images: Sequence[bytes] = ()  # content of the frame images of a shard; empty: they are files
    group: str = ""  # declared group


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Options for reading lists, common to all commands."""

    kind: str = ""  # a key of `listing.KINDS`; empty: detected from the path
    root: Path | None = None  # base folder of relative paths; None: the folder of the list
    fold: str = ""  # for data sets with several folds: 1, 2, 3; xsub, xview, xset
    first_label: int | None = None  # 0 or 1: first label of a list of numbers; None: first id of the class list


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The content of a list, with a description for the user."""

    path: Path
    kind: str
    description: str  # the format of the list, in one line
    rows: tuple[ListRow, ...]
    notes: tuple[str, ...] = ()  # about content that is not used
    class_names: tuple[str, ...] = ()  # by label, if the data set defines its class names

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that the list contains."""
        return tuple(split for split in SPLITS if any(row.split == split for row in self.rows))

    def layout(self) -> list[str]:
        """Return lines that describe how the list was interpreted."""
        sizes = Counter(row.split for row in self.rows)
        splits = ", ".join(f"{split} {sizes[split]}" for split in self.splits) or "none"
        lines = [f"{self.path}: {self.description}", f"  {len(self.rows)} videos; splits: {splits}"]
        names = self.class_names or tuple(sorted({row.name for row in self.rows if row.name is not None}))
        if names:
            more = f" and {len(names) - MAX_SHOWN_CLASSES} more" if len(names) > MAX_SHOWN_CLASSES else ""
            lines.append(f"  {len(names)} classes: {', '.join(names[:MAX_SHOWN_CLASSES])}{more}")
        elif labels := {row.label for row in self.rows if row.label is not None}:
            lines.append(f"  {len(labels)} labels from {min(labels)} to {max(labels)}")
        lines += [f"  note: {note}" for note in self.notes[:MAX_SHOWN_NOTES]]
        if len(self.notes) > MAX_SHOWN_NOTES:
            lines.append(f"  and {len(self.notes) - MAX_SHOWN_NOTES} more notes")
        return lines
