"""Read Something-Something V2 in its published layout.

    labels/labels.json                     `{"Approaching something with your camera": "0", ...}`
    labels/train.json, validation.json     `[{"id": "78687", "template": "Holding [something]", ...}]`
    20bn-something-something-v2/78687.webm

File names may have the prefix something-something-v2-, as in the first release.
"""

import json
from pathlib import Path
from typing import Any

from serve.lists.errors import AnnotationError
from serve.lists.parts import parse_part
from serve.lists.text import read_text
from training.data.lists.class_lists import read_class_list
from training.data.lists.published.files import find_video_folder, list_folder_candidates, missing_notes
from training.data.lists.rows import Listing, ListOptions, ListRow

PREFIX = "something-something-v2-"


def read_something_something(path: Path, options: ListOptions) -> Listing:
    """Read the lists of train and validation, or one list file.

    Raises:
        AnnotationError: files are missing, or an item is invalid; the message contains the file and the item.
    """
    files = [path] if path.is_file() else _find_list_files(path)
    candidates = [files[0].parent / name for name in ("labels.json", f"{PREFIX}labels.json")]
    labels = next((file for file in candidates if file.is_file()), None)
    if labels is None:
        raise AnnotationError(f"{files[0].parent}: labels.json is missing; it must be beside {files[0].name}")
    names = read_class_list(labels).names
    rows: list[ListRow] = []
    notes: list[str] = []
    for file in files:
        new_rows, num_unlabelled = _read_rows(file, names)
        rows += new_rows
        if num_unlabelled:
            notes.append(f"{file.name} has {num_unlabelled} videos without a template, which are ignored")
    if not rows:
        raise AnnotationError(f"{path}: the lists contain no labelled video")
    parents = (path, files[0].parent, files[0].parent.parent) if path.is_dir() else (path.parent, path.parent.parent)
    candidates = [parent / name for parent in parents for name in ("20bn-something-something-v2", "videos", "")]
    ids = [row.path.name for row in rows]
    suffix, base = _find_suffix_and_base(candidates, ids, options)
    rows = [
        ListRow(path=base / f"{row.path.name}{suffix}", label=row.label, split=row.split, location=row.location)
        for row in rows
    ]
    return Listing(
        path=path,
        kind="ssv2",
        description=f"Something-Something V2, {', '.join(file.name for file in files)}, videos in {base}",
        rows=tuple(rows),
        notes=(*notes, *missing_notes([row.path for row in rows])),
        class_names=names,
    )


def _find_suffix_and_base(candidates: list[Path], ids: list[str], options: ListOptions) -> tuple[str, Path]:
    """Return the suffix of the video files, and their folder."""
    first_error: AnnotationError | None = None
    for suffix in (".webm", ".mp4"):
        try:
            videos = [Path(f"{video_id}{suffix}") for video_id in ids]
            return suffix, find_video_folder(candidates, videos, dataset="Something-Something", options=options)
        except AnnotationError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _find_list_files(path: Path) -> list[Path]:
    for folder in list_folder_candidates(path, "labels"):
        for prefix in ("", PREFIX):
            files = [folder / f"{prefix}{split}.json" for split in ("train", "validation")]
            if existing := [file for file in files if file.is_file()]:
                return existing
    raise AnnotationError(
        f"{path}: no train.json or validation.json was found in this folder or its subfolders, usually labels"
    )


def _split_of(file: Path) -> str:
    split = parse_part(file.stem.removeprefix(PREFIX))
    if split is None:
        raise AnnotationError(
            f"{file.name}: a list of Something-Something must be named train.json, validation.json or test.json"
        )
    return split


def _read_rows(file: Path, names: tuple[str, ...]) -> tuple[list[ListRow], int]:
    """Return (labelled rows, number of items without a template); the path of a row is the id of the video."""
    text, split = read_text(file), _split_of(file)
    try:
        content: Any = json.loads(text.text)
    except ValueError as error:
        raise AnnotationError(f"{text.name} cannot be read as JSON: {error}") from error
    if not isinstance(content, list) or not all(isinstance(item, dict) and "id" in item for item in content):
        raise AnnotationError(f"{text.name}: expected a list of objects with an id")
    label_of = {name: label for label, name in enumerate(names)}
    rows, num_unlabelled = [], 0
    for number, item in enumerate(content):
        location = f"{text.name}, item {number}"
        if "template" not in item:
            if "label" in item:
                raise AnnotationError(f"{location}: the template, which is the class name, is missing")
            num_unlabelled += 1
            continue
        name = str(item["template"]).replace("[", "").replace("]", "")
        if name not in label_of:
            raise AnnotationError(f"{location}: labels.json has no class {name!r}")
        rows.append(ListRow(path=Path(str(item["id"])), label=label_of[name], split=split, location=location))
    return rows, num_unlabelled
