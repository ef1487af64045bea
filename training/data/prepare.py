"""Prepare a data set from a folder of videos: frames, lists of both systems, class names, and parts.

    python -m training prepare videos/ dataset/

The frames of a video are moved into place atomically, with a note of their source, so a stopped run can be resumed.
Videos that cannot be used are omitted and listed in `failures.jsonl`.
"""

import contextlib
import csv
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serve.arrays import Int64Array
from serve.independence import Independence, assign_groups, count_independent
from serve.lists.errors import AnnotationError
from serve.video.limits import DecodeSettings
from training.data.decoding.pool import for_each
from training.data.decoding.process import DISK_IS_FULL, BadVideoError, DecodeProcess
from training.data.digests import digest_or_none, near_duplicates
from training.data.failure_file import FailureFile, origin_of, write_lines
from training.data.lists.labels import index_labels, labelled
from training.data.lists.listing import read_listing
from training.data.lists.rows import Entry, Listing, ListOptions, ListRow
from training.data.lists.splits import PARTS, split_rows
from training.data.progress import progress_bar
from training.errors import InputError

FRAMES, PARTIAL, NOTE, FAILURES, CLASSES = "frames", ".partial", "source.json", "failures.jsonl", "classes.csv"
LARGEST_PICTURE_BYTES = 64 * 2**20


class PrepareError(InputError):
    """The data set cannot be prepared, for a reason other than a single video."""


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Options of extracted frames; frames of other options are extracted again."""

    quality: int = 95  # JPEG quality
    short_side: int = 256  # pixels; 0 keeps the size; frames are never enlarged


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """Shares of each class for validation and test."""

    val: float = 0.1
    test: float = 0.0
    seed: int = 0
    near_duplicates: bool = False  # also compare pictures, so that recoded copies are in one part


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """One video of the set, and the folder of its frames."""

    path: Path
    folder: str  # below `frames`


def prepare(
    videos: Path,
    out: Path,
    *,
    pictures: FrameOptions | None,
    parts: SplitShares,
    options: ListOptions | None = None,
    classes: Path | None = None,
    workers: int,
    deadline_seconds: float,
    retry_failed: bool,
    show: Callable[[Sequence[str]], object] = list,
) -> dict[str, Any]:
    """Prepare or complete the data set; without `pictures`, only lists of videos. Returns counts.

    `show` is called with lines about the interpretation of the list and the number of independent videos.

    Raises:
        PrepareError: another run prepares the same data set, or the disk is full.
        AnnotationError: there is nothing to prepare, or the index cannot be read.
    """
    options = options or ListOptions()
    base, listing = find_videos(videos, options)
    show(listing.layout())
    read = index_labels(listing.rows, listing, classes, first_label=options.first_label)
    names, rows = read.names, labelled(read.rows, read.names)
    if outside := [row for row in rows if row.label is None or not 0 <= row.label < len(names)]:
        raise AnnotationError(f"{outside[0].place}: the class {outside[0].name or outside[0].label} is not in the list")
    out.mkdir(parents=True, exist_ok=True)
    with _exclusive(out):
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
        placed = [SourceVideo(path=row.path, folder=folder_name(row.path, base)) for row in rows]
        failures = FailureFile(out / FAILURES, retry=retry_failed)
        counts = {"videos": len({video.path for video in placed}), "prepared": 0, "kept": 0}
        if pictures is not None:
            counts |= _extract(placed, out, pictures, failures, workers=workers, deadline_seconds=deadline_seconds)
        for video in placed:
            if reason := _path_fault(video):
                failures.add(video.path, reason)
        groups, found = _groups(rows, parts, workers=workers, deadline_seconds=deadline_seconds)
        sides = split_rows(rows, asdict(parts), seed=parts.seed, base=base, groups=groups.tolist())
        _write_lists(rows, placed, out, names, parts=sides, failures=failures, pictures=pictures)
        show(_group_notes(found, groups, sides))
        failures.finish({video.path for video in placed})
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
    dependence = {"independent": found.num_independent, "copies": found.num_copies}
    return counts | {"failed": len(failures.reasons), "classes": len(names)} | dependence | _part_sizes(out)


def find_videos(videos: Path, options: ListOptions) -> tuple[Path, Listing]:
    """Return the base folder of video names, and the listing, of any kind but shards.

    Raises:
        AnnotationError: it is not supported, has no video, or lists folders of pictures.
    """
    videos = Path(os.path.abspath(videos))  # noqa: PTH100  # without `..`, and symlinks stay what they are
    listing = read_listing(videos, options)
    base = options.root or (videos if videos.is_dir() else videos.parent)
    if not listing.rows:
        raise AnnotationError(f"{videos}: no video in class folders, and no index.csv")
    if any(row.num_frames is not None for row in listing.rows):
        raise AnnotationError(f"{videos}: the list has extracted frames; there is nothing to prepare")
    return Path(os.path.abspath(base)), listing  # noqa: PTH100


def _groups(
    rows: Sequence[ListRow], parts: SplitShares, *, workers: int, deadline_seconds: float
) -> tuple[Int64Array, Independence]:
    """Return the group of each video [N]: by declared groups, names, copies, and optionally near duplicates."""
    digests = [digest_or_none(Entry(path=row.path, label=0)) for row in rows]
    pairs: list[tuple[int, int]] = []
    if parts.near_duplicates:
        settings = DecodeSettings.model_validate({"threads": 1, "deadline_seconds": deadline_seconds})
        pairs = near_duplicates([row.path for row in rows], settings=settings, workers=workers)
    groups = assign_groups(
        names=[os.fsencode(row.path.name).decode("utf-8", errors="backslashreplace") for row in rows],
        digests=digests,
        declared=[row.group for row in rows],
        pairs=pairs,
    )
    return groups, count_independent(groups, digests=digests)


def _group_notes(found: Independence, groups: Int64Array, sides: Sequence[str]) -> list[str]:
    """Describe the groups of a split."""
    lines = [
        f"{found.num_clips} videos, {found.num_independent} of them independent; {found.num_copies} copies; "
        f"the largest group has {found.largest_group}"
    ]
    if divided := len({(group, side) for group, side in zip(groups.tolist(), sides, strict=True)}) - len(set(groups)):
        lines.append(f"note: the parts that the list names divide {divided} groups, so they depend on each other")
    return lines


def folder_name(path: Path, base: Path) -> str:
    """Return the folder of a video's frames: its name below the base, which is unique."""
    inside = Path(os.path.normpath(path))
    if inside.is_relative_to(base):
        return inside.relative_to(base).as_posix()
    return f"elsewhere/{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]} {path.name}"


def _extract(
    placed: Sequence[SourceVideo],
    out: Path,
    pictures: FrameOptions,
    failures: FailureFile,
    *,
    workers: int,
    deadline_seconds: float,
) -> dict[str, int]:
    distinct = list({video.folder: video for video in placed}.values())
    todo = [
        video
        for video in distinct
        if not failures.has_failed(video.path)
        and frame_count(out / FRAMES / video.folder, video.path, pictures) is None
    ]
    settings = DecodeSettings.model_validate(
        {
            "threads": 1,
            "deadline_seconds": deadline_seconds,
            "max_cpu_seconds": max(1, round(2 * deadline_seconds)),
            "max_file_bytes": LARGEST_PICTURE_BYTES,
        }
    )

    def job(decoder: DecodeProcess, video: SourceVideo) -> str:
        try:
            extract_video(decoder, video, out, pictures)
        except BadVideoError as error:
            return str(error)
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise PrepareError(f"{out}: {error.strerror}; finished videos are kept; run again") from error
            return f"{error.strerror or error} ({type(error).__name__})"
        return ""

    prepared = 0
    with progress_bar("extracting", total=len(todo)) as bar:
        for video, reason in for_each(todo, job, settings=settings, workers=workers):
            prepared += not reason
            if reason:
                failures.add(video.path, reason)
            bar.advance(is_failure=bool(reason))
    return {
        "prepared": prepared,
        "kept": len(distinct) - len(todo) - sum(failures.failed_before(v.path) for v in distinct),
    }


def extract_video(decoder: DecodeProcess, video: SourceVideo, out: Path, pictures: FrameOptions) -> None:
    """Write a video's frames to a staging folder and move them into place.

    Raises:
        BadVideoError: the video cannot be decoded.
        OSError: the frames cannot be written.
    """
    if reason := _path_fault(video):
        raise BadVideoError(reason)
    partial = out / PARTIAL / secrets.token_hex(8)
    partial.mkdir(parents=True)
    try:
        facts = decoder.extract(video.path, partial, quality=pictures.quality, short_side=pictures.short_side)
        note = {**facts, **origin_of(video.path), **asdict(pictures)}
        (partial / NOTE).write_text(json.dumps(note), encoding="utf-8")
        final = out / FRAMES / video.folder
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # from another file or other options
            final.rename(partial.with_suffix(".old"))
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(partial.with_suffix(".old"), ignore_errors=True)


def frame_count(folder: Path, video: Path, pictures: FrameOptions) -> int | None:
    """Return the number of frames extracted from this video with these options, or None."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        expected = {**origin_of(video), **asdict(pictures)}
        return int(note["num_frames"]) if all(note.get(name) == value for name, value in expected.items()) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _path_fault(video: SourceVideo) -> str:
    """Return why a name cannot be in a list, or an empty string."""
    try:
        video.folder.encode(), str(video.path).encode()
    except UnicodeEncodeError:
        return "the file name is not UTF-8"
    return "a line break in the file name" if set(video.folder + str(video.path)) & set("\r\n") else ""


def _write_lists(
    rows: Sequence[ListRow],
    placed: Sequence[SourceVideo],
    out: Path,
    names: Sequence[str],
    *,
    parts: Sequence[str],
    failures: FailureFile,
    pictures: FrameOptions | None,
) -> None:
    lines: dict[str, list[str]] = {f"{kind}_{part}.txt": [] for part in PARTS for kind in ("frames", "videos")}
    for row, video, part in zip(rows, placed, parts, strict=True):
        if failures.has_failed(video.path):
            continue
        lines[f"videos_{part}.txt"].append(f"{_from(out, video.path)} {row.label}")
        if pictures is not None:
            count = frame_count(out / FRAMES / video.folder, video.path, pictures)
            lines[f"frames_{part}.txt"].append(f"{FRAMES}/{video.folder} {count} {row.label}")
    for name, content in lines.items():
        if content:
            write_lines(out / name, content)
        else:
            (out / name).unlink(missing_ok=True)
    with (out / CLASSES).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "name"), *enumerate(names)])


def _from(out: Path, video: Path) -> str:
    """Return a video's path relative to the data set, without a leading space."""
    relative = os.path.relpath(video, os.path.realpath(out))  # `..` is relative to the target of a link
    return relative if not relative[:1].isspace() else f"./{relative}"


def _part_sizes(out: Path) -> dict[str, int]:
    lists = {part: out / f"videos_{part}.txt" for part in PARTS}
    return {part: path.read_text(encoding="utf-8").count("\n") if path.exists() else 0 for part, path in lists.items()}


@contextlib.contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PrepareError(f"{out}: another run is in progress") from error
        yield
