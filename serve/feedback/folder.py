"""The folder of corrected clips: durable, limited in size, with complete erasure.

A clip is written to a temporary file, synced and renamed before its row is appended and synced; a row is removed before
its clip. A process that dies leaves at worst a clip without a row, which the next start deletes. One lock serialises
all writers, including other processes.
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
from serve.feedback.index import CLIPS, FILE, INDEX, Feedback, clip_path, line_of, read_index
from serve.files import sync_to_disk, write_atomically
from serve.text.normalization import caseless_form

logger = logging.getLogger(__name__)

PARTIAL = ".partial"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
SUFFIXES = {  # by ffmpeg's name of the container; the client's file name is not used
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
    """A checked correction of a clip."""

    label: str
    vocabulary: str | None = None
    is_new_label: bool | None = None
    predicted: str | None = None
    request_id: str | None = None
    note: str | None = None
    key_id: str | None = None  # of the API key that sends it


class FeedbackFolder:
    """Clips and their index; every method blocks."""

    def __init__(self, folder: Path, *, max_bytes: int, max_clips: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_clips = max_clips
        self._read_last: tuple[tuple[int, int, int], list[Feedback]] | None = None  # (the index as it was, its rows)

    def open(self) -> None:
        """Create the folder; remove clips without a row and rows without a clip, left by a process that died.

        Raises:
            ConfigurationError: it cannot be made or written to.
        """
        try:
            (self.folder / CLIPS).mkdir(parents=True, exist_ok=True)
            with self._locked():
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
        with _translated():
            return self._read()

    def add(self, clip: Path, correction: Correction, *, container: str) -> tuple[Feedback, bool]:
        """Keep a copy of a clip with its correction; return its row and whether it is new.

        The same content under the same label is kept once for each API key. When this returns, the row survives power
        loss.

        Raises:
            FeedbackFull: the limit would be passed, or the disk is full; nothing was kept.
            FeedbackUnavailable: the folder cannot be written to; nothing was kept.
        """
        with _translated():
            with clip.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            with self._locked():
                rows, label = self._read(), caseless_form(correction.label)
                for row in rows:
                    is_same = row.sha256 == sha256 and caseless_form(row.label) == label
                    if is_same and row.key_id == correction.key_id:
                        return row, False
                num_bytes = clip.stat().st_size
                self._refuse_beyond(rows, num_bytes)
                row = _row(correction, sha256=sha256, num_bytes=num_bytes, container=container)
                self._keep(clip, row)
                return row, True

    def remove(self, feedback_id: str, *, is_visible: Callable[[Feedback], bool]) -> None:
        """Erase a clip and its row.

        Raises:
            UnknownFeedback: there is none of that id, or it is not visible to the caller.
            FeedbackUnavailable: the folder cannot be written to.
        """
        with _translated(), self._locked():
            rows = self._read()
            erased = next((row for row in rows if row.feedback_id == feedback_id and is_visible(row)), None)
            if erased is None:
                raise UnknownFeedback(f"there is no feedback {feedback_id[:80]!r}")
            self._rewrite([row for row in rows if row is not erased])
            clip_path(self.folder, erased).unlink(missing_ok=True)
            sync_to_disk(self.folder / CLIPS)

    def _refuse_beyond(self, rows: Sequence[Feedback], num_bytes: int) -> None:
        used = sum(row.num_bytes for row in rows)
        if len(rows) >= self.max_clips:
            raise FeedbackFull(f"{len(rows)} clips are kept, {self.max_clips} may be", limit=self.max_clips)
        if used + num_bytes > self.max_bytes:
            raise FeedbackFull(
                f"the clip has {num_bytes} bytes; {used} of the {self.max_bytes} allowed are in use",
                used_bytes=used,
                limit_bytes=self.max_bytes,
            )

    def _keep(self, clip: Path, row: Feedback) -> None:
        """Write the clip, then the row; a failure leaves neither."""
        final = clip_path(self.folder, row)
        partial = final.with_name(f"{row.feedback_id}{PARTIAL}")
        try:
            with clip.open("rb") as source, partial.open("xb") as target:
                shutil.copyfileobj(source, target, 2**20)
                target.flush()
                os.fsync(target.fileno())
            partial.rename(final)
            sync_to_disk(final.parent)
            self._append(line_of(row))
        except BaseException:
            partial.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
            raise

    def _append(self, line: bytes) -> None:
        """Append a line and sync it; terminate an incomplete line before it, and undo an incomplete write."""
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
        """Replace the index in one step."""
        write_atomically(self.folder / INDEX, b"".join(line_of(row) for row in rows))

    def _read(self) -> list[Feedback]:
        """Return the rows; the file is read again only if it changed."""
        try:
            facts = (self.folder / INDEX).stat()
        except FileNotFoundError:
            return []
        seen, last = (facts.st_ino, facts.st_size, facts.st_mtime_ns), self._read_last
        if last is None or last[0] != seen:
            last = self._read_last = seen, read_index(self.folder)[0]
        return last[1]

    def _sweep(self) -> None:
        """Delete files of the server, recognised by the pattern of their names."""
        rows, damaged = read_index(self.folder)
        whole = [row for row in rows if clip_path(self.folder, row).is_file()]
        if damaged or len(whole) < len(rows) or not (self.folder / INDEX).exists():
            self._rewrite(whole)
        if damaged or len(whole) < len(rows):
            logger.warning("feedback: %d rows without a clip, %d damaged lines", len(rows) - len(whole), damaged)
        kept = {row.file for row in whole}
        leftovers = [
            path
            for path in (self.folder / CLIPS).iterdir()
            if path.name not in kept and (FILE.fullmatch(path.name) or path.suffix == PARTIAL)
        ]
        for path in leftovers:
            path.unlink()
        if leftovers:
            sync_to_disk(self.folder / CLIPS)
            logger.warning("feedback: %d clips without a row removed", len(leftovers))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or the process dies
            yield


def _row(correction: Correction, *, sha256: str, num_bytes: int, container: str) -> Feedback:
    feedback_id = secrets.token_hex(16)
    return Feedback(
        feedback_id=feedback_id,
        file=feedback_id + SUFFIXES.get(container, ""),
        sha256=sha256,
        num_bytes=num_bytes,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        **vars(correction),
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise FeedbackFull("the disk of the feedback folder is full") from error
        raise FeedbackUnavailable(f"the feedback folder cannot be used: {error.strerror}") from error
