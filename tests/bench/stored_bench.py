"""Measure stored videos: 100 hours scored with other labels, and exact search in a million windows.

A small model with D = 512, stored videos of an hour each with one window a second and random features. Beside each time
stands one pass over the same memory in the same run, which no exact computation can be faster than.

python -m tests.bench.stored_bench
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from serve import scoring
from serve.api.options import ClassifyOptions
from serve.arrays import Float32Array
from serve.features import VideoFeatures
from serve.pipeline import compute_scores
from serve.retrieval.library import VideoLibrary
from serve.retrieval.options import RescorePageOptions, SearchOptions
from serve.service import Service
from serve.settings import ServeSettings, VideoStoreSettings
from serve.videos.half_precision import round_features
from serve.videos.records import FeaturePart
from tests.bench.promises import Promise, settle, spread
from tests.models import TEXT, VISION, tiny_checkpoint
from tests.small_repository import publish
from tests.stored_videos import facts, new_video, window
from tests.tolerances import tolerance

WIDTH, LABELS, HOURS, WINDOWS = 512, 400, 100, 3600  # D, K, videos, windows of a video
MILLION = 1_000_000
ROUNDS = 7
SAME = tolerance(1.0, terms=WINDOWS)  # a score is a mean over the windows
TEXTS = [f"a person doing thing number {number}" for number in range(LABELS)]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured, in seconds and bytes."""

    rescored: list[float]
    rescored_pass: list[float]
    from_store: float  # the first time, when the features are read from the database
    one_by_one: float  # each window scored like a request of its own, extrapolated from one video
    searched: list[float]
    searched_pass: list[float]
    memory: int
    difference: float  # largest, of a score from that of a direct request
    recall: float  # of the exact best ten windows
    shuffled: float  # the same for features in another order


async def measure(folder: Path) -> Figures:
    """Store, score and search."""
    publish(
        tiny_checkpoint("clip", vision={**VISION, "embed_dim": WIDTH}, text={**TEXT, "embed_dim": WIDTH}),
        "wide",
        folder / "models",
    )
    settings = ServeSettings(
        repository=folder / "models",
        model="wide",
        engine="onnxruntime-cpu",
        cache_dir=folder / "cache",
        data_dir=folder / "data",
        videos=VideoStoreSettings(memory_bytes=3 * 2**30),
    )
    service = Service(settings)
    await service.start()
    try:
        library, process = service.library, psutil.Process()
        known = [await _stored(service, number) for number in range(HOURS)]
        options = RescorePageOptions(candidate_labels=TEXTS, page_size=HOURS)
        await library.rescorer.page(options.model_copy(update={"tag": "none"}), after=None)  # encodes the labels
        before = process.memory_info().rss
        from_store = (await _times(lambda: library.rescorer.page(options, after=None), 1))[0]
        memory = process.memory_info().rss - before
        rescored = await _times(lambda: library.rescorer.page(options, after=None), ROUNDS)
        matrix = _matrix(service, known)
        rescored_pass = [_one_pass(matrix) for _ in range(ROUNDS)]
        difference = await _largest_difference(service, known, options)
        one_by_one = HOURS * await _one_by_one(service, known[0])
        for number in range(HOURS, -(-MILLION // WINDOWS)):
            known.append(await _stored(service, number))
        matrix = _matrix(service, known)
        search = SearchOptions(top_k=10)
        await library.search.by_text(TEXTS[0], search)
        searched, searched_pass = [], []
        for _ in range(ROUNDS):
            searched += await _times(lambda: library.search.by_text(TEXTS[0], search), 1)
            searched_pass.append(_one_pass(matrix))
        recall, shuffled = await _recall(service, library, matrix, known)
        return Figures(
            rescored=rescored,
            rescored_pass=rescored_pass,
            from_store=from_store,
            one_by_one=one_by_one,
            searched=searched,
            searched_pass=searched_pass,
            memory=memory,
            difference=difference,
            recall=recall,
            shuffled=shuffled,
        )
    finally:
        await service.close()


async def _stored(service: Service, number: int) -> str:
    """Store an hour of random features; return the id."""
    runtime = service.registry.get(None)
    video = new_video(model_name="wide", model_version=1, model_digest=runtime.features_digest)
    features = round_features(VideoFeatures(video_features=_features(number)))
    part = FeaturePart(windows=[window(second) for second in range(WINDOWS)], features=features)
    await asyncio.to_thread(service.library.store.complete, video, 0, part, facts())
    return video.video_id


def _features(number: int) -> Float32Array:
    return np.random.default_rng(number).standard_normal((WINDOWS, WIDTH), dtype=np.float32)


def _matrix(service: Service, known: list[str]) -> Float32Array:
    """Return the features of all videos, of length one, as plain arithmetic uses them."""
    matrix = np.empty((len(known) * WINDOWS, WIDTH), np.float32)
    for number, video_id in enumerate(known):
        (part,) = service.library.store.parts(video_id)
        matrix[number * WINDOWS : (number + 1) * WINDOWS] = scoring.normalize(part.features.video_features)
    return matrix


async def _times(work: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        found.append(time.perf_counter() - started)
    return found


def _one_pass(matrix: Float32Array) -> float:
    """Return the seconds to read every value once, by all processors."""
    pieces = np.array_split(matrix, os.cpu_count() or 1)
    started = time.perf_counter()
    with ThreadPoolExecutor(len(pieces)) as pool:
        list(pool.map(np.max, pieces))
    return time.perf_counter() - started


async def _largest_difference(service: Service, known: list[str], options: RescorePageOptions) -> float:
    """Return the largest difference of a score from that of a direct request with the same features."""
    runtime = service.registry.get(None)
    contract = runtime.contract.scoring
    bank = await runtime.bank_builder.build(tuple(TEXTS), runtime.contract.text.templates)
    page, _ = await service.library.rescorer.page(options.model_copy(update={"top_k": LABELS}), after=None)
    found = {row.video_id: {result.label: result.score for result in row.results} for row in page.videos}
    differences = []
    for video_id in known[:10]:
        (part,) = service.library.store.parts(video_id)
        logits = scoring.compute_logits(part.features.video_features, bank, contract)
        direct = scoring.reduce_logits(logits, contract, function=contract.activation).scores
        assert direct is not None, "the model has a function"
        differences += [abs((found[video_id][text] or 0.0) - direct[k]) for k, text in enumerate(TEXTS)]
    return float(max(differences))


async def _one_by_one(service: Service, video_id: str) -> float:
    """Return the seconds to score each window of a video like a request of its own."""
    async with service.pipeline.resolve(ClassifyOptions(candidate_labels=TEXTS)) as resolved:
        bank = await resolved.runtime.bank_builder.build(resolved.phrases, resolved.templates)
        (part,) = service.library.store.parts(video_id)
        started = time.perf_counter()
        for row in part.features.video_features:
            logits = await resolved.runtime.logits(VideoFeatures(video_features=row[None]), bank)
            await compute_scores(resolved, logits, None)
        return time.perf_counter() - started


async def _recall(
    service: Service, library: VideoLibrary, matrix: Float32Array, known: list[str]
) -> tuple[float, float]:
    """Return the share of the exact best ten windows that searches find; and as a control, in a shuffled matrix."""
    runtime = service.registry.get(None)
    hits, shuffled = 0, 0
    for text in TEXTS[:10]:
        bank = await runtime.bank_builder.build((text,), runtime.contract.text.templates)
        cosines = matrix @ bank[:, 0].mean(axis=0)
        wanted = {(known[row // WINDOWS], float(row % WINDOWS)) for row in np.argsort(-cosines)[:10].tolist()}
        answer = await library.search.by_text(text, SearchOptions(top_k=10))
        found = {(row.video_id, row.start_seconds) for row in answer.results}
        hits += len(wanted & found)
        shuffled += len({(video_id, start + 1) for video_id, start in wanted} & found)
    return hits / 100, shuffled / 100


def judged(rescored: float, searched: float, difference: float, recall: float) -> list[Promise]:
    """Return the promises; times in seconds."""
    return [
        Promise(words="100 hours of windows scored with 400 labels, in seconds", found=rescored, most=2.0),
        Promise(words="a search in a million windows, in seconds", found=searched, most=0.15),
        Promise(words="largest difference of a score from a direct request", found=difference, most=SAME),
        Promise(words="recall of the exact best ten windows", found=recall, least=1.0),
    ]


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    hundred, million = HOURS * WINDOWS * WIDTH * 4 / 1e9, MILLION * WIDTH * 4 / 1e9
    rescored_pass, searched_pass = statistics.median(found.rescored_pass), statistics.median(found.searched_pass)
    print(
        f"{HOURS} h of 1-second windows, {LABELS} labels, D = {WIDTH}: {spread(found.rescored, 's')}; the first time, "
        f"from the database, {found.from_store:.2f} s; memory {found.memory / 2**20:.0f} MiB, one pass over its "
        f"{hundred:.2f} GB {rescored_pass:.3f} s ({hundred / rescored_pass:.1f} GB/s)"
    )
    print(f"the same, window by window: {found.one_by_one:.1f} s")
    print(
        f"search in a million windows, D = {WIDTH}: {spread(found.searched, 's')}; one pass over its {million:.2f} GB "
        f"{searched_pass:.3f} s ({million / searched_pass:.1f} GB/s); recall {found.recall:.2f}"
    )
    rescored, searched = statistics.median(found.rescored), statistics.median(found.searched)
    settle(
        judged(rescored, searched, found.difference, found.recall),
        {
            "windows scored one by one": judged(found.one_by_one, searched, found.difference, found.recall),
            "features in another order": judged(rescored, searched, found.difference, found.shuffled),
        },
    )


if __name__ == "__main__":
    main()
