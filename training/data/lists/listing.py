"""Read lists of labelled videos of any kind; the kind is given, or detected from the path.

frames    ActionCLIP's list, `path num_frames label`; each path is a folder of frame images
videos    X-CLIP's list, `path label`
csv       a CSV or TSV table with a header: path, label, and optionally split and group
folder    a folder of class folders, optionally with split folders (train, val, test) above or below them
feedback  the folder in which a server stores corrected clips (`SERVE_FEEDBACK__DIR`); erased clips are skipped
ucf101, hmdb51, kinetics, ssv2, ntu    published data sets, with their own lists

An error in a list is reported with the file and the line. Unused content is reported in the notes of the listing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from serve.feedback.index import INDEX, clip_path, read_index
from serve.lists.errors import AnnotationError
from serve.text.normalization import caseless_form
from training.data.lists.folders import read_class_folders
from training.data.lists.published.hmdb51 import read_hmdb51
from training.data.lists.published.kinetics import read_kinetics
from training.data.lists.published.ntu import read_ntu
from training.data.lists.published.something_something import read_something_something
from training.data.lists.published.ucf101 import read_ucf101
from training.data.lists.rows import Listing, ListOptions, ListRow
from training.data.lists.table_lists import INDEX_NAME, detect_table_kind, read_table_list
from training.data.lists.text_lists import read_frame_list, read_video_list


def read_listing(path: Path, options: ListOptions | None = None) -> Listing:
    """Read a list of any kind.

    Raises:
        AnnotationError: the kind is unknown, the file does not exist, or its content is invalid.
    """
    options = options or ListOptions()
    kind = options.kind or detect_kind(path, options)
    if kind not in KINDS:
        raise AnnotationError(f"the kind of a list must be one of {', '.join(KINDS)}, got {kind!r}")
    if options.fold and kind not in WITH_FOLDS:
        raise AnnotationError(f"--fold can be used only with {', '.join(sorted(WITH_FOLDS))}; {path} is read as {kind}")
    try:
        return KINDS[kind](path, options)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read as {kind}: {error.strerror or error}") from error


def detect_kind(path: Path, options: ListOptions | None = None) -> str:
    """Return the kind of a list, detected from its path and first line.

    Raises:
        AnnotationError: the kind cannot be detected, or the list is a published one that needs --source.
    """
    options = options or ListOptions()
    if (path / INDEX).is_file():
        return "feedback"
    if path.is_dir():
        return "shards" if any(path.glob("*.tar")) else "csv" if (path / INDEX_NAME).is_file() else "folder"
    if path.suffix == ".tar" or "{" in path.name or "*" in path.name:
        return "shards"
    if path.suffix.lower() == ".json":
        raise AnnotationError(f"{path.name}: the only JSON lists are those of Something-Something; use --source ssv2")
    return detect_table_kind(path, options)


def rows_of_split(listing: Listing, split: str, *, option: str) -> list[ListRow]:
    """Return the rows of a split; with an empty `split`, all rows, which must not be of several splits.

    Raises:
        AnnotationError: the list does not contain this split, or contains several and none was chosen.
    """
    if split and not listing.splits:
        raise AnnotationError(f"{listing.path} has no splits, so {option} {split} cannot be used")
    if split and split not in listing.splits:
        raise AnnotationError(f"{listing.path} has the splits {', '.join(listing.splits)}, but {option} is {split!r}")
    if not split and len(listing.splits) > 1:
        raise AnnotationError(f"{listing.path} has the splits {', '.join(listing.splits)}; choose one with {option}")
    return [row for row in listing.rows if row.split == split or not split]


def _read_feedback(path: Path, options: ListOptions) -> Listing:
    if not path.is_dir():
        raise AnnotationError(f"{path} is not a folder; give the feedback folder of a server")
    if options.root is not None:
        raise AnnotationError("--root cannot be used with a feedback folder, because its clips are beside its index")
    items, _ = read_index(path)
    rows = tuple(_feedback_rows(path))
    notes = (f"{len(items) - len(rows)} corrections whose clip was erased",) if len(rows) < len(items) else ()
    return Listing(path=path, kind="feedback", description="feedback of a server", rows=rows, notes=notes)


def _feedback_rows(path: Path) -> Iterator[ListRow]:
    """Yield the rows of existing clips; if a label is spelt in several ways, the first spelling is used."""
    items, _ = read_index(path)
    spelling: dict[str, str] = {}
    for item in items:
        clip = clip_path(path, item)
        if clip.is_file():
            name = spelling.setdefault(caseless_form(item.label), item.label)
            yield ListRow(path=clip, name=name, location=f"{INDEX}, {item.feedback_id}")


KINDS: dict[str, Callable[[Path, ListOptions], Listing]] = {
    "frames": read_frame_list,
    "videos": read_video_list,
    "csv": read_table_list,
    "folder": read_class_folders,
    "feedback": _read_feedback,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "kinetics": read_kinetics,
    "ssv2": read_something_something,
    "ntu": read_ntu,
}
WITH_FOLDS = frozenset({"ucf101", "hmdb51", "ntu"})
