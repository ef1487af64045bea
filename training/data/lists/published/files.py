"""Find the videos and the lists of a published data set in its usual folders."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.lists.rows import ListOptions


def find_video_folder(
    candidates: Iterable[Path], videos: Sequence[Path], *, dataset: str, options: ListOptions
) -> Path:
    """Return the first of `candidates` that contains one of the first 100 `videos`, which are relative paths.

    If `options.root` is set, only that folder is searched.

    Raises:
        AnnotationError: none of the folders contains one of these videos.
    """
    folders = [options.root] if options.root is not None else list(dict.fromkeys(candidates))
    for folder in folders:
        if any((folder / video).exists() for video in videos[:100]):
            return folder
    searched = ", ".join(map(str, folders))
    raise AnnotationError(
        f"{dataset}: none of the listed videos (for example {videos[0]}) was found in {searched}; "
        "give the folder of the videos with --root"
    )


def list_folder_candidates(path: Path, published: str) -> list[Path]:
    """Return folders that may contain the lists of a data set; `published` is the usual name of the folder."""
    return [path / published, path, *(folder for folder in sorted(path.glob("*")) if folder.is_dir())]


def missing_notes(videos: Sequence[Path]) -> tuple[str, ...]:
    """Return a note about videos of a list that do not exist; empty if all of them exist."""
    missing = [video for video in videos if not video.exists()]
    return (f"{len(missing)} of {len(videos)} videos do not exist; the first is {missing[0]}",) if missing else ()


def check_file_name(path: Path, pattern: re.Pattern[str], options: ListOptions, *, expected: str) -> None:
    """Check the name of a list file; the group `fold` of the pattern is the fold of the file.

    Raises:
        AnnotationError: the name does not match the pattern, or the file belongs to a different fold than requested.
    """
    match = pattern.fullmatch(path.name)
    if match is None:
        raise AnnotationError(f"{path.name}: {expected}")
    if options.fold not in ("", match["fold"]):
        raise AnnotationError(f"{path.name} belongs to fold {match['fold']}, but --fold is {options.fold}")


def select_fold(options: ListOptions, folds: Sequence[str], *, reason: str) -> str:
    """Return the requested fold; `reason` is the beginning of the error message.

    Raises:
        AnnotationError: no fold is requested, or the data set does not have the requested one.
    """
    if options.fold not in folds:
        got = f", got {options.fold!r}" if options.fold else ""
        raise AnnotationError(f"{reason}; choose one of {', '.join(folds)} with --fold{got}")
    return options.fold
