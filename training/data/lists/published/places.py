"""Find the files of a published data set in its usual folders."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.lists.rows import ListOptions


def find_base(candidates: Iterable[Path], files: Sequence[Path], *, what: str, options: ListOptions) -> Path:
    """Return the first candidate folder that has the first files; with --root, only that folder is searched.

    Raises:
        AnnotationError: no candidate has any of the first files.
    """
    places = [options.root] if options.root is not None else list(dict.fromkeys(candidates))
    for place in places:
        if any((place / file).exists() for file in files[:100]):
            return place
    looked = ", ".join(map(str, places))
    raise AnnotationError(f"{what}: no video such as {files[0]} was found in {looked}; give their folder with --root")


def folders_with_lists(path: Path, published: str) -> list[Path]:
    """Return folders that may have the lists of a data set: the published one first."""
    return [path / published, path, *(each for each in sorted(path.glob("*")) if each.is_dir())]


def missing_note(files: Sequence[Path]) -> tuple[str, ...]:
    """Return a note on files of a list that do not exist."""
    missing = [file for file in files if not file.exists()]
    return (f"{len(missing)} of {len(files)} videos do not exist, the first is {missing[0]}",) if missing else ()


def check_file_name(path: Path, pattern: re.Pattern[str], options: ListOptions, *, usual: str) -> None:
    """Check the name of a file of a split; the group `fold` of the pattern is its fold.

    Raises:
        AnnotationError: the name or the fold differs.
    """
    match = pattern.fullmatch(path.name)
    if match is None:
        raise AnnotationError(f"{path.name}: {usual}")
    if options.fold not in ("", match["fold"]):
        raise AnnotationError(f"{path.name} is of fold {match['fold']}, but --fold is {options.fold}")


def chosen_fold(options: ListOptions, known: Sequence[str], *, what: str) -> str:
    """Return the fold that was chosen.

    Raises:
        AnnotationError: none was chosen, or it is unknown.
    """
    if options.fold not in known:
        found = f", found {options.fold!r}" if options.fold else ""
        raise AnnotationError(f"{what}: choose one of {', '.join(known)} with --fold{found}")
    return options.fold
