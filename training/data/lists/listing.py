"""Readers of all kinds of lists, by name or detected from the path; used by all commands.

frames    ActionCLIP's list, `path num_frames label`, each a folder of pictures
videos    X-CLIP's list, `path label`
csv       a table with a header: path, label, and split and group where there are; CSV or TSV
folder    a folder of class folders, also with parts (train, val, test) above or below them
feedback  the folder of a server's corrected clips (`SERVE_FEEDBACK__DIR`); erased clips are skipped
ucf101, hmdb51, kinetics, ssv2, ntu    data sets as they are published, with their own lists

Invalid content is refused with the file and the line; unused content is reported in the notes of the listing.
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
from training.data.lists.table_lists import INDEX as TABLE
from training.data.lists.table_lists import kind_of_table, read_table_list
from training.data.lists.text_lists import read_frame_list, read_video_list


def read_listing(path: Path, options: ListOptions | None = None) -> Listing:
    """Read a list of any kind.

    Raises:
        AnnotationError: there is no such kind or file, or its content is invalid.
    """
    options = options or ListOptions()
    kind = options.kind or kind_of(path, options)
    if kind not in KINDS:
        raise AnnotationError(f"a list is one of {', '.join(KINDS)}, found {kind!r}")
    if options.fold and kind not in WITH_FOLDS:
        raise AnnotationError(f"--fold is for {', '.join(sorted(WITH_FOLDS))}; {path} is read as {kind}")
    try:
        return KINDS[kind](path, options)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read as {kind}: {error.strerror or error}") from error


def kind_of(path: Path, options: ListOptions | None = None) -> str:
    """Return the kind of a list, detected by its suffix and first line.

    Raises:
        AnnotationError: the kind is unknown, or is a published list that needs --source.
    """
    options = options or ListOptions()
    if (path / INDEX).is_file():
        return "feedback"
    if path.is_dir():
        return "shards" if any(path.glob("*.tar")) else "csv" if (path / TABLE).is_file() else "folder"
    if path.suffix == ".tar" or "{" in path.name or "*" in path.name:
        return "shards"
    if path.suffix.lower() == ".json":
        raise AnnotationError(f"{path.name}: JSON lists are those of Something-Something: read them with --source ssv2")
    return kind_of_table(path, options)


def rows_of_part(listing: Listing, part: str, *, option: str) -> list[ListRow]:
    """Return the rows of a part; by default all rows, if the list names at most one part.

    Raises:
        AnnotationError: the list does not name this part, or names several and none was chosen.
    """
    if part and not listing.parts:
        raise AnnotationError(f"{listing.path} names no parts, so {option} {part} cannot choose one")
    if part and part not in listing.parts:
        raise AnnotationError(f"{listing.path} names the parts {', '.join(listing.parts)}, {option} is {part!r}")
    if not part and len(listing.parts) > 1:
        raise AnnotationError(f"{listing.path} names the parts {', '.join(listing.parts)}: choose one with {option}")
    return [row for row in listing.rows if row.split == part or not part]


def _feedback(path: Path, options: ListOptions) -> Listing:
    if not path.is_dir():
        raise AnnotationError(f"{path}: the folder of a server's feedback is needed")
    if options.root is not None:
        raise AnnotationError("--root is for lists; the clips of a server's feedback are beside its index")
    items, _ = read_index(path)
    rows = tuple(_feedback_rows(path))
    notes = (f"{len(items) - len(rows)} corrections whose clip is erased",) if len(rows) < len(items) else ()
    return Listing(path=path, kind="feedback", form="feedback of a server", rows=rows, notes=notes)


def _feedback_rows(path: Path) -> Iterator[ListRow]:
    """Return the rows of existing clips; of several spellings of a label, the first is used."""
    items, _ = read_index(path)
    spelling: dict[str, str] = {}
    for item in items:
        clip = clip_path(path, item)
        if clip.is_file():
            name = spelling.setdefault(caseless_form(item.label), item.label)
            yield ListRow(path=clip, name=name, place=f"{INDEX}, {item.feedback_id}")


KINDS: dict[str, Callable[[Path, ListOptions], Listing]] = {
    "frames": read_frame_list,
    "videos": read_video_list,
    "csv": read_table_list,
    "folder": read_class_folders,
    "feedback": _feedback,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "kinetics": read_kinetics,
    "ssv2": read_something_something,
    "ntu": read_ntu,
}
WITH_FOLDS = frozenset({"ucf101", "hmdb51", "ntu"})
