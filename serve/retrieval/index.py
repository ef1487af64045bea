"""Windows of stored videos in memory: one matrix of features of length one for each model version, for exact search.

The matrix takes memory as it fills, up to a limit; videos beyond the limit are read from the store in each search.
Before a search the index takes over what was stored and deleted since, also by other gateways.
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
from serve.videos.store import IndexedVideo, VideoFilter, VideoStore

BYTES_BESIDE_FEATURES = 8 + 8 + 4  # start, end, number of the video


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A window that a search found."""

    video_id: str
    start_seconds: float
    end_seconds: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Rows of a video in the matrix, and its number."""

    start: int
    stop: int
    number: int


class WindowIndex:
    """The windows of one model version."""

    def __init__(self, store: VideoStore, mine: VideoFilter, *, width: int, max_bytes: int) -> None:
        """Make an empty index of the videos that `mine` selects, with features of `width`."""
        self._store = store
        self._mine = mine
        self._capacity = max(1, max_bytes // (4 * width + BYTES_BESIDE_FEATURES))
        self._matrix: Float32Array = np.empty((self._capacity, width), np.float32)  # memory is used once it is written
        self._starts: Float64Array = np.empty(self._capacity)
        self._ends: Float64Array = np.empty(self._capacity)
        self._owners: NDArray[np.int32] = np.empty(self._capacity, np.int32)  # number of the video, -1 if deleted
        self._used = 0  # rows, deleted ones included
        self._num_inside = 0  # rows, without deleted ones
        self._places: dict[str, _Place] = {}
        self._numbered: list[IndexedVideo] = []  # by number
        self._expiries: Float64Array = np.empty(0)  # by number, seconds since 1970; infinite without one
        self._beyond: dict[str, IndexedVideo] = {}  # videos that do not fit
        self._generation = -1
        self._turn = asyncio.Lock()  # of searches and changes
        self._lock = threading.Lock()  # of changes and of reads of rows

    async def refresh(self) -> None:
        """Take over what was stored and deleted since.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        async with self._turn:
            await asyncio.to_thread(self._refresh)

    async def forget(self, video_id: str) -> None:
        """Erase the rows of a deleted video."""
        async with self._turn:
            self._remove(video_id)

    async def search(self, query: Float32Array, k: int, *, among: Collection[str] | None) -> list[Hit]:
        """Return the k windows with the largest product with a query [D], largest first; of all videos for None.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        async with self._turn:
            await asyncio.to_thread(self._refresh)
            return await asyncio.to_thread(self._search, query, k, among)

    def rows(self, video_id: str, start: int, stop: int) -> Float32Array | None:
        """Return a copy of rows [N, D] of a video, counted from its first; None if it is not in memory."""
        with self._lock:
            place = self._places.get(video_id)
            if place is None:
                return None
            return self._matrix[place.start + start : min(place.start + stop, place.stop)].copy()

    def has(self, video_id: str) -> bool:
        """Whether the rows of a video are in memory."""
        with self._lock:
            return video_id in self._places

    @property
    def num_windows(self) -> int:
        """Number of windows, including those that are not in memory."""
        return self._num_inside + sum(video.num_windows for video in self._beyond.values())

    def _refresh(self) -> None:
        generation = self._store.generation()
        if generation == self._generation:
            return
        listed = {video.video_id: video for video in self._store.matching(self._mine)}
        for video_id in [known for known in (*self._places, *self._beyond) if known not in listed]:
            self._remove(video_id)
        for video in listed.values():
            if video.video_id not in self._places:
                self._add(video)
        self._expiries = np.array([_seconds(video.expires_at) for video in self._numbered])
        self._generation = generation

    def _add(self, video: IndexedVideo) -> None:
        if self._used + video.num_windows > self._capacity:
            self._compact()
        if self._used + video.num_windows > self._capacity:
            self._beyond[video.video_id] = video
            return
        start = self._used
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
        with self._lock:
            self._owners[start:stop] = len(self._numbered)
            self._places[video.video_id] = _Place(start=start, stop=stop, number=len(self._numbered))
            self._numbered.append(video)
            self._beyond.pop(video.video_id, None)
            self._used = stop
            self._num_inside += stop - start

    def _remove(self, video_id: str) -> None:
        self._beyond.pop(video_id, None)
        with self._lock:
            place = self._places.pop(video_id, None)
            if place is not None:
                self._matrix[place.start : place.stop] = 0
                self._owners[place.start : place.stop] = -1
                self._num_inside -= place.stop - place.start

    def _compact(self) -> None:
        """Move the rows of all videos together, in order, and number the videos again."""
        with self._lock:
            used = 0
            numbered: list[IndexedVideo] = []
            places: dict[str, _Place] = {}
            for video_id, place in sorted(self._places.items(), key=lambda item: item[1].start):
                stop = used + place.stop - place.start
                if used < place.start:
                    for values in (self._matrix, self._starts, self._ends):
                        values[used:stop] = values[place.start : place.stop]
                self._owners[used:stop] = len(numbered)
                places[video_id] = _Place(start=used, stop=stop, number=len(numbered))
                numbered.append(self._numbered[place.number])
                used = stop
            self._matrix[used : self._used] = 0
            self._places, self._numbered, self._used = places, numbered, used

    def _search(self, query: Float32Array, k: int, among: Collection[str] | None) -> list[Hit]:
        hits = self._search_memory(query, k, among)
        for video in self._beyond.values():
            if (among is None or video.video_id in among) and _seconds(video.expires_at) > _now():
                hits += self._search_store(video.video_id, query, k)
        return sorted(hits, key=lambda hit: -hit.cosine)[:k]

    def _search_memory(self, query: Float32Array, k: int, among: Collection[str] | None) -> list[Hit]:
        is_wanted = self._expiries > _now()  # by number
        if among is not None:
            is_wanted &= np.array([video.video_id in among for video in self._numbered], np.bool_)
        cosines: Float32Array = self._matrix[: self._used] @ query  # [N]
        owners = self._owners[: self._used]
        if not is_wanted.all() or len(self._places) < len(self._numbered):
            is_searched = np.append(is_wanted, False)[owners]  # -1, deleted, finds the last
            cosines[~is_searched] = -np.inf
        return [
            Hit(
                video_id=self._numbered[owners[row]].video_id,
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
                hits += _hits(video_id, part.windows, cosines, k)
        except UnknownVideo:  # deleted meanwhile
            return []
        return hits


class WindowIndexes:
    """The indexes of all model versions in use."""

    def __init__(self, store: VideoStore, *, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._indexes: dict[str, WindowIndex] = {}

    def of(self, runtime: ModelRuntime) -> WindowIndex:
        """Return the index of a version."""
        key = f"{runtime.reference} {runtime.features_digest}"
        if key not in self._indexes:
            mine = of_runtime(runtime, VideoFilter())
            width = runtime.contract.embed_dim
            self._indexes[key] = WindowIndex(self._store, mine, width=width, max_bytes=self._max_bytes)
        return self._indexes[key]

    async def forget(self, video_id: str) -> None:
        """Erase the rows of a deleted video."""
        for index in list(self._indexes.values()):
            await index.forget(video_id)

    async def refresh(self, loaded: Collection[str]) -> None:
        """Take over changes of the store; drop the indexes of versions that are not loaded any more.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        for key in [key for key in self._indexes if key.partition(" ")[0] not in loaded]:
            del self._indexes[key]
        for index in list(self._indexes.values()):
            await index.refresh()


def of_runtime(runtime: ModelRuntime, chosen: VideoFilter) -> VideoFilter:
    """Return a filter for the videos among `chosen` that a model version can score."""
    contract = runtime.contract
    return replace(
        chosen, model_name=contract.name, model_version=contract.version, model_digest=runtime.features_digest
    )


def _hits(video_id: str, windows: Collection[Window], cosines: Float32Array, k: int) -> Iterator[Hit]:
    known = list(windows)
    for row in scoring.highest(cosines, k).tolist():
        window = known[row]
        yield Hit(
            video_id=video_id,
            start_seconds=window.start_seconds,
            end_seconds=window.end_seconds,
            cosine=float(cosines[row]),
        )


def _seconds(expires_at: str | None) -> float:
    return float("inf") if expires_at is None else datetime.fromisoformat(expires_at).timestamp()


def _now() -> float:
    return datetime.now(UTC).timestamp()
