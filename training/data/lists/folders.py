"""A folder of class folders, with or without a part (train, val, test) above or below them.

    CLASS/video.mp4              PART/CLASS/video.mp4              CLASS/PART/video.mp4

Every file is checked: files with other suffixes are opened by the decoder to see whether they are videos; other files
are counted in the notes; a video outside the class folders is refused.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.parts import part_of_folder
from training.data.lists.rows import Listing, ListOptions, ListRow
from training.data.lists.video_files import is_known_suffix, is_video

Probe = Callable[[Sequence[Path]], Sequence[bool]]
SHOWN = 3  # file names in a message


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderTree:
    """The files below a folder, and which of them are videos."""

    top: Path
    videos: tuple[Path, ...]  # relative to the top
    others: tuple[Path, ...]

    @cached_property
    def by_folder(self) -> dict[str, list[Path]]:
        """Return folder of the top -> relative paths of its videos."""
        found: dict[str, list[Path]] = {}
        for path in self.videos:
            if len(path.parts) > 1:
                found.setdefault(path.parts[0], []).append(Path(*path.parts[1:]))
        return found

    def below(self, folder: str) -> list[Path]:
        """Return relative paths of the videos of the top or of one of its folders."""
        return self.by_folder.get(folder, []) if folder else list(self.videos)


def read_class_folders(path: Path, options: ListOptions) -> Listing:
    """Read a folder of class folders.

    Raises:
        AnnotationError: a video is outside the class folders, or the layout is unknown.
    """
    if not path.is_dir():
        raise AnnotationError(f"{path}: a folder of class folders is needed")
    if options.root is not None:
        raise AnnotationError("--root is for lists; the videos of a folder are inside it")
    tree = read_tree(path)
    parts = _part_folders(tree)
    if parts:
        rows = [replace(row, split=part) for name, part in parts.items() for row in _rows(tree, name)]
        folders = ", ".join(f"{name}/ is {part}" for name, part in parts.items())
        form = f"parts ({folders}), in each a folder for each class"
    else:
        rows, form = _classes_with_parts(_rows(tree)), "a folder for each class"
        form += ", in each a folder for each part" if any(row.split for row in rows) else ""
    return Listing(path=path, kind="folder", form=form, rows=tuple(rows), notes=tuple(_notes(tree, rows, parts)))


def read_tree(top: Path) -> FolderTree:
    """Find all files below a folder; skip hidden ones, follow links."""
    found = sorted(_walk(top, top, frozenset()))
    flags = is_video([top / path for path in found])
    return FolderTree(
        top=top,
        videos=tuple(path for path, flag in zip(found, flags, strict=True) if flag),
        others=tuple(path for path, flag in zip(found, flags, strict=True) if not flag),
    )


def class_name_of(folder: str) -> str:
    """Return the class of a folder; a name that is not UTF-8 is shown with escapes."""
    return os.fsencode(folder).decode("utf-8", errors="backslashreplace")


def _walk(folder: Path, top: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        raise AnnotationError(f"{folder}: the link refers to a folder above it")
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, top, above | {real})
        else:
            yield entry.relative_to(top)


def _part_folders(tree: FolderTree) -> dict[str, str]:
    """Return folder -> part if the top holds parts; empty if it holds classes.

    Raises:
        AnnotationError: a part has no class folders, two folders are the same part, or videos are beside class folders.
    """
    tops = list(dict.fromkeys(path.parts[0] for path in (*tree.videos, *tree.others) if len(path.parts) > 1))
    named = {name: part for name in tops if (part := part_of_folder(name)) is not None and tree.below(name)}
    flat = [name for name in named if all(len(path.parts) == 1 for path in tree.below(name))]
    with_videos = [name for name in tops if tree.below(name)]
    if not named or (len(named) == 1 and flat and len(with_videos) > 1):  # a class with the name of a part
        return {}
    if flat:
        raise AnnotationError(
            f"{tree.top}: {' and '.join(flat)} hold videos without class folders, so their classes are not known; "
            "give a list of the videos, or use --source kinetics for its tables"
        )
    twice = [name for name, part in named.items() if list(named.values()).count(part) > 1]
    if twice:
        raise AnnotationError(f"{tree.top}: {' and '.join(twice)} are the same part; keep one of them")
    return named


def _rows(tree: FolderTree, part: str = "") -> list[ListRow]:
    """Return the rows of the class folders of the top or of a part.

    Raises:
        AnnotationError: a video is beside the class folders, or one folder holds everything.
    """
    rows = []
    for path in tree.below(part):
        whole = Path(part, path)
        if len(path.parts) == 1:
            raise AnnotationError(
                f"{tree.top / whole}: the video is beside the class folders; move it into one, or give a list"
            )
        rows.append(ListRow(path=tree.top / whole, name=class_name_of(path.parts[0]), place=str(whole)))
    inner = {path.parts[1] if len(path.parts) > 2 else "" for path in tree.below(part)}
    is_wrapped = len({row.name for row in rows}) == 1 and len(inner) > 1 and "" not in inner
    if is_wrapped and not all(part_of_folder(name) for name in inner):
        raise AnnotationError(
            f"{tree.top / part}: one folder, {rows[0].name}, holds everything; it contains "
            f"{', '.join(sorted(inner)[:SHOWN])}; if these are the classes, give {tree.top / part / str(rows[0].name)}"
        )
    return rows


def _classes_with_parts(rows: Sequence[ListRow]) -> list[ListRow]:
    """Split class and part of rows `CLASS/PART/video`; keep others unchanged.

    Raises:
        AnnotationError: only some videos are in parts.
    """
    inner = [Path(row.place).parts[1:-1] for row in rows]
    parts = [part_of_folder(folders[0]) if folders else None for folders in inner]
    if not any(parts):
        return list(rows)
    outside = [row.place for row, part in zip(rows, parts, strict=True) if part is None]
    if outside:
        raise AnnotationError(f"some class folders are divided into parts, but {outside[0]} is in none of them")
    return [replace(row, split=part or "") for row, part in zip(rows, parts, strict=True)]


def _notes(tree: FolderTree, rows: Sequence[ListRow], parts: dict[str, str]) -> Iterator[str]:
    used = {row.place for row in rows}
    left = Counter(path.parts[0] for path in tree.videos if str(path) not in used)
    for name, count in left.items():
        yield f"{name}/ is not a part and is ignored: {count} videos"
    with_video = {above for path in tree.videos for above in path.parents}
    depth = 2 if parts else 1
    beside: list[Path] = []
    without_video: dict[Path, list[Path]] = {}
    for path in tree.others:
        folder = Path(*path.parts[: min(depth, len(path.parts) - 1)])
        (beside if folder in with_video else without_video.setdefault(folder, [])).append(path)
    for folder, files in without_video.items():
        yield f"{folder}/ has no readable video: {_counted(files)}"
    if beside:
        yield f"not videos: {_counted(beside)}"
    kinds = Counter(path.suffix.lower() or "no suffix" for path in map(Path, used))
    unusual = {suffix: count for suffix, count in kinds.items() if not is_known_suffix(suffix)}
    if unusual:
        counts = ", ".join(f"{suffix} {count}" for suffix, count in unusual.items())
        yield f"read as videos, since the decoder opens them: {counts}"


def _counted(files: Sequence[Path]) -> str:
    counts = Counter(path.suffix.lower() or "no suffix" for path in files)
    shown = ", ".join(map(str, files[:SHOWN]))
    return f"{', '.join(f'{suffix} {count}' for suffix, count in counts.items())} ({shown})"
