"""Prepare a data set from a list or folder of videos: extract frames, split the videos, write lists and class names.

    python -m training prepare videos/ dataset/

The lists are written in the formats of ActionCLIP (frame folders) and X-CLIP (video files). The frames of a video are
moved into place atomically, with a file that describes their source, so a stopped run can be resumed. Videos that
cannot be used are omitted and listed in `failures.jsonl`.
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
from serve.independence import GroupCounts, assign_groups, count_groups
from serve.lists.errors import AnnotationError
from serve.video.limits import DecodeSettings
from training.data.decoding.pool import for_each
from training.data.decoding.process import DISK_ERRNOS, BadVideoError, DecodeProcess
from training.data.digests import digest_or_none, find_near_duplicates
from training.data.failure_file import FailureFile, file_identity, write_lines
from training.data.lists.labels import index_labels, label_rows
from training.data.lists.listing import read_listing
from training.data.lists.rows import SPLITS, Entry, Listing, ListOptions, ListRow
from training.data.lists.splits import split_rows
from training.data.progress import progress_bar
from training.errors import InputError

FRAMES_DIR, STAGING_DIR = "frames", ".partial"
SOURCE_FILE, FAILURES_FILE, CLASSES_FILE = "source.json", "failures.jsonl", "classes.csv"
MAX_IMAGE_BYTES = 64 * 2**20


class PrepareError(InputError):
    """The data set cannot be prepared, for a reason that does not concern a single video."""


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Options for extracting frames; frames that were extracted with other options are extracted again."""

    quality: int = 95  # JPEG quality
    short_side: int = 256  # shorter side in pixels; 0 keeps the size; smaller frames are not enlarged


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options for splitting the data set into train, val and test."""

    val: float = 0.1  # fraction of each class
    test: float = 0.0  # fraction of each class
    seed: int = 0
    near_duplicates: bool = False  # also compare frames, so that re-encoded copies are in the same split


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """One video of the data set, and the folder of its frames."""

    path: Path
    folder: str  # relative to `FRAMES_DIR`


def prepare(
    videos: Path,
    out: Path,
    *,
    frame_options: FrameOptions | None,
    split_options: SplitOptions,
    list_options: ListOptions | None = None,
    classes: Path | None = None,
    workers: int,
    deadline_seconds: float,
    retry_failed: bool,
    on_message: Callable[[Sequence[str]], object] = list,
) -> dict[str, Any]:
    """Prepare the data set in the folder `out`, or complete it; return the counts that the command prints.

    If `frame_options` is None, no frames are extracted and only lists of video files are written. `on_message` is
    called with lines that describe how the list was interpreted and how many videos are independent.

    Raises:
        PrepareError: another run is preparing the same data set, or the disk is full.
        AnnotationError: the list contains nothing to prepare, or cannot be read.
    """
    list_options = list_options or ListOptions()
    base, listing = read_videos(videos, list_options)
    on_message(listing.layout())
    indexed = index_labels(listing.rows, listing, classes, first_label=list_options.first_label)
    names, rows = indexed.names, label_rows(indexed.rows, indexed.names)
    if unknown := [row for row in rows if row.label is None or not 0 <= row.label < len(names)]:
        raise AnnotationError(
            f"{unknown[0].location}: the class {unknown[0].name or unknown[0].label} is not in the class list"
        )
    out.mkdir(parents=True, exist_ok=True)
    with _lock_folder(out):
        shutil.rmtree(out / STAGING_DIR, ignore_errors=True)
        sources = [SourceVideo(path=row.path, folder=folder_name(row.path, base)) for row in rows]
        failures = FailureFile(out / FAILURES_FILE, retry=retry_failed)
        counts = {"videos": len({video.path for video in sources}), "prepared": 0, "kept": 0}
        if frame_options is not None:
            counts |= _extract_all(
                sources, out, frame_options, failures, workers=workers, deadline_seconds=deadline_seconds
            )
        for video in sources:
            if reason := _invalid_name_reason(video):
                failures.add(video.path, reason)
        groups, independence_ = _find_groups(rows, split_options, workers=workers, deadline_seconds=deadline_seconds)
        splits = split_rows(rows, asdict(split_options), seed=split_options.seed, base=base, groups=groups.tolist())
        _write_lists(rows, sources, out, names, splits=splits, failures=failures, frame_options=frame_options)
        on_message(_describe_groups(independence_, groups, splits))
        failures.keep_only({video.path for video in sources})
        shutil.rmtree(out / STAGING_DIR, ignore_errors=True)
    group_counts = {"independent": independence_.num_independent, "copies": independence_.num_copies}
    return counts | {"failed": len(failures.records), "classes": len(names)} | group_counts | _split_sizes(out)


def read_videos(videos: Path, options: ListOptions) -> tuple[Path, Listing]:
    """Read a list of any kind except shards; return the folder that video paths are relative to, and the listing.

    Raises:
        AnnotationError: the list is not supported, contains no video, or contains frame folders.
    """
    videos = Path(os.path.abspath(videos))  # noqa: PTH100  # removes `..`, but does not resolve symbolic links
    listing = read_listing(videos, options)
    base = options.root or (videos if videos.is_dir() else videos.parent)
    if not listing.rows:
        raise AnnotationError(f"{videos} contains neither a video in a class folder nor an index.csv")
    if any(row.num_frames is not None for row in listing.rows):
        raise AnnotationError(f"{videos}: the frames of this list are already extracted; there is nothing to prepare")
    return Path(os.path.abspath(base)), listing  # noqa: PTH100


def _find_groups(
    rows: Sequence[ListRow], options: SplitOptions, *, workers: int, deadline_seconds: float
) -> tuple[Int64Array, GroupCounts]:
    """Return the group id of each video [N], and counts.

    Videos with the same declared group, the same source according to their names, or the same content are in one
    group, and optionally near duplicates.
    """
    digests = [digest_or_none(Entry(path=row.path, label=0)) for row in rows]
    pairs: list[tuple[int, int]] = []
    if options.near_duplicates:
        settings = DecodeSettings.model_validate({"threads": 1, "deadline_seconds": deadline_seconds})
        pairs = find_near_duplicates([row.path for row in rows], settings=settings, workers=workers)
    groups = assign_groups(
        names=[os.fsencode(row.path.name).decode("utf-8", errors="backslashreplace") for row in rows],
        digests=digests,
        declared=[row.group for row in rows],
        pairs=pairs,
    )
    return groups, count_groups(groups, digests=digests)


def _describe_groups(counts: GroupCounts, groups: Int64Array, splits: Sequence[str]) -> list[str]:
    """Return lines that describe the groups, and whether the splits of the list divide some of them."""
    lines = [
        f"{counts.num_clips} videos, {counts.num_independent} of them independent; {counts.num_copies} copies; "
        f"the largest group has {counts.largest_group} videos"
    ]
    num_divided = len(set(zip(groups.tolist(), splits, strict=True))) - len(set(groups))
    if num_divided:
        lines.append(f"note: the splits of the list divide {num_divided} groups, so the splits are not independent")
    return lines


def folder_name(path: Path, base: Path) -> str:
    """Return the name of the folder for a video's frames: the path relative to `base`, which is unique."""
    inside = Path(os.path.normpath(path))
    if inside.is_relative_to(base):
        return inside.relative_to(base).as_posix()
    return f"elsewhere/{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]} {path.name}"


def _extract_all(
    sources: Sequence[SourceVideo],
    out: Path,
    options: FrameOptions,
    failures: FailureFile,
    *,
    workers: int,
    deadline_seconds: float,
) -> dict[str, int]:
    """Extract the frames of all videos that have none yet; return the numbers of extracted and unchanged videos."""
    distinct = list({video.folder: video for video in sources}.values())
    remaining = [
        video
        for video in distinct
        if not failures.has_failed(video.path)
        and frame_count(out / FRAMES_DIR / video.folder, video.path, options) is None
    ]
    settings = DecodeSettings.model_validate(
        {
            "threads": 1,
            "deadline_seconds": deadline_seconds,
            "max_cpu_seconds": max(1, round(2 * deadline_seconds)),
            "max_file_bytes": MAX_IMAGE_BYTES,
            "isolation": "off",  # the processes write the images themselves
        }
    )

    def job(decoder: DecodeProcess, video: SourceVideo) -> str:
        try:
            extract_video(decoder, video, out, options)
        except BadVideoError as error:
            return str(error)
        except OSError as error:
            if error.errno in DISK_ERRNOS:
                raise PrepareError(
                    f"{out}: {error.strerror}; run the command again to continue with the remaining videos"
                ) from error
            return f"{error.strerror or error} ({type(error).__name__})"
        return ""

    prepared = 0
    with progress_bar("extracting", total=len(remaining)) as bar:
        for video, reason in for_each(remaining, job, settings=settings, workers=workers):
            prepared += not reason
            if reason:
                failures.add(video.path, reason)
            bar.advance(is_failure=bool(reason))
    return {
        "prepared": prepared,
        "kept": len(distinct) - len(remaining) - sum(failures.failed_before(video.path) for video in distinct),
    }


def extract_video(decoder: DecodeProcess, video: SourceVideo, out: Path, options: FrameOptions) -> None:
    """Write the frames of a video to a staging folder and move them into place.

    Raises:
        BadVideoError: the video cannot be decoded, or its name cannot be written to a list.
        OSError: the frames cannot be written.
    """
    if reason := _invalid_name_reason(video):
        raise BadVideoError(reason)
    staging = out / STAGING_DIR / secrets.token_hex(8)
    staging.mkdir(parents=True)
    try:
        counts = decoder.extract(video.path, staging, quality=options.quality, short_side=options.short_side)
        source = {**counts, **file_identity(video.path), **asdict(options)}
        (staging / SOURCE_FILE).write_text(json.dumps(source), encoding="utf-8")
        final = out / FRAMES_DIR / video.folder
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # extracted from another version of the file, or with other options
            final.rename(staging.with_suffix(".old"))
        staging.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(staging.with_suffix(".old"), ignore_errors=True)


def frame_count(folder: Path, video: Path, options: FrameOptions) -> int | None:
    """Return the number of frames in `folder`; None if they are not from this video file with these options."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        expected = {**file_identity(video), **asdict(options)}
        return int(source["num_frames"]) if all(source.get(name) == value for name, value in expected.items()) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _invalid_name_reason(video: SourceVideo) -> str:
    """Return why the name of a video cannot be written to a list, or an empty string if it can."""
    try:
        video.folder.encode(), str(video.path).encode()
    except UnicodeEncodeError:
        return "the file name is not UTF-8"
    return "the file name contains a line break" if set(video.folder + str(video.path)) & set("\r\n") else ""


def _write_lists(
    rows: Sequence[ListRow],
    sources: Sequence[SourceVideo],
    out: Path,
    names: Sequence[str],
    *,
    splits: Sequence[str],
    failures: FailureFile,
    frame_options: FrameOptions | None,
) -> None:
    """Write the lists of each split and the class names; remove lists of splits without videos."""
    lines: dict[str, list[str]] = {f"{kind}_{split}.txt": [] for split in SPLITS for kind in ("frames", "videos")}
    for row, video, split in zip(rows, sources, splits, strict=True):
        if failures.has_failed(video.path):
            continue
        lines[f"videos_{split}.txt"].append(f"{_relative_path(out, video.path)} {row.label}")
        if frame_options is not None:
            count = frame_count(out / FRAMES_DIR / video.folder, video.path, frame_options)
            lines[f"frames_{split}.txt"].append(f"{FRAMES_DIR}/{video.folder} {count} {row.label}")
    for name, content in lines.items():
        if content:
            write_lines(out / name, content)
        else:
            (out / name).unlink(missing_ok=True)
    with (out / CLASSES_FILE).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "name"), *enumerate(names)])


def _relative_path(out: Path, video: Path) -> str:
    """Return the path of a video relative to the data set; a leading space is protected by `./`."""
    relative = os.path.relpath(video, os.path.realpath(out))  # if `out` is a link, `..` is relative to its target
    return relative if not relative[:1].isspace() else f"./{relative}"


def _split_sizes(out: Path) -> dict[str, int]:
    lists = {split: out / f"videos_{split}.txt" for split in SPLITS}
    return {name: path.read_text(encoding="utf-8").count("\n") if path.exists() else 0 for name, path in lists.items()}


@contextlib.contextmanager
def _lock_folder(out: Path) -> Iterator[None]:
    """Hold the lock of a data set.

    Raises:
        PrepareError: another process holds the lock.
    """
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PrepareError(f"{out}: another run is preparing this data set; wait until it ends") from error
        yield
