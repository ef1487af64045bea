"""`actserve videos import`: features of a batch become stored videos that have the same scores."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from serve.access.key_store import KeyStore
from serve.api.options import ScoreOptions
from serve.batch import importing
from serve.batch.importing import make_video_id
from serve.batch.manifest import read_manifest
from serve.cli.main import main
from serve.data_folder import open_database
from serve.environment import load_settings
from serve.features import VideoFeatures
from serve.scopes import Scope
from serve.service import Service
from serve.timeline.options import SegmentOptions
from serve.video.windows import Window
from serve.videos.records import FeaturePart, NewVideo, StoredVideo, VideoFilter
from serve.videos.store import VideoStore
from tests.serve.batch.conftest import LABELS, lines

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(scope="module")
def outputs(archive: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Outputs with features: of a classification with two clips and of a timeline."""
    folder = tmp_path_factory.mktemp("features")
    words = ("--labels", LABELS, "--features", "--format", "both", "--part-size", 2)
    clips = ("--options", '{"num_clips": 2}')
    assert run(archive, "--out", folder / "classify", *words, *clips)[0] == 1  # one file is no video
    assert run(archive / "0.mp4", archive / "1.mp4", "--out", folder / "timeline", *words, "--kind", "timeline")[0] == 0
    return {kind: folder / kind for kind in ("classify", "timeline")}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VideoStore:
    """The stored videos of an empty database."""
    monkeypatch.setenv("SERVE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SERVE_MODEL", "demo")
    database = open_database(load_settings({}))
    database.migrate()
    return VideoStore(database, max_bytes=2**40)


def import_folder(folder: Path, *words: object) -> tuple[int, dict[str, Any], str]:
    status = 0
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
        try:
            main(["videos", "import", str(folder), *map(str, words), "--json"])
        except SystemExit as end:
            status = int(end.code or 0)
    return status, json.loads(printed.getvalue() or "{}"), errors.getvalue()


def stored(store: VideoStore) -> dict[str, StoredVideo]:
    page = store.page(VideoFilter(), after=None, limit=100)
    return {f"{video.kind} {video.metadata.source.filename}": video for video in page}


async def test_imported_videos_have_the_scores_of_the_batch(
    store: VideoStore, outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "ROWS_PER_READ", 3)  # the windows of a video are read and written in several parts
    monkeypatch.setattr(importing, "PART_BYTES", 2 * 128 * 4)
    for folder, total in ((outputs["classify"], 4), (outputs["timeline"], 2)):
        status, counts, errors = import_folder(folder, "--tag", "old", "--expires-in", 3600)
        assert (status, counts["imported"], counts["present"], counts["total"]) == (0, total, 0, total), errors
    videos = stored(store)
    assert len(videos) == 6
    service = Service(load_settings({}))
    await service.start()
    try:
        rescorer = service.library.rescorer
        for line in lines(outputs["classify"], "jsonl"):
            video = videos[f"clips {Path(line['input']).name}"]
            assert (video.num_windows, video.tags, video.expires_at is None) == (2, ("old",), False)
            scored = await rescorer.classify(video.video_id, ScoreOptions(candidate_labels=LABELS.split(",")))
            for found, expected in zip(scored.results, line["result"]["results"], strict=True):
                assert found.label == expected["label"]
                assert found.logit == pytest.approx(expected["logit"], abs=1e-4)
        for line in lines(outputs["timeline"], "jsonl"):
            video = videos[f"windows {Path(line['input']).name}"]
            options = SegmentOptions(candidate_labels=LABELS.split(","), view="both")
            timeline = await rescorer.timeline(video.video_id, options)
            expected_windows = line["result"]["windows"]
            assert timeline.windows is not None and len(timeline.windows) == len(expected_windows)
            for window, expected in zip(timeline.windows, expected_windows, strict=True):
                assert (window.start_seconds, window.end_frame) == (expected["start_seconds"], expected["end_frame"])
                assert window.results[0].label == expected["results"][0]["label"]
    finally:
        await service.close()


def interrupt_import(store: VideoStore, folder: Path) -> None:
    """Leave what an import that is killed within its first video leaves."""
    manifest = read_manifest(folder)
    assert manifest is not None
    video = NewVideo(
        video_id=make_video_id(manifest, 0),
        kind="clips",
        model_name="demo",
        model_version=1,
        model_digest=manifest.settings.features_digest,
        tags=(),
        key_id=None,
        expires_in_seconds=None,
        abandoned_after_seconds=3600,
    )
    times = dict.fromkeys(Window.__dataclass_fields__, 0)
    window = Window(**{**times, "frame_indices": ()})  # type: ignore[arg-type]
    part = FeaturePart(windows=[window], features=VideoFeatures(video_features=np.ones((1, 128), np.float32)))
    store.add_part(video, 0, part)


def test_a_repeated_import_stores_nothing_twice(store: VideoStore, outputs: dict[str, Path]) -> None:
    folder = outputs["classify"]
    interrupt_import(store, folder)
    import_folder(folder)
    before = stored(store)
    store.delete(next(iter(before.values())).video_id)
    status, counts, _ = import_folder(folder)
    assert (status, counts["imported"], counts["present"]) == (0, 1, 3)
    assert {video.video_id for video in stored(store).values()} == {video.video_id for video in before.values()}


def test_videos_belong_to_the_named_key(store: VideoStore, outputs: dict[str, Path]) -> None:
    status, _, errors = import_folder(outputs["timeline"], "--key", "nobody")
    assert status == 2
    assert "no valid key named 'nobody'" in errors
    database = open_database(load_settings({}))
    key, _ = KeyStore(database).create("robot", [Scope.INFER], lifetime_seconds=None)
    database.close()
    assert import_folder(outputs["timeline"], "--key", "robot")[0] == 0
    assert {video.key_id for video in stored(store).values()} == {key.key_id}


def damage_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["features_digest"] = "0" * 32
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replace_features(folder: Path, values: float, width: int) -> None:
    path = folder / "results" / "part-000000.parquet"
    table = parquet.read_table(path)
    flat = pa.array([values] * (len(table) * width), pa.float32())
    place = table.column_names.index("video_features")
    parquet.write_table(table.set_column(place, "video_features", pa.FixedSizeListArray.from_arrays(flat, width)), path)


def drop_features(folder: Path) -> None:
    path = folder / "results" / "part-000000.parquet"
    parquet.write_table(parquet.read_table(path).drop(["video_features"]), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_manifest, "computed by another demo@1"),
        (lambda folder: replace_features(folder, float("nan"), 128), "part-000000.parquet is damaged"),
        (lambda folder: replace_features(folder, 0.5, 64), "128 features, expected 2 rows of 128 finite numbers"),
        (drop_features, "part-000000.parquet is damaged"),
        (lambda folder: (folder / "results" / "part-000000.parquet").write_bytes(b"PAR1"), "is damaged"),
        (lambda folder: (folder / "commits" / "part-000000.json").write_text("[]"), "part-000000.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is not a manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
    ],
    ids=["other files", "not finite", "width", "no features", "no table", "commit", "no settings", "no manifest"],
)
def test_features_that_do_not_fit_are_refused(
    change: Callable[[Path], object], message: str, store: VideoStore, outputs: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(outputs["classify"], folder)
    change(folder)
    status, _, errors = import_folder(folder)
    assert status == 2
    assert message in errors
    assert stored(store) == {}


def test_features_of_a_model_that_is_not_active_are_refused(
    store: VideoStore, outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_MODEL", "starter")
    status, _, errors = import_folder(outputs["classify"])
    assert status == 2
    assert "demo@1, but the active model is starter@1" in errors
    assert stored(store) == {}


def test_an_output_without_features_is_refused(store: VideoStore, archive: Path, run: Run, tmp_path: Path) -> None:
    assert run(archive / "0.mp4", "--out", tmp_path / "out", "--kind", "embed")[0] == 0
    status, _, errors = import_folder(tmp_path / "out")
    assert status == 2
    assert "actserve batch --features" in errors
