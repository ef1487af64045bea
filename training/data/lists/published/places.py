"""Where a published data set keeps its files: the first of some places in which they are."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.lists.rows import ListOptions


def find_base(candidates: Iterable[Path], files: Sequence[Path], *, what: str, options: ListOptions) -> Path:
    """Return the folder below which the first of the files is found; with --root only that folder is looked in.

    Raises:
        AnnotationError: none of them holds any of the first files.
    """
    places = [options.root] if options.root is not None else list(dict.fromkeys(candidates))
    for place in places:
        if any((place / file).exists() for file in files[:100]):
            return place
    looked = ", ".join(map(str, places))
    raise AnnotationError(
        f"{what}: no video such as {files[0]} is found in {looked}; give the folder that holds them with --root"
    )


def folders_with_lists(path: Path, published: str) -> list[Path]:
    """Return where the lists of a data set may lie: in the folder they are published in, or in any other one."""
    return [path / published, path, *(each for each in sorted(path.glob("*")) if each.is_dir())]


def missing_note(files: Sequence[Path]) -> tuple[str, ...]:
    """A note on files that a list names and that are not there."""
    missing = [file for file in files if not file.exists()]
    return (f"{len(missing)} of {len(files)} videos are not there, the first is {missing[0]}",) if missing else ()


def check_file_name(path: Path, pattern: re.Pattern[str], options: ListOptions, *, usual: str) -> None:
    """Check the name of one file of a split; the group `fold` of the pattern is the fold it belongs to.

    Raises:
        AnnotationError: another name, or a file of another fold than the one that was chosen.
    """
    match = pattern.fullmatch(path.name)
    if match is None:
        raise AnnotationError(f"{path.name}: {usual}")
    if options.fold not in ("", match["fold"]):
        raise AnnotationError(f"{path.name} is of fold {match['fold']}, --fold says {options.fold}")


def chosen_fold(options: ListOptions, known: Sequence[str], *, what: str) -> str:
    """Return the fold that was chosen.

    Raises:
        AnnotationError: none was, or it is not known.
    """
    if options.fold not in known:
        found = f", found {options.fold!r}" if options.fold else ""
        raise AnnotationError(f"{what}: choose one of {', '.join(known)} with --fold{found}")
    return options.fold
