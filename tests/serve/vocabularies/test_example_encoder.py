"""Examples under models of both kinds: features are the engine's, text logits the family's own, by head or cosine."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.exporter import export_checkpoint
from export.loading import read_tokenizer
from serve.models.runtime import ModelRuntime, load_runtime
from serve.settings import ServeSettings
from serve.store.database import Database, sqlite_url
from serve.upload_folder import UploadFolder
from serve.video.workers import DecodePool, ViewRequest
from serve.vocabularies.example_clips import ExampleEncoder, add_examples, hash_clip
from serve.vocabularies.labels import Label
from serve.vocabularies.prototypes import fit_prototypes
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary
from tests.models import tiny_xclip
from tests.tolerances import assert_close
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

pytestmark = pytest.mark.numeric

Stored = tuple[VocabularyStore, Vocabulary, list[Path]]
WORDS = Vocabulary(
    name="words",
    version=0,
    labels=(
        Label(label_id="a", name="flumping", synonyms=("to flump",)),
        Label(label_id="b", name="gribbing"),
        Label(label_id="c", name="zorping"),
    ),
    background=("nothing",),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny X-CLIP whose logits come of its prompt head."""
    folder = tmp_path_factory.mktemp("repository")
    checkpoint = tiny_xclip()
    export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name="tiny", repository=folder)
    return folder


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    pool = DecodePool(ServeSettings().decode)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """A vocabulary with two examples of its first label and two of its last."""
    database = Database(sqlite_url(tmp_path / "store.db"))
    database.migrate()
    store = VocabularyStore(database, keep_versions=5)
    made, paths = WORDS, []
    for label_id, action in (("a", "bowing"), ("c", "kicking")):
        for seed in (1, 2):
            path = tmp_path / f"{action}{seed}.mp4"
            video = render_video(Combination(action, None, "red"), "test", seed, size=90)
            write_video(path, video.frames, fps=video.fps)
            made = add_examples(made, label_id, [hash_clip(path, path.name)], settings=ServeSettings())[0]
            paths.append(path)
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}
    return store, store.commit(made, expected=None, new_clips=files), paths


async def _features(runtime: ModelRuntime, pool: DecodePool, paths: list[Path]) -> list[np.ndarray]:
    """(video features [E, D], logits [E, M, P]) straight from the engine."""
    contract = runtime.contract
    request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
    bank = await runtime.bank_builder.build(
        (*WORDS.labels[0].phrases, "gribbing", "zorping", "nothing"), contract.text.templates
    )
    rows, logits = [], []
    for path in paths:
        decoded = await pool.views(path, request)
        features = await runtime.engine.encode_video(decoded.views, deadline=asyncio.get_running_loop().time() + 60)
        rows.append(features.video_features[0])
        logits.append((await runtime.logits(features, bank))[0])
    return [np.stack(rows), np.stack(logits)]


@pytest.mark.parametrize("name", ["tiny", "demo"])
async def test_prototypes_are_of_the_model_that_is_asked(
    name: str,
    repository: Path,
    pool: DecodePool,
    stored: tuple[VocabularyStore, Vocabulary, list[Path]],
    tmp_path: Path,
) -> None:
    store, vocabulary, paths = stored
    folders = {"repository": repository} if name == "tiny" else {}
    settings = ServeSettings(cache_dir=tmp_path / "cache", **folders)
    encoder = ExampleEncoder(pool, store, folder=UploadFolder(tmp_path), settings=settings)
    runtime = await load_runtime(settings, name)
    found = await encoder.prototypes(vocabulary, runtime)
    features, logits = await _features(runtime, pool, paths)
    classes = np.stack((logits[..., :2].max(axis=-1), *np.moveaxis(logits[..., 2:], -1, 0)), axis=-1).mean(axis=1)
    expected = fit_prototypes(
        features, np.array([0, 0, 2, 2]), classes, num_labels=3, logit_scale=runtime.contract.scoring.logit_scale
    )
    assert found is not None
    assert_close(found.features, expected.features, magnitude=1.0)
    assert found.fit == replace(expected.fit, weight=found.fit.weight)
    assert found.fit.weight == pytest.approx(expected.fit.weight)
    await runtime.close()
    again = await load_runtime(settings, name)
    await pool.close()  # what was kept needs no decoder
    kept = await encoder.prototypes(vocabulary, again)
    assert kept is not None and kept.fit == found.fit
    np.testing.assert_array_equal(kept.features, found.features)
    await again.close()
