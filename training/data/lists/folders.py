"""Read a folder of class folders, optionally with split folders (train, val, test) above or below them.

    CLASS/video.mp4              SPLIT/CLASS/video.mp4              CLASS/SPLIT/video.mp4

Every file is checked: a file with an unknown suffix is opened with the decoder, which decides whether it is a video.
Files that are not videos are counted in the notes. A video outside the class folders is an error.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.parts import parse_folder_part
from training.data.lists.rows import Listing, ListOptions, ListRow
from training.data.lists.video_files import detect_videos, is_known_suffix

MAX_SHOWN_FILES = 3  # in a message


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderTree:
    """The files below a folder, divided into videos and other files."""

    top: Path
    videos: tuple[Path, ...]  # relative to `top`
    other_files: tuple[Path, ...]  # relative to `top`

    @cached_property
    def videos_by_folder(self) -> dict[str, list[Path]]:
        """Return the paths of the videos below each folder in `top`, relative to that folder, by folder name."""
        videos: dict[str, list[Path]] = {}
        for path in self.videos:
            if len(path.parts) > 1:
                videos.setdefault(path.parts[0], []).append(Path(*path.parts[1:]))
        return videos

    def videos_below(self, folder: str) -> list[Path]:
        """Return the paths of the videos below a folder in `top`, relative to it; all videos if `folder` is empty."""
        return self.videos_by_folder.get(folder, []) if folder else list(self.videos)


def read_class_folders(path: Path, options: ListOptions) -> Listing:
    """Read a folder of class folders.

    Raises:
        AnnotationError: a video is outside the class folders, or the layout is unknown.
    """
    if not path.is_dir():
        raise AnnotationError(f"{path} is not a folder; pass a folder with one subfolder per class")
    if options.root is not None:
        raise AnnotationError("--root cannot be used with a folder of class folders, because its videos are inside it")
    tree = read_tree(path)
    split_folders = _find_split_folders(tree)
    if split_folders:
        rows = [replace(row, split=split) for name, split in split_folders.items() for row in _read_rows(tree, name)]
        folders = ", ".join(f"{name}/ is {split}" for name, split in split_folders.items())
        description = f"a folder per split ({folders}), each with a folder per class"
    else:
        rows, description = _assign_inner_splits(_read_rows(tree)), "a folder per class"
        description += ", each with a folder per split" if any(row.split for row in rows) else ""
    notes = tuple(_describe_files(tree, rows, split_folders))
    return Listing(path=path, kind="folder", description=description, rows=tuple(rows), notes=notes)


def read_tree(top: Path) -> FolderTree:
    """Find all files below a folder; hidden files are skipped, links are followed."""
    paths = sorted(_walk(top, top, frozenset()))
    is_video = detect_videos([top / path for path in paths])
    return FolderTree(
        top=top,
        videos=tuple(path for path, flag in zip(paths, is_video, strict=True) if flag),
        other_files=tuple(path for path, flag in zip(paths, is_video, strict=True) if not flag),
    )


def folder_class_name(folder: str) -> str:
    """Return the class name of a folder; bytes that are not UTF-8 are replaced by escape sequences."""
    return os.fsencode(folder).decode("utf-8", errors="backslashreplace")


def _walk(folder: Path, top: Path, ancestors: frozenset[Path]) -> Iterator[Path]:
    """Yield the paths of all files below a folder, relative to `top`."""
    real = folder.resolve()
    if real in ancestors:
        raise AnnotationError(f"{folder} is a symbolic link to one of its parent folders; remove the link")
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, top, ancestors | {real})
        else:
            yield entry.relative_to(top)


def _find_split_folders(tree: FolderTree) -> dict[str, str]:
    """Return the split of each folder if the top folder contains split folders; empty if it contains class folders.

    Raises:
        AnnotationError: a split has no class folders, or two folders are the same split.
    """
    top_folders = list(
        dict.fromkeys(path.parts[0] for path in (*tree.videos, *tree.other_files) if len(path.parts) > 1)
    )
    with_videos = [name for name in top_folders if tree.videos_below(name)]
    splits = {name: split for name in with_videos if (split := parse_folder_part(name)) is not None}
    flat = [name for name in splits if all(len(path.parts) == 1 for path in tree.videos_below(name))]
    if not splits or (len(splits) == 1 and flat and len(with_videos) > 1):  # a class that is named like a split
        return {}
    if flat:
        raise AnnotationError(
            f"{tree.top}: {' and '.join(flat)} contain videos without class folders, so the classes are unknown; "
            "pass an annotation file, or use --source kinetics for Kinetics CSV files"
        )
    duplicates = [name for name, split in splits.items() if list(splits.values()).count(split) > 1]
    if duplicates:
        raise AnnotationError(f"{tree.top}: {' and '.join(duplicates)} are the same split; keep one of them")
    return splits


def _read_rows(tree: FolderTree, split_folder: str = "") -> list[ListRow]:
    """Return the rows of the class folders in the top, or in the folder of a split.

    Raises:
        AnnotationError: a video is not in a class folder, or a single folder contains all class folders.
    """
    rows = []
    for path in tree.videos_below(split_folder):
        relative = Path(split_folder, path)
        if len(path.parts) == 1:
            raise AnnotationError(
                f"{tree.top / relative}: the video is beside the class folders; move it into one, or give a list"
            )
        rows.append(ListRow(path=tree.top / relative, name=folder_class_name(path.parts[0]), location=str(relative)))
    subfolders = {path.parts[1] if len(path.parts) > 2 else "" for path in tree.videos_below(split_folder)}
    is_nested = len({row.name for row in rows}) == 1 and len(subfolders) > 1 and "" not in subfolders
    if is_nested and not all(parse_folder_part(name) for name in subfolders):
        folder = tree.top / split_folder
        raise AnnotationError(
            f"{folder} contains a single folder, {rows[0].name}, with the folders "
            f"{', '.join(sorted(subfolders)[:MAX_SHOWN_FILES])}; if these are the classes, "
            f"give {folder / str(rows[0].name)}"
        )
    return rows


def _assign_inner_splits(rows: Sequence[ListRow]) -> list[ListRow]:
    """Set the split of rows `CLASS/SPLIT/video`; return the rows unchanged if there are no split folders.

    Raises:
        AnnotationError: only some of the videos are in split folders.
    """
    inner_folders = [Path(row.location).parts[1:-1] for row in rows]
    splits = [parse_folder_part(folders[0]) if folders else None for folders in inner_folders]
    if not any(splits):
        return list(rows)
    without_split = [row.location for row, split in zip(rows, splits, strict=True) if split is None]
    if without_split:
        raise AnnotationError(f"some class folders contain split folders, but {without_split[0]} is not in one of them")
    return [replace(row, split=split or "") for row, split in zip(rows, splits, strict=True)]


def _describe_files(tree: FolderTree, rows: Sequence[ListRow], split_folders: dict[str, str]) -> Iterator[str]:
    """Yield notes about ignored files, and about files with an unknown suffix that are used as videos."""
    used = {row.location for row in rows}
    num_ignored = Counter(path.parts[0] for path in tree.videos if str(path) not in used)
    for name, count in num_ignored.items():
        yield f"{name}/ is not a split and is ignored: {count} videos"
    with_video = {ancestor for path in tree.videos for ancestor in path.parents}
    depth = 2 if split_folders else 1
    beside_videos: list[Path] = []
    without_video: dict[Path, list[Path]] = {}
    for path in tree.other_files:
        folder = Path(*path.parts[: min(depth, len(path.parts) - 1)])
        (beside_videos if folder in with_video else without_video.setdefault(folder, [])).append(path)
    for folder, files in without_video.items():
        yield f"{folder}/ has no readable video: {_summarise_files(files)}"
    if beside_videos:
        yield f"not videos: {_summarise_files(beside_videos)}"
    suffixes = Counter(path.suffix.lower() or "no suffix" for path in map(Path, used))
    unknown = {suffix: count for suffix, count in suffixes.items() if not is_known_suffix(suffix)}
    if unknown:
        counts = ", ".join(f"{count} x {suffix}" for suffix, count in unknown.items())
        yield f"read as videos, because the decoder can open them: {counts}"


def _summarise_files(files: Sequence[Path]) -> str:
    """Return the number of files per suffix, and the first names."""
    counts = Counter(path.suffix.lower() or "no suffix" for path in files)
    shown = ", ".join(map(str, files[:MAX_SHOWN_FILES]))
    return f"{', '.join(f'{count} x {suffix}' for suffix, count in counts.items())} ({shown})"
