"""The output folder of a batch: parts that are written atomically, so that a killed run can be continued.

manifest.json             settings of the run
inputs.jsonl              names of the inputs; the line number, from 0, is the index
results/part-000000.parquet, segments/..., jsonl/part-000000.jsonl, errors/part-000000.jsonl
commits/part-000000.json  indices of the inputs of a part, and its files; written last

A part exists once its commit exists. Files without a commit are the rest of a killed run and are deleted at the next
start, before anything is written. A lock admits one run at a time; the kernel releases it when the process dies.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from serve.batch import tables
from serve.batch.manifest import FILE, Manifest, RunSettings, check_same_settings, create_manifest, read_manifest
from serve.batch.tables import CompletedInput
from serve.errors import InvalidOption
from serve.files import atomic_write, write_atomically
from serve.jobs.results import command_result_line

INPUTS_FILE = "inputs.jsonl"
LOCK_FILE = ".lock"
COMMITS = "commits"
CONTENT = ("results", "segments", "jsonl", "errors")


class Commit(BaseModel):
    """Content of a file of `commits`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completed: list[int]
    failed: list[int]
    num_rows: int  # of the results table
    files: list[str]  # relative to the folder


@dataclass(kw_only=True)
class Part:
    """Outcomes that are not written yet."""

    completed: list[CompletedInput] = field(default_factory=list)
    failed: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)  # (index, name, problem)

    def __len__(self) -> int:
        return len(self.completed) + len(self.failed)


class OutputFolder:
    """An output folder that is open for writing; see `open_output`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._document = manifest.model_dump_json()
        self._commits = {number: _read_commit(file) for number, file in _commit_files(path)}
        for number, commit in self._commits.items():
            for name in commit.files:
                if not (path / name).is_file():
                    raise InvalidOption(
                        f"{path / name} is missing; delete {_commit_path(path, number)} to process its inputs again"
                    )
        self.num_removed = _remove_uncommitted(path, self._commits)
        self._next_part = max(self._commits, default=-1) + 1

    @property
    def settings(self) -> RunSettings:
        """Settings of the run."""
        return self._manifest.settings

    @property
    def completed(self) -> set[int]:
        """Indices of the inputs that have results."""
        return {index for commit in self._commits.values() for index in commit.completed}

    @property
    def failed(self) -> set[int]:
        """Indices of the inputs that have errors."""
        return {index for commit in self._commits.values() for index in commit.failed}

    @property
    def num_parts(self) -> int:
        """Number of committed parts."""
        return len(self._commits)

    @property
    def num_rows(self) -> int:
        """Number of rows of the results table."""
        return sum(commit.num_rows for commit in self._commits.values())

    def register(self, names: Sequence[str]) -> dict[str, int]:
        """Return the index of each input; inputs that earlier runs did not have are appended to the list."""
        path = self._path / INPUTS_FILE
        known = _read_inputs(path)
        indices = {name: index for index, name in enumerate(known)}
        added = [name for name in names if name not in indices]
        indices |= {name: len(known) + place for place, name in enumerate(added)}
        if added:
            with atomic_write(path) as partial, partial.open("w", encoding="ascii") as stream:
                stream.writelines(f"{json.dumps(name)}\n" for name in indices)
        return {name: indices[name] for name in names}

    def drop_errors(self) -> None:
        """Remove all errors, so that their inputs are processed again."""
        for number, commit in self._commits.items():
            if commit.failed:
                files = [name for name in commit.files if not name.startswith("errors/")]
                changed = commit.model_copy(update={"failed": [], "files": files})
                write_atomically(_commit_path(self._path, number), changed.model_dump_json())
                self._commits[number] = changed
        _remove_uncommitted(self._path, self._commits)

    def write(self, part: Part) -> None:
        """Write and commit a part."""
        number, settings = self._next_part, self._manifest.settings
        completed = sorted(part.completed, key=lambda item: item.index)
        failed = sorted(part.failed, key=lambda item: item[0])
        files: list[str] = []
        num_rows = 0
        if completed and "parquet" in settings.formats:
            with self._new_file("results", number, "parquet", files) as path:
                num_rows = tables.write_results(path, settings.kind, completed, manifest=self._document)
            if settings.kind == "timeline":
                with self._new_file("segments", number, "parquet", files) as path:
                    tables.write_segments(path, completed, manifest=self._document)
        if completed and "jsonl" in settings.formats:
            lines = [
                command_result_line(settings.kind, index=item.index, name=item.name, result=item.result, problem=None)
                for item in completed
            ]
            self._write_lines("jsonl", number, lines, files)
        if failed:
            lines = [
                command_result_line(settings.kind, index=index, name=name, result=None, problem=problem)
                for index, name, problem in failed
            ]
            self._write_lines("errors", number, lines, files)
        commit = Commit(
            completed=[item.index for item in completed],
            failed=[index for index, _, _ in failed],
            num_rows=num_rows,
            files=files,
        )
        write_atomically(_commit_path(self._path, number), commit.model_dump_json())
        self._commits[number] = commit
        self._next_part += 1

    @contextmanager
    def _new_file(self, folder: str, number: int, suffix: str, files: list[str]) -> Iterator[Path]:
        name = f"{folder}/{_part_name(number)}.{suffix}"
        with atomic_write(self._path / name) as partial:
            yield partial
        files.append(name)

    def _write_lines(self, folder: str, number: int, lines: Sequence[str], files: list[str]) -> None:
        with (
            self._new_file(folder, number, "jsonl", files) as path,
            path.open("w", encoding="utf-8", newline="") as stream,
        ):
            stream.writelines(lines)


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Hold the lock of an output folder, which is created if it does not exist.

    Raises:
        InvalidOption: another command holds it, or the folder contains something else.
    """
    if path.exists() and not path.is_dir():
        raise InvalidOption(f"{path} of --out is not a folder")
    if path.is_dir() and not (path / FILE).exists():
        others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        if others:
            raise InvalidOption(
                f"the folder {path} of --out is not empty and was not written by `actserve batch`: "
                f"it contains {others[0]!r}; choose another folder"
            )
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise InvalidOption(f"another command of actserve uses {path}") from error
    try:
        yield
    finally:
        if not (path / FILE).exists():  # nothing was written
            (path / LOCK_FILE).unlink()
            with suppress(OSError):  # the folder of the caller may be in use otherwise
                path.rmdir()
        os.close(lock)


def open_output(path: Path, settings: RunSettings) -> OutputFolder:
    """Open a folder whose lock is held; it is new, or continues the work of earlier runs.

    Raises:
        InvalidOption: the folder was written with other settings, or is damaged.
    """
    manifest = read_manifest(path)
    if manifest is None:
        manifest = create_manifest(path, settings)
    check_same_settings(path, manifest, settings)
    return OutputFolder(path, manifest)


def read_commits(path: Path) -> list[Commit]:
    """Return the commits of a folder in order of the parts.

    Raises:
        InvalidOption: a commit is damaged.
    """
    return [_read_commit(file) for _, file in _commit_files(path)]


def _part_name(number: int) -> str:
    return f"part-{number:06d}"


def _commit_path(path: Path, number: int) -> Path:
    return path / COMMITS / f"{_part_name(number)}.json"


def _commit_files(path: Path) -> list[tuple[int, Path]]:
    files = (path / COMMITS).glob("part-*.json")
    numbered = [(file.stem.removeprefix("part-"), file) for file in files]
    return sorted((int(number), file) for number, file in numbered if number.isdecimal())


def _read_commit(path: Path) -> Commit:
    try:
        return Commit.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidOption(f"{path} is damaged: it is not a commit of `actserve batch`") from error


def _remove_uncommitted(path: Path, commits: dict[int, Commit]) -> int:
    """Delete the files of parts that were not committed; return the number of deleted files."""
    committed = {name for commit in commits.values() for name in commit.files}
    num_removed = 0
    for folder in (*CONTENT, COMMITS):
        for file in (path / folder).glob("*part*"):
            is_partial = file.name.startswith(".") and file.name.endswith(".part")
            if is_partial or (folder != COMMITS and f"{folder}/{file.name}" not in committed):
                file.unlink()
                num_removed += 1
    for file in path.glob(".*.part"):
        file.unlink()
    return num_removed


def _read_inputs(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        names: list[str] = [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InvalidOption(f"{path} is damaged: {error}") from error
    return names
