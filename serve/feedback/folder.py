"""Store clips with corrected labels in a folder. Writes are durable, and the total size is limited.

To add a clip, it is written to a temporary file, synced and renamed; then its row is appended to the index and synced.
To remove a clip, its row is removed first. A crash therefore leaves at most a clip without a row, which is deleted at
the next start. A file lock serialises all writers, including other processes.
"""

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from serve.errors import ConfigurationError, FeedbackFull, FeedbackUnavailable, UnknownFeedback
from serve.feedback.index import CLIP_NAME_PATTERN, CLIPS, INDEX, Feedback, clip_path, format_line, read_index
from serve.files import sync_to_disk, write_atomically
from serve.text.normalization import caseless_form

logger = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"
DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
CONTAINER_SUFFIXES = {  # by FFmpeg's name of the container; the client's file name is not used
    "mov,mp4,m4a,3gp,3g2,mj2": ".mp4",
    "matroska,webm": ".mkv",
    "mpegts": ".ts",
    "mpeg": ".mpg",
    "png_pipe": ".png",
    "jpeg_pipe": ".jpg",
    "bmp_pipe": ".bmp",
    "webp_pipe": ".webp",
    **{name: f".{name}" for name in ("asf", "avi", "flv", "gif", "ogg", "mxf", "nut", "dv", "apng", "webp", "avif")},
}


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A validated correction: the correct label of a clip."""

    label: str
    vocabulary: str | None = None
    is_new_label: bool | None = None
    predicted: str | None = None
    request_id: str | None = None
    note: str | None = None
    key_id: str | None = None  # id of the API key that sent the correction


class FeedbackFolder:
    """A folder of clips and their index; all methods block."""

    def __init__(self, folder: Path, *, max_bytes: int, max_clips: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_clips = max_clips
        # ((inode, size, mtime) of the index when it was last read, its rows)
        self._cached_rows: tuple[tuple[int, int, int], list[Feedback]] | None = None

    def open(self) -> None:
        """Create the folder; remove clips without a row (left by a crash) and rows whose clip is missing.

        Raises:
            ConfigurationError: the folder cannot be created or is not writable.
        """
        try:
            (self.folder / CLIPS).mkdir(parents=True, exist_ok=True)
            with self.locked():
                self._sweep()
        except (OSError, FeedbackUnavailable) as error:
            raise ConfigurationError(
                f"feedback folder {self.folder} cannot be used: {error}", field="feedback.dir"
            ) from error

    def rows(self) -> Sequence[Feedback]:
        """Return all rows, oldest first.

        Raises:
            FeedbackUnavailable: the index cannot be read.
        """
        with _translate_os_errors():
            return self._read()

    def add(self, clip: Path, correction: Correction, *, container: str) -> tuple[Feedback, bool]:
        """Store a copy of a clip with its correction; return its row and whether it is new.

        The same content with the same label is stored only once for each API key. After this returns, the row survives
        power loss.

        Raises:
            FeedbackFull: a limit would be exceeded, or the disk is full; nothing was stored.
            FeedbackUnavailable: the folder is not writable; nothing was stored.
        """
        with _translate_os_errors():
            with clip.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            with self.locked():
                rows, label = self._read(), caseless_form(correction.label)
                for row in rows:
                    is_same = row.sha256 == sha256 and caseless_form(row.label) == label
                    if is_same and row.key_id == correction.key_id:
                        return row, False
                num_bytes = clip.stat().st_size
                self._check_limits(rows, num_bytes)
                row = _make_row(correction, sha256=sha256, num_bytes=num_bytes, container=container)
                self._write_clip(clip, row)
                return row, True

    def remove(self, feedback_id: str, *, is_visible: Callable[[Feedback], bool]) -> None:
        """Erase a clip and its row.

        Raises:
            UnknownFeedback: no feedback that is visible to the caller has this id.
            FeedbackUnavailable: the folder is not writable.
        """
        with _translate_os_errors(), self.locked():
            rows = self._read()
            erased = next((row for row in rows if row.feedback_id == feedback_id and is_visible(row)), None)
            if erased is None:
                raise UnknownFeedback(f"feedback {feedback_id[:80]!r} does not exist")
            self._rewrite([row for row in rows if row is not erased])
            clip_path(self.folder, erased).unlink(missing_ok=True)
            sync_to_disk(self.folder / CLIPS)

    def _check_limits(self, rows: Sequence[Feedback], num_bytes: int) -> None:
        used = sum(row.num_bytes for row in rows)
        if len(rows) >= self.max_clips:
            raise FeedbackFull(
                f"the feedback folder holds {len(rows)} clips, at most {self.max_clips} are allowed",
                limit=self.max_clips,
            )
        if used + num_bytes > self.max_bytes:
            raise FeedbackFull(
                f"the clip has {num_bytes} bytes; {used} of {self.max_bytes} allowed bytes are in use",
                used_bytes=used,
                limit_bytes=self.max_bytes,
            )

    def _write_clip(self, clip: Path, row: Feedback) -> None:
        """Write the clip, then append its row; if either fails, both are removed."""
        final = clip_path(self.folder, row)
        partial = final.with_name(f"{row.feedback_id}{PARTIAL_SUFFIX}")
        try:
            with clip.open("rb") as source, partial.open("xb") as target:
                shutil.copyfileobj(source, target, 2**20)
                target.flush()
                os.fsync(target.fileno())
            partial.rename(final)
            sync_to_disk(final.parent)
            self._append(format_line(row))
        except BaseException:
            partial.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
            raise

    def _append(self, line: bytes) -> None:
        """Append a line to the index and sync it.

        If the last line is incomplete, it is terminated first. A partial write is undone.
        """
        with (self.folder / INDEX).open("ab+", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            if size:
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else b"\n" + line
            try:
                if stream.write(line) != len(line):
                    raise OSError(errno.ENOSPC, "the row was written in part")
                os.fsync(stream.fileno())
            except OSError:
                os.ftruncate(stream.fileno(), size)
                raise

    def _rewrite(self, rows: Sequence[Feedback]) -> None:
        """Replace the index atomically."""
        write_atomically(self.folder / INDEX, b"".join(format_line(row) for row in rows))

    def _read(self) -> list[Feedback]:
        """Return the rows; the index is read again only if it has changed."""
        try:
            stat = (self.folder / INDEX).stat()
        except FileNotFoundError:
            return []
        key, cached = (stat.st_ino, stat.st_size, stat.st_mtime_ns), self._cached_rows
        if cached is None or cached[0] != key:
            cached = self._cached_rows = key, read_index(self.folder)[0]
        return cached[1]

    def _sweep(self) -> None:
        """Remove rows whose clip is missing, and clips without a row; delete only files with generated names."""
        rows, damaged = read_index(self.folder)
        complete_rows = [row for row in rows if clip_path(self.folder, row).is_file()]
        num_missing = len(rows) - len(complete_rows)
        if damaged or num_missing or not (self.folder / INDEX).exists():
            self._rewrite(complete_rows)
        if damaged or num_missing:
            logger.warning("feedback: removed %d rows without a clip and %d damaged lines", num_missing, damaged)
        used_names = {row.file for row in complete_rows}
        leftovers = [
            path
            for path in (self.folder / CLIPS).iterdir()
            if path.name not in used_names and (CLIP_NAME_PATTERN.fullmatch(path.name) or path.suffix == PARTIAL_SUFFIX)
        ]
        for path in leftovers:
            path.unlink()
        if leftovers:
            sync_to_disk(self.folder / CLIPS)
            logger.warning("feedback: removed %d clip files without a row", len(leftovers))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers away during the block, including other processes."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or the process dies
            yield


def _make_row(correction: Correction, *, sha256: str, num_bytes: int, container: str) -> Feedback:
    feedback_id = secrets.token_hex(16)
    return Feedback(
        feedback_id=feedback_id,
        file=feedback_id + CONTAINER_SUFFIXES.get(container, ""),
        sha256=sha256,
        num_bytes=num_bytes,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        **vars(correction),
    )


@contextmanager
def _translate_os_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRORS:
            raise FeedbackFull("the disk of the feedback folder is full") from error
        raise FeedbackUnavailable(f"the feedback folder cannot be used: {error.strerror}") from error
