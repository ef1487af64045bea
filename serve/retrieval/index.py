"""In-memory index for exact search: one matrix of normalized window features for each model version.

The matrix grows up to a memory limit; videos that do not fit are read from the database in each search. Before a
search, the index is updated with videos that this or another server process has stored or deleted.
"""

import asyncio
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.arrays import Float32Array, Float64Array
from serve.errors import UnknownVideo
from serve.models.runtime import ModelRuntime
from serve.video.windows import Window
from serve.videos.records import IndexedVideo, VideoFilter
from serve.videos.store import VideoStore

BYTES_BESIDE_FEATURES = 8 + 8 + 4  # of a row: start, end and index of the video


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A window that a search found."""

    video_id: str
    start_seconds: float
    end_seconds: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class _RowRange:
    """Rows of a video in the matrix, and the index of the video."""

    start: int
    stop: int
    video_index: int


class WindowIndex:
    """The windows of one model version."""

    def __init__(self, store: VideoStore, video_filter: VideoFilter, *, width: int, max_bytes: int) -> None:
        """Create an empty index of the videos that match the filter; their features have `width` dimensions."""
        self._store = store
        self._filter = video_filter
        self._capacity = max(1, max_bytes // (4 * width + BYTES_BESIDE_FEATURES))
        self._matrix: Float32Array = np.empty(
            (self._capacity, width), np.float32
        )  # the operating system allocates memory on the first write
        self._starts: Float64Array = np.empty(self._capacity)
        self._ends: Float64Array = np.empty(self._capacity)
        self._video_indices: NDArray[np.int32] = np.empty(
            self._capacity, np.int32
        )  # index into `_videos`; -1 if deleted
        self._num_rows = 0  # rows in use, including deleted ones
        self._num_live_rows = 0  # rows in use, excluding deleted ones
        self._ranges: dict[str, _RowRange] = {}  # by video id
        self._videos: list[IndexedVideo] = []
        self._expiries: Float64Array = np.empty(0)  # of `_videos`, in seconds since 1970; infinite if there is none
        self._overflow: dict[str, IndexedVideo] = {}  # videos that do not fit into the matrix
        self._generation = -1
        self._operation_lock = asyncio.Lock()  # one search or update at a time
        self._row_lock = threading.Lock()  # protects rows and ranges while they change

    async def refresh(self) -> None:
        """Update the index with videos that were stored or deleted since the last update.

        Raises:
            StoreUnavailable: the database is unavailable.
        """
        async with self._operation_lock:
            await asyncio.to_thread(self._refresh)

    async def remove(self, video_id: str) -> None:
        """Erase the rows of a deleted video."""
        async with self._operation_lock:
            self._remove(video_id)

    async def search(self, query: Float32Array, k: int, *, among: Collection[str] | None) -> list[Hit]:
        """Return the k windows with the largest dot product with a query [D], largest first.

        If `among` is not None, only videos with these ids are searched.

        Raises:
            StoreUnavailable: the database is unavailable.
        """
        async with self._operation_lock:
            await asyncio.to_thread(self._refresh)
            return await asyncio.to_thread(self._search, query, k, among)

    def features(self, video_id: str, start: int, stop: int) -> Float32Array | None:
        """Return a copy of the features [N, D] of windows `start` to `stop` of a video; None if it is not in memory."""
        with self._row_lock:
            row_range = self._ranges.get(video_id)
            if row_range is None:
                return None
            return self._matrix[row_range.start + start : min(row_range.start + stop, row_range.stop)].copy()

    def has(self, video_id: str) -> bool:
        """Return whether the features of a video are in memory."""
        with self._row_lock:
            return video_id in self._ranges

    @property
    def num_windows(self) -> int:
        """Number of windows of all videos, in memory or not."""
        return self._num_live_rows + sum(video.num_windows for video in self._overflow.values())

    def _refresh(self) -> None:
        generation = self._store.generation()
        if generation == self._generation:
            return
        listed = {video.video_id: video for video in self._store.matching(self._filter)}
        for video_id in [indexed for indexed in (*self._ranges, *self._overflow) if indexed not in listed]:
            self._remove(video_id)
        for video in listed.values():
            if video.video_id not in self._ranges:
                self._add(video)
        self._expiries = np.array([_expiry_time(video.expires_at) for video in self._videos])
        self._generation = generation

    def _add(self, video: IndexedVideo) -> None:
        if self._num_rows + video.num_windows > self._capacity:
            self._compact()
        if self._num_rows + video.num_windows > self._capacity:
            self._overflow[video.video_id] = video
            return
        start = self._num_rows
        try:
            stop = start
            for part in self._store.parts(video.video_id):
                rows = scoring.normalize(part.features.video_features)
                self._matrix[stop : stop + len(rows)] = rows
                self._starts[stop : stop + len(rows)] = [window.start_seconds for window in part.windows]
                self._ends[stop : stop + len(rows)] = [window.end_seconds for window in part.windows]
                stop += len(rows)
        except UnknownVideo:  # deleted since it was listed
            return
        with self._row_lock:
            self._video_indices[start:stop] = len(self._videos)
            self._ranges[video.video_id] = _RowRange(start=start, stop=stop, video_index=len(self._videos))
            self._videos.append(video)
            self._overflow.pop(video.video_id, None)
            self._num_rows = stop
            self._num_live_rows += stop - start

    def _remove(self, video_id: str) -> None:
        self._overflow.pop(video_id, None)
        with self._row_lock:
            row_range = self._ranges.pop(video_id, None)
            if row_range is not None:
                self._matrix[row_range.start : row_range.stop] = 0
                self._video_indices[row_range.start : row_range.stop] = -1
                self._num_live_rows -= row_range.stop - row_range.start

    def _compact(self) -> None:
        """Remove the gaps of deleted videos from the matrix and the list of videos."""
        with self._row_lock:
            used = 0
            videos: list[IndexedVideo] = []
            ranges: dict[str, _RowRange] = {}
            for video_id, row_range in sorted(self._ranges.items(), key=lambda item: item[1].start):
                stop = used + row_range.stop - row_range.start
                if used < row_range.start:
                    for values in (self._matrix, self._starts, self._ends):
                        values[used:stop] = values[row_range.start : row_range.stop]
                self._video_indices[used:stop] = len(videos)
                ranges[video_id] = _RowRange(start=used, stop=stop, video_index=len(videos))
                videos.append(self._videos[row_range.video_index])
                used = stop
            self._matrix[used : self._num_rows] = 0
            self._ranges, self._videos, self._num_rows = ranges, videos, used

    def _search(self, query: Float32Array, k: int, among: Collection[str] | None) -> list[Hit]:
        hits = self._search_memory(query, k, among)
        for video in self._overflow.values():
            if (among is None or video.video_id in among) and _expiry_time(video.expires_at) > _now():
                hits += self._search_store(video.video_id, query, k)
        return sorted(hits, key=lambda hit: -hit.cosine)[:k]

    def _search_memory(self, query: Float32Array, k: int, among: Collection[str] | None) -> list[Hit]:
        is_searched = self._expiries > _now()  # for each video
        if among is not None:
            is_searched &= np.array([video.video_id in among for video in self._videos], np.bool_)
        cosines: Float32Array = self._matrix[: self._num_rows] @ query  # [N]
        video_indices = self._video_indices[: self._num_rows]
        if not is_searched.all() or len(self._ranges) < len(self._videos):
            is_row_searched = np.append(is_searched, False)[video_indices]  # the index -1 of deleted rows selects False
            cosines[~is_row_searched] = -np.inf
        return [
            Hit(
                video_id=self._videos[video_indices[row]].video_id,
                start_seconds=float(self._starts[row]),
                end_seconds=float(self._ends[row]),
                cosine=float(cosines[row]),
            )
            for row in scoring.highest(cosines, k).tolist()
            if np.isfinite(cosines[row])
        ]

    def _search_store(self, video_id: str, query: Float32Array, k: int) -> list[Hit]:
        hits: list[Hit] = []
        try:
            for part in self._store.parts(video_id):
                cosines: Float32Array = scoring.normalize(part.features.video_features) @ query
                hits += _best_hits(video_id, part.windows, cosines, k)
        except UnknownVideo:  # deleted meanwhile
            return []
        return hits


class WindowIndexes:
    """The indexes of all model versions that were searched."""

    def __init__(self, store: VideoStore, *, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._indexes: dict[str, WindowIndex] = {}

    def get(self, runtime: ModelRuntime) -> WindowIndex:
        """Return the index of a model version, which is created on first use."""
        key = f"{runtime.reference} {runtime.features_digest}"
        if key not in self._indexes:
            video_filter = filter_for_runtime(runtime, VideoFilter())
            width = runtime.contract.embed_dim
            self._indexes[key] = WindowIndex(self._store, video_filter, width=width, max_bytes=self._max_bytes)
        return self._indexes[key]

    async def remove(self, video_id: str) -> None:
        """Erase the rows of a deleted video."""
        for index in list(self._indexes.values()):
            await index.remove(video_id)

    async def refresh(self, loaded: Collection[str]) -> None:
        """Update all indexes, and drop those of model versions that are not in `loaded`.

        Raises:
            StoreUnavailable: the database is unavailable.
        """
        for key in [key for key in self._indexes if key.partition(" ")[0] not in loaded]:
            del self._indexes[key]
        for index in list(self._indexes.values()):
            await index.refresh()


def filter_for_runtime(runtime: ModelRuntime, video_filter: VideoFilter) -> VideoFilter:
    """Restrict a filter to the videos that a model version can score."""
    contract = runtime.contract
    return replace(
        video_filter, model_name=contract.name, model_version=contract.version, model_digest=runtime.features_digest
    )


def _best_hits(video_id: str, windows: Collection[Window], cosines: Float32Array, k: int) -> Iterator[Hit]:
    window_list = list(windows)
    for row in scoring.highest(cosines, k).tolist():
        window = window_list[row]
        yield Hit(
            video_id=video_id,
            start_seconds=window.start_seconds,
            end_seconds=window.end_seconds,
            cosine=float(cosines[row]),
        )


def _expiry_time(expires_at: str | None) -> float:
    return float("inf") if expires_at is None else datetime.fromisoformat(expires_at).timestamp()


def _now() -> float:
    return datetime.now(UTC).timestamp()
