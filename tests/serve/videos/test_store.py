"""Stored videos on SQLite and on PostgreSQL: they come back whole, are selected, expire, and go without a trace."""

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from serve.errors import StoreUnavailable, UnknownVideo, VideoStoreFull
from serve.store.database import Database, sqlite_url
from serve.store.schema import stored_features, stored_video_tags, stored_videos
from serve.videos.records import NewVideo, StoredVideo, VideoFilter, now
from serve.videos.store import VideoStore, pack_windows
from serve.vocabularies.store import VocabularyStore
from tests.running_server import ROOT
from tests.stored_videos import facts, new_video, part
from tests.waiting import eventually

OLD = ROOT / "tests" / "golden" / "store" / "before_stored_videos.sql"


def stored(store: VideoStore, video: NewVideo | None = None, *, windows: int = 3) -> StoredVideo:
    return store.complete(video or new_video(), 0, part(0, windows), facts())


def test_windows_and_features_come_back_as_they_were(store: VideoStore) -> None:
    video = new_video(tags=("a", "b"), expires_in_seconds=60)
    patches = np.ones((3, 4, 16), np.float32)
    prototypes = np.full((3, 5), -2.5, np.float32)
    pieces = [part(first, 3, patch_features=patches, prototype_features=prototypes) for first in (0, 3)]
    store.add_part(video, 0, pieces[0])
    with pytest.raises(UnknownVideo):
        store.get(video.video_id)
    found = store.complete(video, 1, pieces[1], facts())
    assert found == store.get(video.video_id)
    assert (found.num_windows, found.tags, found.model, found.metadata) == (6, ("a", "b"), "tiny@1", facts())
    assert found.expires_at is not None and found.expires_at > found.created_at
    again = list(store.parts(video.video_id, has_patches=True, has_prototypes=True))
    for expected, piece in zip(pieces, again, strict=True):
        assert list(piece.windows) == list(expected.windows)
        for name in ("video_features", "patch_features", "prototype_features"):
            np.testing.assert_array_equal(getattr(piece.features, name), getattr(expected.features, name))
    bare = next(store.parts(video.video_id)).features
    assert bare.patch_features is None and bare.prototype_features is None


def test_the_size_is_that_of_the_features(store: VideoStore) -> None:
    found = stored(store)
    assert found.num_bytes == 3 * (2 * 16 + 4) + len(pack_windows(part(0, 3).windows))


def test_an_abandoned_video_leaves_nothing(store: VideoStore, database: Database) -> None:
    video = new_video()
    store.add_part(video, 0, part(0, 3))
    store.abandon(video.video_id)
    with database.reading() as connection:
        for table in (stored_videos, stored_features):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0
    with pytest.raises(StoreUnavailable, match="took too long"):
        store.add_part(video, 1, part(3, 3))
    kept = stored(store)
    store.abandon(kept.video_id)
    assert store.get(kept.video_id) == kept, "a complete video is not abandoned"


def test_a_filter_selects_by_tag_model_and_time(store: VideoStore) -> None:
    first = stored(store, new_video(tags=("a",)))
    boundary = now()
    eventually(lambda: now() > boundary)
    second = stored(store, new_video(tags=("a", "b"), model_version=2))
    third = stored(store, new_video(model_name="other"))

    def ids(**chosen: object) -> set[str]:
        selected = VideoFilter(**chosen)  # type: ignore[arg-type]
        page = store.page(selected, after=None, limit=10)
        assert {video.video_id for video in store.matching(selected)} == {video.video_id for video in page}
        return {video.video_id for video in page}

    assert ids() == {first.video_id, second.video_id, third.video_id}
    assert ids(tag="a") == {first.video_id, second.video_id}
    assert ids(tag="b") == {second.video_id}
    assert ids(tag="%") == set()
    assert ids(model_name="tiny") == {first.video_id, second.video_id}
    assert ids(model_name="tiny", model_version=2) == {second.video_id}
    assert ids(model_digest="e" * 32) == set()
    assert ids(created_before=second.created_at) == {first.video_id}
    assert first.video_id not in ids(created_after=second.created_at)
    everything, some = VideoFilter(), VideoFilter(model_name="tiny", model_version=1)
    assert store.count_others(everything, some) == 2


def test_a_key_reaches_its_own_videos_only(store: VideoStore) -> None:
    own, other = stored(store, new_video(key_id="a" * 12)), stored(store, new_video(key_id="b" * 12))
    everybody = stored(store)
    mine = VideoFilter(key_id="a" * 12)
    assert [video.video_id for video in store.page(mine, after=None, limit=9)] == [own.video_id]
    assert [video.video_id for video in store.matching(mine)] == [own.video_id]
    assert store.get(own.video_id, key_id="a" * 12) == own
    for video in (other, everybody):
        for act in (store.get, store.delete):
            with pytest.raises(UnknownVideo):
                act(video.video_id, key_id="a" * 12)
    store.delete(own.video_id, key_id="a" * 12)
    assert len(store.page(VideoFilter(), after=None, limit=9)) == 2


def test_pages_hold_each_video_once_newest_first(store: VideoStore) -> None:
    known = [stored(store).video_id for _ in range(5)]
    found, after = [], None
    while page := store.page(VideoFilter(), after=after, limit=2):
        found += page
        after = (page[-1].created_at, page[-1].video_id)
    places = [(video.created_at, video.video_id) for video in found]
    assert places == sorted(places, reverse=True)
    assert sorted(video.video_id for video in found) == sorted(known)


def test_what_has_expired_is_gone_before_it_is_swept(store: VideoStore) -> None:
    video = stored(store, new_video(expires_in_seconds=1))
    lasting = stored(store, new_video(expires_in_seconds=3600))
    eventually(lambda: now() >= str(video.expires_at))
    with pytest.raises(UnknownVideo):
        store.get(video.video_id)
    assert [found.video_id for found in store.page(VideoFilter(), after=None, limit=9)] == [lasting.video_id]
    generation = store.generation()
    assert store.sweep() == 1
    assert store.generation() > generation
    assert store.sweep() == 0
    with pytest.raises(UnknownVideo):
        next(store.parts(video.video_id))


def test_what_was_never_completed_is_swept(store: VideoStore) -> None:
    video = new_video(abandoned_after_seconds=0.0)
    store.add_part(video, 0, part(0, 3))
    assert eventually(lambda: store.sweep() == 1)
    with pytest.raises(UnknownVideo):
        next(store.parts(video.video_id))


def test_the_limit_holds_for_all_videos_together(store: VideoStore) -> None:
    for number in range(3):
        stored(store, new_video(tags=(str(number),)), windows=3000)
    with pytest.raises(VideoStoreFull) as caught:
        stored(store, windows=3000)
    assert caught.value.details["limit_bytes"] == 10**6
    page = store.page(VideoFilter(), after=None, limit=9)
    assert len(page) == 3, "nothing of the refused one is left"
    store.delete(page[0].video_id)
    stored(store, windows=3000)


def test_a_deleted_video_is_gone_with_its_rows(store: VideoStore, database: Database) -> None:
    video = stored(store, new_video(tags=("a",)))
    generation = store.generation()
    store.delete(video.video_id)
    assert store.generation() > generation
    for act in (lambda: store.get(video.video_id), lambda: store.delete(video.video_id)):
        with pytest.raises(UnknownVideo):
            act()
    with database.reading() as connection:
        for table in (stored_videos, stored_features, stored_video_tags):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0


def test_changes_of_several_writers_are_all_counted(store: VideoStore) -> None:
    def work() -> None:
        for _ in range(5):
            store.delete(stored(store).video_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.generation() == 40


def test_the_files_hold_nothing_of_a_deleted_video(tmp_path: Path) -> None:
    """The bytes of features, name and tag are in the data folder before, and in none of its files afterwards."""
    database = Database(sqlite_url(tmp_path / "store.db"))
    database.migrate()
    store = VideoStore(database, max_bytes=10**9)
    other = stored(store, windows=500)
    secret = store.complete(new_video(tags=("tag-of-the-deleted",)), 0, part(7, 500), facts("name-of-the-deleted.mp4"))
    with database.reading() as connection:
        query = sa.select(stored_features.c.video_features).where(stored_features.c.video_id == secret.video_id)
        body: bytes = connection.execute(query).scalar_one()
    traces = [b"tag-of-the-deleted", b"name-of-the-deleted", secret.video_id.encode()]
    traces += [body[start : start + 64] for start in range(0, len(body) - 64, 512)]

    def found() -> list[bytes]:
        content = b"\n".join(path.read_bytes() for path in tmp_path.iterdir())
        return [trace for trace in traces if trace in content]

    assert len(found()) >= len(traces) - 10, "some lie across two pages"
    store.delete(secret.video_id)
    assert store.erase_deleted()
    assert found() == []
    assert next(store.parts(other.video_id)).features.video_features.shape == (500, 16)
    database.close()


def test_a_reader_delays_the_erasure(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "store.db"))
    database.migrate()
    store = VideoStore(database, max_bytes=10**9)
    video = stored(store)
    with sqlite3.connect(tmp_path / "store.db", isolation_level=None) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from stored_videos").fetchall()
        store.delete(video.video_id)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1")  # of a connection that the pool hands out again
        assert not store.erase_deleted()
        reader.execute("commit")
    reader.close()
    assert store.erase_deleted()
    database.close()


def test_a_store_of_the_release_before_is_migrated(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.executescript(OLD.read_text(encoding="utf-8"))
    assert connection.execute("select version_num from alembic_version").fetchone() == ("0005",)
    connection.close()
    database = Database(sqlite_url(tmp_path / "store.db"))
    database.migrate()
    store = VideoStore(database, max_bytes=10**9)
    assert store.generation() == 0
    assert len(VocabularyStore(database, keep_versions=5).load("pets").labels) == 2
    assert store.get(stored(store).video_id).num_windows == 3
    database.close()
