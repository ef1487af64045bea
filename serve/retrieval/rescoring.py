"""Score stored videos with another vocabulary, without decoding them again.

The scores equal those of a direct classification or timeline. Only the model version that computed the features of a
video can score it.
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
from serve.pipeline import Pipeline, ResolvedOptions, find_label_warnings, option_fields, score_fields
from serve.retrieval.index import WindowIndexes, filter_for_runtime
from serve.retrieval.options import RescorePageOptions
from serve.retrieval.responses import ScoredPage, ScoredVideo, StoredClassification
from serve.timeline.builder import TimelineBuilder
from serve.timeline.options import SegmentOptions
from serve.timeline.responses import TimelineResponse, TimelineVideo
from serve.videos.records import FeaturePart, StoredVideo
from serve.videos.store import VideoStore, unknown_video_error

LOGITS_PER_BLOCK = 2**18  # views x templates x phrases; 1 MiB fits into the cache of a processor
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 16, 4096  # rows of one matrix product
ROWS_PER_TASK = 2**14  # rows that are scored in one call of a thread; a request can be cancelled between calls
WINDOWS_PER_BATCH = 64  # for prompt heads and timelines


class Rescorer:
    """Scores stored videos."""

    def __init__(self, pipeline: Pipeline, registry: ModelRegistry, store: VideoStore, indexes: WindowIndexes) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._store = store
        self._indexes = indexes

    def is_stale(self, video: StoredVideo) -> bool:
        """Return whether the active version of the model is not the one that computed the features."""
        try:
            return not _has_computed(self._registry.get(video.model_name), video)
        except UnknownModel:
            return True

    async def classify(
        self, video_id: str, options: ScoreOptions, *, key_id: str | None = None
    ) -> StoredClassification:
        """Score a stored video. If `key_id` is given, the video must belong to that API key.

        Raises:
            UnknownVideo: the video does not exist, or belongs to another API key.
            StaleVideo: another model version computed the features.
            RequestError, ServiceError: the options are not valid; see `Pipeline.resolve`.
        """
        started = time.perf_counter()
        video = await asyncio.to_thread(self._store.get, video_id, key_id=key_id)
        async with self._resolved(video, options, _classify_options(options, video)) as resolved:
            warnings = await find_label_warnings(resolved)
            bank = await resolved.runtime.bank_builder.build(resolved.phrases, resolved.templates)
            encoded = time.perf_counter()
            scores = await self._compute_scores(video, resolved, bank)
        scored = time.perf_counter()
        response = StoredClassification(
            **option_fields(resolved),
            **score_fields(resolved, scores, top_k=options.top_k),
            video_id=video.video_id,
            num_windows=video.num_windows,
            sampling=video.metadata.sampling,
            vocabulary_warnings=warnings,
            timing_ms=_timing(text=encoded - started, score=scored - encoded, total=scored - started),
        )
        response.model.engine = video.metadata.engine
        return response

    async def timeline(self, video_id: str, options: SegmentOptions, *, key_id: str | None = None) -> TimelineResponse:
        """Make a timeline of a stored video. If `key_id` is given, the video must belong to that API key.

        Raises:
            UnknownVideo: the video does not exist, or belongs to another API key.
            InvalidOption: the video was stored by a classification, so it has no windows.
            StaleVideo: another model version computed the features.
            RequestError, ServiceError: the options are not valid; see `Pipeline.resolve`.
        """
        started = time.perf_counter()
        video = await asyncio.to_thread(self._store.get, video_id, key_id=key_id)
        window, stride = video.metadata.window_seconds, video.metadata.stride_seconds
        if window is None or stride is None:
            raise InvalidOption(
                f"the video was stored by a classification, with {video.num_windows} clips and no windows; "
                "store it with POST /v1/timeline to make timelines of it"
            )
        source = TimelineVideo(**video.metadata.source.model_dump(include=set(TimelineVideo.model_fields)))
        timing_ms = {"load": 0.0, "score": 0.0}
        async with self._resolved(video, options, options.to_classify_options()) as resolved:
            warnings = await find_label_warnings(resolved)
            bank = await resolved.runtime.bank_builder.build(resolved.phrases, resolved.templates)
            spacing = options.make_spacing(window_seconds=window, stride_seconds=stride)
            builder = TimelineBuilder(resolved, options, spacing, bank, duration_seconds=source.duration_seconds)
            waiting_since = time.perf_counter()
            async for part in self._parts(video.video_id, resolved):
                loaded = time.perf_counter()
                timing_ms["load"] += (loaded - waiting_since) * 1000
                for batch in _split(part):
                    await builder.add(batch.windows, batch.features)
                waiting_since = time.perf_counter()
                timing_ms["score"] += (waiting_since - loaded) * 1000
            timing_ms["total"] = (time.perf_counter() - started) * 1000
            response = builder.build_response(source, relevance=None, warnings=warnings, timing_ms=timing_ms)
        response.video_id = video.video_id
        response.model.engine = video.metadata.engine
        return response

    async def page(
        self, options: RescorePageOptions, *, after: tuple[str, str] | None, key_id: str | None = None
    ) -> tuple[ScoredPage, str | None]:
        """Score a page of stored videos; return the response, and the position of its last video if there are more.

        Raises:
            RequestError, ServiceError: the options are not valid; see `Pipeline.resolve`.
        """
        started = time.perf_counter()
        async with self._pipeline.resolve(_classify_options(options, None)) as resolved:
            runtime = resolved.runtime
            video_filter = options.to_filter(key_id)
            usable_filter = filter_for_runtime(runtime, video_filter)
            videos = await asyncio.to_thread(self._store.page, usable_filter, after=after, limit=options.page_size + 1)
            num_stale = await asyncio.to_thread(self._store.count_others, video_filter, usable_filter)
            warnings = await find_label_warnings(resolved)
            bank = await runtime.bank_builder.build(resolved.phrases, resolved.templates)
            await self._indexes.get(runtime).refresh()
            encoded = time.perf_counter()
            scored = await self._score_all(videos[: options.page_size], resolved, bank, top_k=options.top_k)
        finished = time.perf_counter()
        page = ScoredPage(
            **option_fields(resolved),
            vocabulary_warnings=warnings,
            videos=scored,
            num_stale=num_stale,
            next_page_token=None,
            timing_ms=_timing(text=encoded - started, score=finished - encoded, total=finished - started),
        )
        return page, page_position(videos[options.page_size - 1]) if len(videos) > options.page_size else None

    async def _score_all(
        self, videos: list[StoredVideo], resolved: ResolvedOptions, bank: Float32Array, *, top_k: int
    ) -> list[ScoredVideo]:
        semaphore = asyncio.Semaphore(os.cpu_count() or 1)

        async def score_one(video: StoredVideo) -> ScoredVideo | None:
            async with semaphore:
                try:
                    scores = await self._compute_scores(video, resolved, bank)
                except UnknownVideo:  # deleted since the page was read
                    return None
            fields = score_fields(resolved, scores, top_k=top_k)
            return ScoredVideo(video_id=video.video_id, num_windows=video.num_windows, **fields)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(score_one(video)) for video in videos]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [scored for scored in (task.result() for task in tasks) if scored is not None]

    async def _compute_scores(
        self, video: StoredVideo, resolved: ResolvedOptions, bank: Float32Array
    ) -> scoring.Scores:
        """Reduce the windows of a video to scores, in the same way as the views of a classification."""
        reducer = scoring.ViewReducer(
            resolved.runtime.contract.scoring,
            function=resolved.function_to_apply,
            phrase_layout=resolved.phrase_layout,
            scale=resolved.acceptance_rule.scale,
        )
        if resolved.prototypes is None and not resolved.runtime.contract.has_prompt_head:
            await self._reduce_cosines(video, reducer, resolved, bank)
            return reducer.scores()
        async for part in self._parts(video.video_id, resolved):
            for batch in _split(part):
                logits = await resolved.runtime.logits(batch.features, bank)  # [V, M, P]
                examples = None
                if resolved.prototypes is not None:
                    examples = resolved.prototypes.logits(batch.features.prototype_or_video_features)  # [V, K]
                await asyncio.to_thread(reducer.add, logits, examples)
        return reducer.scores()

    async def _reduce_cosines(
        self, video: StoredVideo, reducer: scoring.ViewReducer, resolved: ResolvedOptions, bank: Float32Array
    ) -> None:
        """Add the cosine logits of all windows of a video to `reducer`, from memory or from the database."""
        index = self._indexes.get(resolved.runtime)
        contract = resolved.runtime.contract.scoring
        block_rows = int(np.clip(LOGITS_PER_BLOCK // (bank.shape[0] * bank.shape[1]), MIN_BLOCK_ROWS, MAX_BLOCK_ROWS))

        def add_from_memory(start: int, stop: int) -> bool:
            for first in range(start, stop, block_rows):
                features = index.features(video.video_id, first, min(first + block_rows, stop))
                if features is None:
                    return False
                reducer.add(scoring.logits_of_normalized(features, bank, contract))
            return True

        def add(features: Float32Array) -> None:
            for first in range(0, len(features), block_rows):
                reducer.add(scoring.compute_logits(features[first : first + block_rows], bank, contract))

        if index.has(video.video_id):
            for start in range(0, video.num_windows, ROWS_PER_TASK):
                stop = min(start + ROWS_PER_TASK, video.num_windows)
                if not await asyncio.to_thread(add_from_memory, start, stop):
                    raise unknown_video_error(video.video_id)  # deleted meanwhile
            return
        async for part in self._parts(video.video_id, resolved):
            await asyncio.to_thread(add, part.features.video_features)

    async def _parts(self, video_id: str, resolved: ResolvedOptions) -> AsyncIterator[FeaturePart]:
        """Yield the parts of a video with those features that scoring needs."""
        parts = self._store.parts(
            video_id,
            has_patches=resolved.runtime.contract.has_prompt_head,
            has_prototypes=resolved.prototypes is not None and resolved.runtime.contract.prototype_dim > 0,
        )
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part

    @asynccontextmanager
    async def _resolved(
        self, video: StoredVideo, options: LabelOptions, classify_options: ClassifyOptions
    ) -> AsyncIterator[ResolvedOptions]:
        """Resolve the options of a request for the model version that computed the features of a video.

        Raises:
            StaleVideo: the request names another version, or another version is active.
        """
        if options.model is None:
            if self.is_stale(video):
                raise self._stale_error(video)
            classify_options = classify_options.model_copy(update={"model": video.model_name})
        async with self._pipeline.resolve(classify_options) as resolved:
            if not _has_computed(resolved.runtime, video):
                raise self._stale_error(video, requested=resolved.runtime.reference)
            yield resolved

    def _stale_error(self, video: StoredVideo, *, requested: str | None = None) -> StaleVideo:
        loaded = [runtime.reference for runtime in self._registry.loaded() if _has_computed(runtime, video)]
        alternative = f"set `model` to {loaded[0]!r}, or " if loaded and requested is None else ""
        model = requested or f"the active version of {video.model_name}"
        return StaleVideo(
            f"the features of this stored video were computed by {video.model}, so {model} cannot score them; "
            f"{alternative}store the video again",
            made_by=video.model,
        )


def page_position(video: StoredVideo) -> str:
    """Return the position of a video in the list of stored videos, for page tokens."""
    return f"{video.created_at} {video.video_id}"


def _has_computed(runtime: ModelRuntime, video: StoredVideo) -> bool:
    return runtime.reference == video.model and runtime.features_digest == video.model_digest


def _classify_options(options: ScoreOptions, video: StoredVideo | None) -> ClassifyOptions:
    """Return classification options with the same labels; `num_clips` and `num_crops` are those of the stored video."""
    shared_options: dict[str, Any] = {name: getattr(options, name) for name in ScoreOptions.model_fields}
    if video is not None and video.metadata.sampling is not None:
        sampling = video.metadata.sampling
        shared_options |= {"num_clips": sampling.num_clips, "num_crops": sampling.num_crops}
    return ClassifyOptions(**shared_options)


def _split(part: FeaturePart) -> Iterator[FeaturePart]:
    """Split a part into batches of consecutive windows."""
    features = part.features
    for start in range(0, len(part.windows), WINDOWS_PER_BATCH):
        batch = slice(start, start + WINDOWS_PER_BATCH)
        yield FeaturePart(
            windows=part.windows[batch],
            features=VideoFeatures(
                video_features=features.video_features[batch],
                patch_features=None if features.patch_features is None else features.patch_features[batch],
                prototype_features=None if features.prototype_features is None else features.prototype_features[batch],
            ),
        )


def _timing(**seconds: float) -> dict[str, float]:
    return {stage: round(1000 * value, 2) for stage, value in seconds.items()}
