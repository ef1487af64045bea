"""Stored videos in the database: facts, tags and features of their windows.

Features are values of the database and not files: gateways that share PostgreSQL share them, a video appears and goes
in one transaction, and the guarantees of the database hold for them. A long video is written part by part while its
windows are computed, so that memory and transactions stay small; it exists from the transaction that completes it.

Deleting overwrites the rows (see `Database.erase_deleted` for what is left on disk).
"""

import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from pydantic import BaseModel, Field

from serve.api.responses import SamplingInfo
from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.errors import StoreUnavailable, UnknownVideo, VideoStoreFull
from serve.features import VideoFeatures
from serve.store.database import Database
from serve.store.schema import stored_features, stored_video_changes, stored_video_tags, stored_videos
from serve.video.windows import Window
from serve.videos.half_precision import pack_rows, unpack_rows

logger = logging.getLogger(__name__)

Kind = Literal["clips", "windows"]
IDS_AT_ONCE = 500


class SourceFacts(BaseModel):
    """The file that a stored video was made of."""

    filename: str | None = Field(description="As the client named it; null if it gave no name.")
    num_bytes: int
    num_frames: int
    fps: float
    duration_seconds: float
    width: int
    height: int
    truncated: bool = Field(description="The file breaks off.")
    num_corrupt_frames: int = Field(description="Number of sampled frames that depend on corrupt data.")


class StoredFacts(BaseModel):
    """What is kept beside the features."""

    engine: str = Field(description="Runtime and precision that made the features.")
    source: SourceFacts
    sampling: SamplingInfo | None = Field(description="Of a classification; null for windows.")
    window_seconds: float | None = Field(description="Null for the clips of a classification.")
    stride_seconds: float | None = Field(description="Null for the clips of a classification.")


@dataclass(frozen=True, kw_only=True)
class StoredVideo:
    """One stored video, without its features."""

    video_id: str
    kind: Kind
    model_name: str
    model_version: int
    model_digest: str
    num_windows: int
    num_bytes: int  # of the features
    key_id: str | None  # of the API key that it belongs to
    facts: StoredFacts
    tags: tuple[str, ...]
    created_at: str  # ISO 8601, UTC
    expires_at: str | None

    @property
    def model(self) -> str:
        """`name@version` of the model that made the features."""
        return f"{self.model_name}@{self.model_version}"


@dataclass(frozen=True, kw_only=True)
class NewVideo:
    """A video that is being stored."""

    video_id: str
    kind: Kind
    model_name: str
    model_version: int
    model_digest: str
    tags: tuple[str, ...]
    key_id: str | None
    expires_in_seconds: int | None
    abandoned_after_seconds: float  # an incomplete video is deleted after that

    @staticmethod
    def new_id() -> str:
        """Return an id that cannot be guessed."""
        return secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True)
class WindowPart:
    """Some windows of a stored video and their features."""

    windows: Sequence[Window]  # without the frames of their clips
    features: VideoFeatures


@dataclass(frozen=True, kw_only=True)
class VideoFilter:
    """Which stored videos are meant; None means all."""

    key_id: str | None = None  # videos that belong to this API key
    tag: str | None = None
    model_name: str | None = None
    model_version: int | None = None
    model_digest: str | None = None
    created_after: str | None = None  # inclusive, ISO 8601, UTC
    created_before: str | None = None  # exclusive


@dataclass(frozen=True, kw_only=True)
class IndexedVideo:
    """What an index of windows needs of a stored video."""

    video_id: str
    num_windows: int
    expires_at: str | None


def timestamp(moment: datetime) -> str:
    """Return a time as the store writes it; times in this form sort as text.

    >>> timestamp(datetime(2026, 11, 26, 7, 5, tzinfo=UTC))
    '2026-11-26T07:05:00.000+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def now() -> str:
    """Return the present time as the store writes it."""
    return timestamp(datetime.now(UTC))


class VideoStore:
    """Reads and writes stored videos; every method blocks and belongs in a worker thread."""

    def __init__(self, database: Database, *, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes

    def add_part(self, video: NewVideo, number: int, part: WindowPart) -> None:
        """Write a part of a video that is not complete yet; its first part creates it.

        Raises:
            VideoStoreFull: the limit would be exceeded.
            StoreUnavailable: the database does not answer, or the video was deleted as abandoned.
        """
        with self._database.writing() as connection:
            if number == 0:
                self._insert(connection, video)
            self._insert_part(connection, video, number, part)

    def complete(self, video: NewVideo, number: int, part: WindowPart, facts: StoredFacts) -> StoredVideo:
        """Write the last part; from then on the video exists.

        Raises:
            VideoStoreFull: the limit would be exceeded.
            StoreUnavailable: the database does not answer, or the video was deleted as abandoned.
        """
        created = datetime.now(UTC)
        lasts = video.expires_in_seconds
        values = {
            "document": facts.model_dump_json(),
            "created_at": timestamp(created),
            "expires_at": None if lasts is None else timestamp(created + timedelta(seconds=lasts)),
            "is_complete": True,
        }
        with self._database.writing() as connection:
            if number == 0:
                self._insert(connection, video)
            self._insert_part(connection, video, number, part)
            connection.execute(_of(video.video_id, stored_videos.update()).values(**values))
            tags = [{"video_id": video.video_id, "tag": tag} for tag in video.tags]
            if tags:
                connection.execute(stored_video_tags.insert(), tags)
            _count_change(connection)
            (stored,) = _videos(connection, [video.video_id])
        return stored

    def abandon(self, video_id: str) -> None:
        """Delete what was written of a video that is not complete."""
        with self._database.writing() as connection:
            connection.execute(_of(video_id, stored_videos.delete()).where(~stored_videos.c.is_complete))

    def get(self, video_id: str, *, key_id: str | None = None) -> StoredVideo:
        """Return a stored video; with `key_id` only if it belongs to that API key.

        Raises:
            UnknownVideo: there is none of that id, or it has expired.
        """
        with self._database.reading() as connection:
            found = _videos(connection, [video_id])
        if not found or _has_expired(found[0].expires_at) or key_id not in (None, found[0].key_id):
            raise unknown(video_id)
        return found[0]

    def page(self, chosen: VideoFilter, *, after: tuple[str, str] | None, limit: int) -> list[StoredVideo]:
        """Return stored videos, newest first, after the one of this (created_at, video_id)."""
        query = _where(sa.select(stored_videos.c.video_id), chosen)
        if after is not None:
            place = sa.tuple_(stored_videos.c.created_at, stored_videos.c.video_id)
            query = query.where(place < sa.tuple_(*after))
        query = query.order_by(stored_videos.c.created_at.desc(), stored_videos.c.video_id.desc()).limit(limit)
        with self._database.reading() as connection:
            return _videos(connection, list(connection.execute(query).scalars()))

    def matching(self, chosen: VideoFilter) -> list[IndexedVideo]:
        """Return all videos that a filter selects."""
        names = IndexedVideo.__dataclass_fields__
        query = _where(sa.select(*(stored_videos.c[name] for name in names)), chosen)
        with self._database.reading() as connection:
            return [IndexedVideo(**row._mapping) for row in connection.execute(query)]

    def count_others(self, chosen: VideoFilter, mine: VideoFilter) -> int:
        """Return how many videos `chosen` selects beside those of `mine`."""
        with self._database.reading() as connection:
            counts = [
                connection.execute(_where(sa.select(sa.func.count()).select_from(stored_videos), each)).scalar_one()
                for each in (chosen, mine)
            ]
        return int(counts[0] - counts[1])

    def generation(self) -> int:
        """Return a number that grows with every stored and every deleted video."""
        with self._database.reading() as connection:
            found: int = connection.execute(sa.select(stored_video_changes.c.generation)).scalar_one()
        return found

    def parts(self, video_id: str, *, has_patches: bool = False, has_prototypes: bool = False) -> Iterator[WindowPart]:
        """Yield the windows of a video in order, with the features that are asked for, each part in a transaction.

        Raises:
            UnknownVideo: the video was deleted.
        """
        wanted = [stored_features.c.windows, stored_features.c.video_features]
        wanted += [stored_features.c.prototype_features] if has_prototypes else []
        wanted += [stored_features.c.patch_features] if has_patches else []
        query = sa.select(stored_features.c.num_windows, *wanted).where(stored_features.c.video_id == video_id)
        number = 0
        while True:
            with self._database.reading() as connection:
                row = connection.execute(query.where(stored_features.c.part == number)).one_or_none()
            if row is None:
                if number == 0:
                    raise unknown(video_id)
                return
            yield _part(row)
            number += 1

    def delete(self, video_id: str, *, key_id: str | None = None) -> None:
        """Delete a video with its features; with `key_id` only if it belongs to that API key.

        Raises:
            UnknownVideo: there is none of that id.
        """
        with self._database.writing() as connection:
            query = _of(video_id, stored_videos.delete()).where(stored_videos.c.is_complete)
            if key_id is not None:
                query = query.where(stored_videos.c.key_id == key_id)
            if not connection.execute(query).rowcount:
                raise unknown(video_id)
            _count_change(connection)

    def sweep(self) -> int:
        """Delete videos that have expired, and those that were never completed; return their number."""
        with self._database.writing() as connection:
            deleted: int = connection.execute(
                stored_videos.delete().where(stored_videos.c.expires_at <= now())
            ).rowcount
            if deleted:
                _count_change(connection)
        return deleted

    def erase_deleted(self) -> bool:
        """See `Database.erase_deleted`."""
        return self._database.erase_deleted()

    def _insert(self, connection: sa.Connection, video: NewVideo) -> None:
        started = datetime.now(UTC)
        connection.execute(
            stored_videos.insert().values(
                video_id=video.video_id,
                kind=video.kind,
                model_name=video.model_name,
                model_version=video.model_version,
                model_digest=video.model_digest,
                key_id=video.key_id,
                num_windows=0,
                num_bytes=0,
                document="{}",
                created_at=timestamp(started),
                expires_at=timestamp(started + timedelta(seconds=video.abandoned_after_seconds)),
                is_complete=False,
            )
        )

    def _insert_part(self, connection: sa.Connection, video: NewVideo, number: int, part: WindowPart) -> None:
        features = part.features
        bodies: dict[str, bytes | None] = {
            "windows": pack_windows(part.windows),
            "video_features": pack_rows(features.video_features),
            "prototype_features": _packed(features.prototype_features),
            "patch_features": _packed(features.patch_features),
        }
        num_bytes = sum(len(body) for body in bodies.values() if body is not None)
        used = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(stored_videos.c.num_bytes), 0))).scalar_one()
        if used + num_bytes > self._max_bytes:
            raise VideoStoreFull(
                f"{used} of {self._max_bytes} bytes for stored videos are in use, and {num_bytes} more are needed; "
                "delete videos, or let the operator raise SERVE_VIDEOS__MAX_BYTES",
                used_bytes=int(used),
                limit_bytes=self._max_bytes,
            )
        grown = connection.execute(
            _of(video.video_id, stored_videos.update()).values(
                num_windows=stored_videos.c.num_windows + len(part.windows),
                num_bytes=stored_videos.c.num_bytes + num_bytes,
            )
        )
        if not grown.rowcount:
            raise StoreUnavailable("the video was deleted while it was stored, because storing took too long")
        connection.execute(
            stored_features.insert().values(
                video_id=video.video_id, part=number, num_windows=len(part.windows), **bodies
            )
        )


def unknown(video_id: str) -> UnknownVideo:
    """Return the error for an id without a stored video."""
    return UnknownVideo(f"there is no stored video {video_id[:80]!r}; it may have expired or have been deleted")


def pack_windows(windows: Sequence[Window]) -> bytes:
    """Return windows as bytes: times [N, 4] as float64, then frames [N, 4] as int64, little endian."""
    times = [[w.start_seconds, w.end_seconds, w.cell_start_seconds, w.cell_end_seconds] for w in windows]
    frames = [[w.start_frame, w.end_frame, w.cell_start_frame, w.cell_end_frame] for w in windows]
    return np.array(times, "<f8").tobytes() + np.array(frames, "<i8").tobytes()


def unpack_windows(body: bytes) -> list[Window]:
    """Return the windows of `pack_windows`."""
    times: Float64Array = np.frombuffer(body[: len(body) // 2], "<f8").reshape(-1, 4)
    frames: Int64Array = np.frombuffer(body[len(body) // 2 :], "<i8").reshape(-1, 4)
    return [
        Window(
            start_seconds=start,
            end_seconds=end,
            cell_start_seconds=cell_start,
            cell_end_seconds=cell_end,
            start_frame=start_frame,
            end_frame=end_frame,
            cell_start_frame=cell_start_frame,
            cell_end_frame=cell_end_frame,
            frame_indices=(),
        )
        for (start, end, cell_start, cell_end), (start_frame, end_frame, cell_start_frame, cell_end_frame) in zip(
            times.tolist(), frames.tolist(), strict=True
        )
    ]


def _packed(values: Float32Array | None) -> bytes | None:
    return None if values is None else pack_rows(values)


def _part(row: Any) -> WindowPart:
    found = row._mapping
    num = row.num_windows

    def rows(name: str) -> Float32Array | None:
        body = found.get(name)
        return None if body is None else unpack_rows(body, num_rows=num)

    video_features, patches = rows("video_features"), rows("patch_features")
    assert video_features is not None, "the column is not nullable"
    width = video_features.shape[1]
    return WindowPart(
        windows=unpack_windows(row.windows),
        features=VideoFeatures(
            video_features=video_features,
            prototype_features=rows("prototype_features"),
            patch_features=None if patches is None else patches.reshape(num, -1, width),
        ),
    )


def _of(video_id: str, statement: Any) -> Any:
    return statement.where(stored_videos.c.video_id == video_id)


def _where(query: sa.Select[Any], chosen: VideoFilter) -> sa.Select[Any]:
    column = stored_videos.c
    query = query.where(column.is_complete, sa.or_(column.expires_at.is_(None), column.expires_at > now()))
    for name in ("key_id", "model_name", "model_version", "model_digest"):
        if getattr(chosen, name) is not None:
            query = query.where(column[name] == getattr(chosen, name))
    if chosen.created_after is not None:
        query = query.where(column.created_at >= chosen.created_after)
    if chosen.created_before is not None:
        query = query.where(column.created_at < chosen.created_before)
    if chosen.tag is not None:
        tagged = sa.select(stored_video_tags.c.video_id).where(stored_video_tags.c.tag == chosen.tag)
        query = query.where(column.video_id.in_(tagged))
    return query


def _videos(connection: sa.Connection, ids: Sequence[str]) -> list[StoredVideo]:
    """Return the complete videos of these ids, in their order; those that do not exist are left out."""
    found: dict[str, StoredVideo] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = ids[start : start + IDS_AT_ONCE]
        query = sa.select(stored_videos).where(stored_videos.c.video_id.in_(some), stored_videos.c.is_complete)
        found |= {row.video_id: _video(row) for row in connection.execute(query)}
        tags = sa.select(stored_video_tags).where(stored_video_tags.c.video_id.in_(some))
        for row in connection.execute(tags.order_by(stored_video_tags.c.tag)):
            if row.video_id in found:
                video = found[row.video_id]
                found[row.video_id] = replace(video, tags=(*video.tags, row.tag))
    return [found[video_id] for video_id in ids if video_id in found]


def _video(row: Any) -> StoredVideo:
    values = {name: row._mapping[name] for name in StoredVideo.__dataclass_fields__ if name not in ("facts", "tags")}
    return StoredVideo(**values, facts=StoredFacts.model_validate(json.loads(row.document)), tags=())


def _has_expired(expires_at: str | None) -> bool:
    return expires_at is not None and expires_at <= now()


def _count_change(connection: sa.Connection) -> None:
    connection.execute(stored_video_changes.update().values(generation=stored_video_changes.c.generation + 1))
