"""Stored videos in the database: metadata, tags and features of their windows.

Features are stored in the database rather than in files, so that server processes that use one PostgreSQL database
share them, and a video is created and deleted in one transaction. The parts of a long video are written while its
windows are computed, which limits memory and the size of transactions; other requests see the video only after the
transaction that completes it.

Deletion removes the rows; `Database.erase_deleted` erases their data from the database files.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.errors import StoreUnavailable, UnknownVideo, VideoStoreFull
from serve.features import VideoFeatures
from serve.store.database import Database
from serve.store.schema import stored_features, stored_video_changes, stored_video_tags, stored_videos
from serve.video.windows import Window
from serve.videos.half_precision import pack_rows, unpack_rows
from serve.videos.records import (
    FeaturePart,
    IndexedVideo,
    NewVideo,
    StoredVideo,
    StoredVideoMetadata,
    VideoFilter,
    now,
    timestamp,
)

IDS_PER_QUERY = 500


class VideoStore:
    """Reads and writes stored videos. All methods block: call them in a worker thread."""

    def __init__(self, database: Database, *, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes

    def add_part(self, video: NewVideo, part_index: int, part: FeaturePart) -> None:
        """Write a part of an incomplete video; the part with index 0 creates the video.

        Raises:
            VideoStoreFull: the limit of stored bytes would be exceeded.
            StoreUnavailable: the database is unavailable, or the video was deleted as abandoned.
        """
        with self._database.writing() as connection:
            if part_index == 0:
                self._insert(connection, video)
            self._insert_part(connection, video, part_index, part)

    def complete(
        self, video: NewVideo, part_index: int, part: FeaturePart, metadata: StoredVideoMetadata
    ) -> StoredVideo:
        """Write the last part and the metadata; afterwards other requests can see the video.

        Raises:
            VideoStoreFull: the limit of stored bytes would be exceeded.
            StoreUnavailable: the database is unavailable, or the video was deleted as abandoned.
        """
        created = datetime.now(UTC)
        lifetime = video.expires_in_seconds
        values = {
            "document": metadata.model_dump_json(),
            "created_at": timestamp(created),
            "expires_at": None if lifetime is None else timestamp(created + timedelta(seconds=lifetime)),
            "is_complete": True,
        }
        with self._database.writing() as connection:
            if part_index == 0:
                self._insert(connection, video)
            self._insert_part(connection, video, part_index, part)
            connection.execute(_where_id(video.video_id, stored_videos.update()).values(**values))
            tags = [{"video_id": video.video_id, "tag": tag} for tag in video.tags]
            if tags:
                connection.execute(stored_video_tags.insert(), tags)
            _count_change(connection)
            (stored,) = _load_videos(connection, [video.video_id])
        return stored

    def abandon(self, video_id: str) -> None:
        """Delete the written parts of an incomplete video."""
        with self._database.writing() as connection:
            connection.execute(_where_id(video_id, stored_videos.delete()).where(~stored_videos.c.is_complete))

    def get(self, video_id: str, *, key_id: str | None = None) -> StoredVideo:
        """Return a stored video. If `key_id` is given, the video must belong to that API key.

        Raises:
            UnknownVideo: the video does not exist, has expired or belongs to another API key.
        """
        with self._database.reading() as connection:
            videos = _load_videos(connection, [video_id])
        if not videos or _has_expired(videos[0].expires_at) or key_id not in (None, videos[0].key_id):
            raise unknown_video_error(video_id)
        return videos[0]

    def page(self, video_filter: VideoFilter, *, after: tuple[str, str] | None, limit: int) -> list[StoredVideo]:
        """Return up to `limit` stored videos, newest first, that follow the position `after` (created_at, video_id)."""
        query = _apply_filter(sa.select(stored_videos.c.video_id), video_filter)
        if after is not None:
            position = sa.tuple_(stored_videos.c.created_at, stored_videos.c.video_id)
            query = query.where(position < sa.tuple_(*after))
        query = query.order_by(stored_videos.c.created_at.desc(), stored_videos.c.video_id.desc()).limit(limit)
        with self._database.reading() as connection:
            return _load_videos(connection, list(connection.execute(query).scalars()))

    def matching(self, video_filter: VideoFilter) -> list[IndexedVideo]:
        """Return all videos that match a filter."""
        names = IndexedVideo.__dataclass_fields__
        query = _apply_filter(sa.select(*(stored_videos.c[name] for name in names)), video_filter)
        with self._database.reading() as connection:
            return [IndexedVideo(**row._mapping) for row in connection.execute(query)]

    def count_others(self, video_filter: VideoFilter, narrower_filter: VideoFilter) -> int:
        """Return the number of videos that match `video_filter` but not `narrower_filter`, which selects a subset."""
        with self._database.reading() as connection:
            counts = [
                connection.execute(
                    _apply_filter(sa.select(sa.func.count()).select_from(stored_videos), each)
                ).scalar_one()
                for each in (video_filter, narrower_filter)
            ]
        return int(counts[0] - counts[1])

    def generation(self) -> int:
        """Return a counter that increases when a video is stored or deleted."""
        with self._database.reading() as connection:
            generation: int = connection.execute(sa.select(stored_video_changes.c.generation)).scalar_one()
        return generation

    def parts(self, video_id: str, *, has_patches: bool = False, has_prototypes: bool = False) -> Iterator[FeaturePart]:
        """Yield the parts of a video in order with the requested features; each part is read in its own transaction.

        Raises:
            UnknownVideo: the video was deleted.
        """
        columns = [stored_features.c.windows, stored_features.c.video_features]
        columns += [stored_features.c.prototype_features] if has_prototypes else []
        columns += [stored_features.c.patch_features] if has_patches else []
        query = sa.select(stored_features.c.num_windows, *columns).where(stored_features.c.video_id == video_id)
        part_index = 0
        while True:
            with self._database.reading() as connection:
                row = connection.execute(query.where(stored_features.c.part == part_index)).one_or_none()
            if row is None:
                if part_index == 0:
                    raise unknown_video_error(video_id)
                return
            yield _load_part(row)
            part_index += 1

    def delete(self, video_id: str, *, key_id: str | None = None) -> None:
        """Delete a video and its features. If `key_id` is given, the video must belong to that API key.

        Raises:
            UnknownVideo: the video does not exist or belongs to another API key.
        """
        with self._database.writing() as connection:
            query = _where_id(video_id, stored_videos.delete()).where(stored_videos.c.is_complete)
            if key_id is not None:
                query = query.where(stored_videos.c.key_id == key_id)
            if not connection.execute(query).rowcount:
                raise unknown_video_error(video_id)
            _count_change(connection)

    def sweep(self) -> int:
        """Delete expired videos and abandoned incomplete ones; return the number of deleted videos."""
        with self._database.writing() as connection:
            deleted: int = connection.execute(
                stored_videos.delete().where(stored_videos.c.expires_at <= now())
            ).rowcount
            if deleted:
                _count_change(connection)
        return deleted

    def erase_deleted(self) -> bool:
        """Erase the data of deleted videos from the database files; see `Database.erase_deleted`."""
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

    def _insert_part(self, connection: sa.Connection, video: NewVideo, part_index: int, part: FeaturePart) -> None:
        features = part.features
        bodies: dict[str, bytes | None] = {
            "windows": pack_windows(part.windows),
            "video_features": pack_rows(features.video_features),
            "prototype_features": _pack_optional(features.prototype_features),
            "patch_features": _pack_optional(features.patch_features),
        }
        num_bytes = sum(len(body) for body in bodies.values() if body is not None)
        used = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(stored_videos.c.num_bytes), 0))).scalar_one()
        if used + num_bytes > self._max_bytes:
            raise VideoStoreFull(
                f"{used} of {self._max_bytes} bytes for stored videos are in use and {num_bytes} more are needed; "
                "delete videos, or ask the operator to increase SERVE_VIDEOS__MAX_BYTES",
                used_bytes=int(used),
                limit_bytes=self._max_bytes,
            )
        updated = connection.execute(
            _where_id(video.video_id, stored_videos.update()).values(
                num_windows=stored_videos.c.num_windows + len(part.windows),
                num_bytes=stored_videos.c.num_bytes + num_bytes,
            )
        )
        if not updated.rowcount:
            raise StoreUnavailable("storing the video took too long: its incomplete data were deleted")
        connection.execute(
            stored_features.insert().values(
                video_id=video.video_id, part=part_index, num_windows=len(part.windows), **bodies
            )
        )


def unknown_video_error(video_id: str) -> UnknownVideo:
    """Return the error for an id without a stored video."""
    return UnknownVideo(f"stored video {video_id[:80]!r} does not exist; it may have expired or have been deleted")


def pack_windows(windows: Sequence[Window]) -> bytes:
    """Return windows as bytes: times [N, 4] as float64, then frames [N, 4] as int64, little endian."""
    times = [[w.start_seconds, w.end_seconds, w.cell_start_seconds, w.cell_end_seconds] for w in windows]
    frames = [[w.start_frame, w.end_frame, w.cell_start_frame, w.cell_end_frame] for w in windows]
    return np.array(times, "<f8").tobytes() + np.array(frames, "<i8").tobytes()


def unpack_windows(body: bytes) -> list[Window]:
    """Convert the bytes of `pack_windows` back to windows, without frame indices."""
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


def _pack_optional(values: Float32Array | None) -> bytes | None:
    return None if values is None else pack_rows(values)


def _load_part(row: Any) -> FeaturePart:
    columns = row._mapping
    num = row.num_windows

    def unpack(name: str) -> Float32Array | None:
        body = columns.get(name)
        return None if body is None else unpack_rows(body, num_rows=num)

    video_features, patches = unpack("video_features"), unpack("patch_features")
    assert video_features is not None, "the column is not nullable"
    width = video_features.shape[1]
    return FeaturePart(
        windows=unpack_windows(row.windows),
        features=VideoFeatures(
            video_features=video_features,
            prototype_features=unpack("prototype_features"),
            patch_features=None if patches is None else patches.reshape(num, -1, width),
        ),
    )


def _where_id(video_id: str, statement: Any) -> Any:
    return statement.where(stored_videos.c.video_id == video_id)


def _apply_filter(query: sa.Select[Any], video_filter: VideoFilter) -> sa.Select[Any]:
    column = stored_videos.c
    query = query.where(column.is_complete, sa.or_(column.expires_at.is_(None), column.expires_at > now()))
    for name in ("key_id", "model_name", "model_version", "model_digest"):
        if getattr(video_filter, name) is not None:
            query = query.where(column[name] == getattr(video_filter, name))
    if video_filter.created_after is not None:
        query = query.where(column.created_at >= video_filter.created_after)
    if video_filter.created_before is not None:
        query = query.where(column.created_at < video_filter.created_before)
    if video_filter.tag is not None:
        tagged = sa.select(stored_video_tags.c.video_id).where(stored_video_tags.c.tag == video_filter.tag)
        query = query.where(column.video_id.in_(tagged))
    return query


def _load_videos(connection: sa.Connection, ids: Sequence[str]) -> list[StoredVideo]:
    """Return the complete videos with the given ids, in the order of the ids; missing ones are skipped."""
    videos: dict[str, StoredVideo] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        batch = ids[start : start + IDS_PER_QUERY]
        query = sa.select(stored_videos).where(stored_videos.c.video_id.in_(batch), stored_videos.c.is_complete)
        videos |= {row.video_id: _to_video(row) for row in connection.execute(query)}
        tags = sa.select(stored_video_tags).where(stored_video_tags.c.video_id.in_(batch))
        for row in connection.execute(tags.order_by(stored_video_tags.c.tag)):
            if row.video_id in videos:
                video = videos[row.video_id]
                videos[row.video_id] = replace(video, tags=(*video.tags, row.tag))
    return [videos[video_id] for video_id in ids if video_id in videos]


def _to_video(row: Any) -> StoredVideo:
    values = {name: row._mapping[name] for name in StoredVideo.__dataclass_fields__ if name not in ("metadata", "tags")}
    return StoredVideo(**values, metadata=StoredVideoMetadata.model_validate(json.loads(row.document)), tags=())


def _has_expired(expires_at: str | None) -> bool:
    return expires_at is not None and expires_at <= now()


def _count_change(connection: sa.Connection) -> None:
    connection.execute(stored_video_changes.update().values(generation=stored_video_changes.c.generation + 1))
