"""The index of windows: exact against a plain product, whatever fits into memory, and in step with the store."""

import asyncio
from typing import Any

import numpy as np
import pytest

from serve.arrays import Float32Array
from serve.retrieval.index import BYTES_BESIDE_FEATURES, Hit, WindowIndex
from serve.scoring import normalize
from serve.store.database import Database
from serve.videos.records import VideoFilter, now
from serve.videos.store import VideoStore
from tests.stored_videos import WIDTH, facts, new_video, part
from tests.tolerances import DOT, tolerance
from tests.waiting import eventually

BYTES_PER_WINDOW = 4 * WIDTH + BYTES_BESIDE_FEATURES
MINE = VideoFilter(model_name="tiny", model_version=1, model_digest="d" * 32)


@pytest.fixture
def store(database: Database) -> VideoStore:
    return VideoStore(database, max_bytes=10**8)


def stored(store: VideoStore, *counts: int, **changes: Any) -> dict[str, Float32Array]:
    """Store videos of so many windows, in two parts each; id -> features."""
    found = {}
    for number, count in enumerate(counts):
        video, half = new_video(**changes), count // 2
        pieces = [part(0, half, seed=100 * number), part(half, count - half, seed=100 * number + 50)]
        store.add_part(video, 0, pieces[0])
        store.complete(video, 1, pieces[1], facts())
        found[video.video_id] = np.concatenate([piece.features.video_features for piece in pieces])
    return found


def expected(known: dict[str, Float32Array], query: Float32Array, k: int) -> list[tuple[str, float, float]]:
    every = [
        (video_id, float(number), float(cosine))
        for video_id, features in known.items()
        for number, cosine in enumerate(normalize(features) @ query)
    ]
    return sorted(every, key=lambda item: -item[2])[:k]


def found(hits: list[Hit]) -> list[tuple[str, float, float]]:
    return [(hit.video_id, hit.start_seconds, hit.cosine) for hit in hits]


def assert_exact(index: WindowIndex, known: dict[str, Float32Array], *, among: set[str] | None = None) -> None:
    queries = normalize(np.random.default_rng(9).standard_normal((5, WIDTH), dtype=np.float32))
    chosen = {video_id: rows for video_id, rows in known.items() if among is None or video_id in among}
    for query in queries:
        hits = found(asyncio.run(index.search(query, 7, among=among)))
        wanted = expected(chosen, query, 7)
        assert [item[:2] for item in hits] == [item[:2] for item in wanted]
        cosines = [item[2] for item in hits]
        assert cosines == pytest.approx([item[2] for item in wanted], abs=tolerance(1.0, terms=DOT))


@pytest.mark.parametrize("room", [1000, 45, 1], ids=["all in memory", "some in memory", "none in memory"])
def test_a_search_is_exact_whatever_fits(store: VideoStore, room: int) -> None:
    known = stored(store, 20, 30, 2, 40)
    index = WindowIndex(store, MINE, width=WIDTH, max_bytes=room * BYTES_PER_WINDOW)
    assert_exact(index, known)
    assert index.num_windows == 92
    assert_exact(index, known, among=set(list(known)[1:3]))
    assert_exact(index, known, among=set())


def test_it_follows_the_store(store: VideoStore) -> None:
    known = stored(store, 20, 30, 25)
    index = WindowIndex(store, MINE, width=WIDTH, max_bytes=100 * BYTES_PER_WINDOW)
    assert_exact(index, known)
    first, second, _ = known
    asyncio.run(index.remove(second))
    store.delete(second)
    del known[second]
    assert_exact(index, known)
    known |= stored(store, 45)  # fits once the gap is closed
    assert_exact(index, known)
    assert all(index.has(video_id) for video_id in known)
    store.delete(first)
    del known[first]
    assert_exact(index, known)
    assert index.num_windows == 70
    known |= stored(store, 90)  # does not fit
    assert_exact(index, known)
    assert index.num_windows == 160


def test_rows_of_a_deleted_video_are_erased(store: VideoStore) -> None:
    known = stored(store, 20, 30)
    index = WindowIndex(store, MINE, width=WIDTH, max_bytes=100 * BYTES_PER_WINDOW)
    asyncio.run(index.refresh())
    gone, kept = known
    rows = index.features(kept, 3, 5)
    np.testing.assert_allclose(rows, normalize(known[kept])[3:5], rtol=1e-6)
    asyncio.run(index.remove(gone))
    assert index.features(gone, 0, 5) is None
    assert not index._matrix[:20].any()  # nothing but the memory itself shows it


def test_videos_of_other_versions_and_expired_ones_are_not_found(store: VideoStore) -> None:
    known = stored(store, 10)
    stored(store, 10, model_version=2)
    stored(store, 10, model_digest="e" * 32)
    (short,) = stored(store, 10, expires_in_seconds=1)
    index = WindowIndex(store, MINE, width=WIDTH, max_bytes=100 * BYTES_PER_WINDOW)
    asyncio.run(index.refresh())
    expires_at = str(next(video for video in store.matching(MINE) if video.video_id == short).expires_at)
    eventually(lambda: now() > expires_at)
    assert_exact(index, known)  # before it is swept
    store.sweep()
    assert_exact(index, known)
    assert not index.has(short)
