"""Scoring stored videos with another vocabulary: the numbers of the direct answers, without decoding.

A video is scored by the model version that made its features, or not at all.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from serve import scoring
from serve.api.options import ClassifyOptions, LabelOptions, ScoreOptions
from serve.arrays import Float32Array
from serve.errors import InvalidOption, StaleVideo, UnknownModel, UnknownVideo
from serve.features import VideoFeatures
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.pipeline import Pipeline, ResolvedOptions, find_label_warnings, resolved_facts, scored_facts
from serve.retrieval.answers import ScoredPage, ScoredVideo, StoredClassification
from serve.retrieval.index import WindowIndexes, of_runtime
from serve.retrieval.options import RescorePageOptions
from serve.timeline.answers import TimelineAnswer, TimelineVideo
from serve.timeline.builder import TimelineBuilder
from serve.timeline.options import SegmentOptions
from serve.videos.store import StoredVideo, VideoStore, WindowPart, unknown

LOGITS_AT_ONCE = 2**18  # views x templates x phrases; 1 MiB stays in the cache of a processor
LEAST_ROWS, MOST_ROWS = 16, 4096  # of one product
ROWS_PER_TASK = 2**14  # rows that a thread scores before the event loop may cancel it
WINDOWS_AT_ONCE = 64  # of a prompt head, and of a timeline


class Rescorer:
    """Scores stored videos."""

    def __init__(self, pipeline: Pipeline, registry: ModelRegistry, store: VideoStore, indexes: WindowIndexes) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._store = store
        self._indexes = indexes

    def is_stale(self, video: StoredVideo) -> bool:
        """Whether the model's name refers to another version than the one that made the features."""
        try:
            return not _is_maker(self._registry.get(video.model_name), video)
        except UnknownModel:
            return True

    async def classify(
        self, video_id: str, options: ScoreOptions, *, key_id: str | None = None
    ) -> StoredClassification:
        """Score a stored video; with `key_id` only one that belongs to that API key.

        Raises:
            UnknownVideo: there is no such video.
            StaleVideo: another model version made it.
            RequestError, ServiceError: see `Pipeline.resolve`.
        """
        started = time.perf_counter()
        video = await asyncio.to_thread(self._store.get, video_id, key_id=key_id)
        async with self._resolved(video, options, _classify_options(options, video)) as resolved:
            warnings = await find_label_warnings(resolved)
            bank = await resolved.runtime.bank.features(resolved.phrases, resolved.templates)
            encoded = time.perf_counter()
            scores = await self._scores(video, resolved, bank)
        scored = time.perf_counter()
        answer = StoredClassification(
            **resolved_facts(resolved),
            **scored_facts(resolved, scores, top_k=options.top_k),
            video_id=video.video_id,
            num_windows=video.num_windows,
            sampling=video.facts.sampling,
            vocabulary_warnings=warnings,
            timing_ms=_timing(text=encoded - started, score=scored - encoded, total=scored - started),
        )
        answer.model.engine = video.facts.engine
        return answer

    async def timeline(self, video_id: str, options: SegmentOptions, *, key_id: str | None = None) -> TimelineAnswer:
        """Make the timeline of a stored video again; with `key_id` only of one that belongs to that API key.

        Raises:
            UnknownVideo: there is no such video.
            InvalidOption: it was stored by a classification, without windows.
            StaleVideo: another model version made it.
            RequestError, ServiceError: see `Pipeline.resolve`.
        """
        started = time.perf_counter()
        video = await asyncio.to_thread(self._store.get, video_id, key_id=key_id)
        window, stride = video.facts.window_seconds, video.facts.stride_seconds
        if window is None or stride is None:
            raise InvalidOption(
                f"the stored video holds {video.num_windows} clips of a classification and no windows; "
                "store it by POST /v1/timeline to make timelines of it"
            )
        source = TimelineVideo(**video.facts.source.model_dump(include=set(TimelineVideo.model_fields)))
        timing_ms = {"load": 0.0, "score": 0.0}
        async with self._resolved(video, options, options.of_window()) as resolved:
            warnings = await find_label_warnings(resolved)
            bank = await resolved.runtime.bank.features(resolved.phrases, resolved.templates)
            spacing = options.spaced(window_seconds=window, stride_seconds=stride)
            builder = TimelineBuilder(resolved, options, spacing, bank, duration_seconds=source.duration_seconds)
            waiting_since = time.perf_counter()
            async for part in self._parts(video.video_id, resolved):
                loaded = time.perf_counter()
                timing_ms["load"] += (loaded - waiting_since) * 1000
                for piece in _pieces(part):
                    await builder.add(piece.windows, piece.features)
                waiting_since = time.perf_counter()
                timing_ms["score"] += (waiting_since - loaded) * 1000
            timing_ms["total"] = (time.perf_counter() - started) * 1000
            answer = builder.answer(source, relevance=None, warnings=warnings, timing_ms=timing_ms)
        answer.video_id = video.video_id
        answer.model.engine = video.facts.engine
        return answer

    async def page(
        self, options: RescorePageOptions, *, after: tuple[str, str] | None, key_id: str | None = None
    ) -> tuple[ScoredPage, str | None]:
        """Score a page of stored videos; return the answer, and the place of its last video if there are more.

        Raises:
            RequestError, ServiceError: see `Pipeline.resolve`.
        """
        started = time.perf_counter()
        async with self._pipeline.resolve(_classify_options(options, None)) as resolved:
            runtime = resolved.runtime
            chosen = options.chosen(key_id)
            mine = of_runtime(runtime, chosen)
            videos = await asyncio.to_thread(self._store.page, mine, after=after, limit=options.page_size + 1)
            num_stale = await asyncio.to_thread(self._store.count_others, chosen, mine)
            warnings = await find_label_warnings(resolved)
            bank = await runtime.bank.features(resolved.phrases, resolved.templates)
            await self._indexes.of(runtime).refresh()
            encoded = time.perf_counter()
            scored = await self._score_all(videos[: options.page_size], resolved, bank, top_k=options.top_k)
        finished = time.perf_counter()
        page = ScoredPage(
            **resolved_facts(resolved),
            vocabulary_warnings=warnings,
            videos=scored,
            num_stale=num_stale,
            next_page_token=None,
            timing_ms=_timing(text=encoded - started, score=finished - encoded, total=finished - started),
        )
        return page, place_of(videos[options.page_size - 1]) if len(videos) > options.page_size else None

    async def _score_all(
        self, videos: list[StoredVideo], resolved: ResolvedOptions, bank: Float32Array, *, top_k: int
    ) -> list[ScoredVideo]:
        turns = asyncio.Semaphore(os.cpu_count() or 1)

        async def one(video: StoredVideo) -> ScoredVideo | None:
            async with turns:
                try:
                    scores = await self._scores(video, resolved, bank)
                except UnknownVideo:  # deleted since the page was read
                    return None
            facts = scored_facts(resolved, scores, top_k=top_k)
            return ScoredVideo(video_id=video.video_id, num_windows=video.num_windows, **facts)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(video)) for video in videos]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [found for found in (task.result() for task in tasks) if found is not None]

    async def _scores(self, video: StoredVideo, resolved: ResolvedOptions, bank: Float32Array) -> scoring.Scores:
        """Reduce the windows of a video to scores, as `reduce_logits` reduces the views of a classification."""
        reducer = scoring.ViewReducer(
            resolved.runtime.contract.scoring,
            function=resolved.function,
            phrase_layout=resolved.phrase_layout,
            scale=resolved.rule.scale,
        )
        if resolved.prototypes is None and not resolved.runtime.contract.has_prompt_head:
            await self._reduce_cosines(video, reducer, resolved, bank)
            return reducer.scores()
        async for part in self._parts(video.video_id, resolved):
            for piece in _pieces(part):
                logits = await resolved.runtime.logits(piece.features, bank)  # [V, M, P]
                examples = None
                if resolved.prototypes is not None:
                    examples = resolved.prototypes.logits(piece.features.prototype_or_video_features)  # [V, K]
                await asyncio.to_thread(reducer.add, logits, examples)
        return reducer.scores()

    async def _reduce_cosines(
        self, video: StoredVideo, reducer: scoring.ViewReducer, resolved: ResolvedOptions, bank: Float32Array
    ) -> None:
        """Add the logits of all windows of a video, from memory or from the store."""
        index = self._indexes.of(resolved.runtime)
        contract = resolved.runtime.contract.scoring
        at_once = int(np.clip(LOGITS_AT_ONCE // (bank.shape[0] * bank.shape[1]), LEAST_ROWS, MOST_ROWS))

        def add_from_memory(start: int, stop: int) -> bool:
            for first in range(start, stop, at_once):
                rows = index.rows(video.video_id, first, min(first + at_once, stop))
                if rows is None:
                    return False
                reducer.add(scoring.logits_of_normalized(rows, bank, contract))
            return True

        def add(rows: Float32Array) -> None:
            for first in range(0, len(rows), at_once):
                reducer.add(scoring.compute_logits(rows[first : first + at_once], bank, contract))

        if index.has(video.video_id):
            for start in range(0, video.num_windows, ROWS_PER_TASK):
                stop = min(start + ROWS_PER_TASK, video.num_windows)
                if not await asyncio.to_thread(add_from_memory, start, stop):
                    raise unknown(video.video_id)  # deleted meanwhile
            return
        async for part in self._parts(video.video_id, resolved):
            await asyncio.to_thread(add, part.features.video_features)

    async def _parts(self, video_id: str, resolved: ResolvedOptions) -> AsyncIterator[WindowPart]:
        """Yield the parts of a video with the features that scoring needs."""
        parts = self._store.parts(
            video_id,
            has_patches=resolved.runtime.contract.has_prompt_head,
            has_prototypes=resolved.prototypes is not None and resolved.runtime.contract.prototype_dim > 0,
        )
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part

    @asynccontextmanager
    async def _resolved(
        self, video: StoredVideo, options: LabelOptions, wanted: ClassifyOptions
    ) -> AsyncIterator[ResolvedOptions]:
        """Resolve the options of a request for the model version that made a video.

        Raises:
            StaleVideo: the request, or the model's name, means another version.
        """
        if options.model is None:
            if self.is_stale(video):
                raise self._stale(video)
            wanted = wanted.model_copy(update={"model": video.model_name})
        async with self._pipeline.resolve(wanted) as resolved:
            if not _is_maker(resolved.runtime, video):
                raise self._stale(video, asked=resolved.runtime.reference)
            yield resolved

    def _stale(self, video: StoredVideo, *, asked: str | None = None) -> StaleVideo:
        loaded = [runtime.reference for runtime in self._registry.loaded() if _is_maker(runtime, video)]
        way = f"ask for it by `model`: {loaded[0]!r}, or " if loaded and asked is None else ""
        now = asked or f"another version of {video.model_name}, or none,"
        return StaleVideo(
            f"{video.model} made the features of this stored video, and {now} is to score them, which would give "
            f"meaningless numbers; {way}store the video again",
            made_by=video.model,
        )


def place_of(video: StoredVideo) -> str:
    """Return the position of a video in lists."""
    return f"{video.created_at} {video.video_id}"


def _is_maker(runtime: ModelRuntime, video: StoredVideo) -> bool:
    return runtime.reference == video.model and runtime.features_digest == video.model_digest


def _classify_options(options: ScoreOptions, video: StoredVideo | None) -> ClassifyOptions:
    """Return the options of a classification with the same labels; `num_clips` and `num_crops` are as stored."""
    shared: dict[str, Any] = {name: getattr(options, name) for name in ScoreOptions.model_fields}
    if video is not None and video.facts.sampling is not None:
        sampling = video.facts.sampling
        shared |= {"num_clips": sampling.num_clips, "num_crops": sampling.num_crops}
    return ClassifyOptions(**shared)


def _pieces(part: WindowPart) -> Iterator[WindowPart]:
    """Divide a part into runs of windows."""
    features = part.features
    for start in range(0, len(part.windows), WINDOWS_AT_ONCE):
        piece = slice(start, start + WINDOWS_AT_ONCE)
        yield WindowPart(
            windows=part.windows[piece],
            features=VideoFeatures(
                video_features=features.video_features[piece],
                patch_features=None if features.patch_features is None else features.patch_features[piece],
                prototype_features=None if features.prototype_features is None else features.prototype_features[piece],
            ),
        )


def _timing(**seconds: float) -> dict[str, float]:
    return {stage: round(1000 * value, 2) for stage, value in seconds.items()}
