"""Reader of Something-Something V2 in its published layout.

    labels/labels.json                     `{"Approaching something with your camera": "0", ...}`
    labels/train.json, validation.json     `[{"id": "78687", "template": "Holding [something]", ...}]`
    20bn-something-something-v2/78687.webm

File names may have the prefix something-something-v2-, as in the first release.
"""

import json
from pathlib import Path
from typing import Any

from serve.lists.errors import AnnotationError
from serve.lists.parts import part_of
from serve.lists.text import read_text
from training.data.lists.class_lists import read_class_list
from training.data.lists.published.places import find_base, folders_with_lists, missing_note
from training.data.lists.rows import Listing, ListOptions, ListRow

PREFIX = "something-something-v2-"


def read_something_something(path: Path, options: ListOptions) -> Listing:
    """Read the lists of train and validation, or one list file.

    Raises:
        AnnotationError: files are missing, or an item is invalid; names the file and the item.
    """
    files = [path] if path.is_file() else _list_files(path)
    candidates = [files[0].parent / name for name in ("labels.json", f"{PREFIX}labels.json")]
    labels = next((file for file in candidates if file.is_file()), None)
    if labels is None:
        raise AnnotationError(f"{files[0].parent}: Something-Something's labels.json is needed beside {files[0].name}")
    names = read_class_list(labels).names
    rows: list[ListRow] = []
    notes: list[str] = []
    for file in files:
        found, unlabelled = _rows(file, names)
        rows += found
        if unlabelled:
            notes.append(f"{file.name} has {unlabelled} videos without template, which are ignored")
    if not rows:
        raise AnnotationError(f"{path}: the lists have no labelled video")
    around = (path, files[0].parent, files[0].parent.parent) if path.is_dir() else (path.parent, path.parent.parent)
    candidates = [base / name for base in around for name in ("20bn-something-something-v2", "videos", "")]
    ids = [row.path.name for row in rows]
    suffix, base = _suffix_and_base(candidates, ids, options)
    rows = [
        ListRow(path=base / f"{row.path.name}{suffix}", label=row.label, split=row.split, place=row.place)
        for row in rows
    ]
    return Listing(
        path=path,
        kind="ssv2",
        form=f"Something-Something V2, {', '.join(file.name for file in files)}, videos in {base}",
        rows=tuple(rows),
        notes=(*notes, *missing_note([row.path for row in rows])),
        class_names=names,
    )


def _suffix_and_base(candidates: list[Path], ids: list[str], options: ListOptions) -> tuple[str, Path]:
    fault: AnnotationError | None = None
    for suffix in (".webm", ".mp4"):
        try:
            files = [Path(f"{each}{suffix}") for each in ids]
            return suffix, find_base(candidates, files, what="Something-Something", options=options)
        except AnnotationError as error:
            fault = fault or error
    assert fault is not None
    raise fault


def _list_files(path: Path) -> list[Path]:
    for folder in folders_with_lists(path, "labels"):
        for prefix in ("", PREFIX):
            found = [folder / f"{prefix}{part}.json" for part in ("train", "validation")]
            if present := [file for file in found if file.is_file()]:
                return present
    raise AnnotationError(f"{path}: no train.json and validation.json found, nor in labels")


def _part(file: Path) -> str:
    part = part_of(file.stem.removeprefix(PREFIX))
    if part is None:
        raise AnnotationError(
            f"{file.name}: Something-Something's lists are named train.json, validation.json and test.json"
        )
    return part


def _rows(file: Path, names: tuple[str, ...]) -> tuple[list[ListRow], int]:
    text, part = read_text(file), _part(file)
    try:
        content: Any = json.loads(text.text)
    except ValueError as error:
        raise AnnotationError(f"{text.name} cannot be read as JSON: {error}") from error
    if not isinstance(content, list) or not all(isinstance(item, dict) and "id" in item for item in content):
        raise AnnotationError(f"{text.name}: a list of objects with an id is needed")
    label_of = {name: number for number, name in enumerate(names)}
    rows, unlabelled = [], 0
    for number, item in enumerate(content):
        place = f"{text.name}, item {number}"
        if "template" not in item:
            if "label" in item:
                raise AnnotationError(f"{place}: the template, which is the class name, is missing")
            unlabelled += 1
            continue
        name = str(item["template"]).replace("[", "").replace("]", "")
        if name not in label_of:
            raise AnnotationError(f"{place}: labels.json has no class {name!r}")
        rows.append(ListRow(path=Path(str(item["id"])), label=label_of[name], split=part, place=place))
    return rows, unlabelled
