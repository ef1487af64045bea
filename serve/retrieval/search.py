"""Search the windows of stored videos by a text, by a part of a stored video, or by a clip."""

import asyncio
import time
from pathlib import Path

import numpy as np

from serve import scoring
from serve.arrays import Float32Array
from serve.background import encode_views
from serve.errors import InvalidOption, StaleVideo
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.pipeline import Pipeline
from serve.retrieval.index import WindowIndexes, filter_for_runtime
from serve.retrieval.options import ExampleSearchOptions, SearchOptions
from serve.retrieval.responses import SearchResponse, SearchResult
from serve.text import prompts
from serve.timeline.builder import round_seconds
from serve.video.view_request import ViewRequest
from serve.video.workers import DecodePool
from serve.videos.records import VideoFilter
from serve.videos.store import VideoStore


class WindowSearch:
    """Finds windows of stored videos. With `key_id`, only videos that belong to that API key are searched."""

    def __init__(
        self,
        pipeline: Pipeline,
        registry: ModelRegistry,
        store: VideoStore,
        indexes: WindowIndexes,
        *,
        pool: DecodePool,
    ) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._store = store
        self._indexes = indexes
        self._pool = pool

    async def by_text(self, text: str, options: SearchOptions, *, key_id: str | None = None) -> SearchResponse:
        """Find windows that match a text, by the cosine that a classification with this text as a label would return.

        Raises:
            UnknownModel: the model does not exist.
            InvalidVocabulary: the text cannot be encoded.
        """
        self._pipeline.check_label_limits([text])
        started = time.perf_counter()
        with self._registry.use(options.model) as runtime:
            bank = await runtime.bank_builder.build(
                prompts.clean_labels([text]), runtime.contract.text.templates
            )  # [M, 1, D]
            query = scoring.normalize(bank[:, 0]).mean(axis=0)  # the mean of the cosines is the cosine with the mean
            return await self._search(runtime, query, options, started=started, key_id=key_id)

    async def by_example(self, options: ExampleSearchOptions, *, key_id: str | None = None) -> SearchResponse:
        """Find windows that look like a part of a stored video.

        Raises:
            UnknownModel, UnknownVideo: the model or the video does not exist.
            StaleVideo: another model version computed the features of the video.
            InvalidOption: no window overlaps the part.
        """
        started = time.perf_counter()
        with self._registry.use(options.model) as runtime:
            video = await asyncio.to_thread(self._store.get, options.video_id, key_id=key_id)
            if (video.model, video.model_digest) != (runtime.reference, runtime.features_digest):
                raise StaleVideo(
                    f"the features of this stored video were computed by {video.model}, but windows of "
                    f"{runtime.reference} are searched; set `model` to {video.model!r}, or store the video again",
                    made_by=video.model,
                )
            features = await asyncio.to_thread(self._features_of_part, options)
            return await self._search(runtime, _mean_direction(features), options, started=started, key_id=key_id)

    async def by_clip(
        self, path: Path, options: SearchOptions, *, deadline: float, key_id: str | None = None
    ) -> SearchResponse:
        """Find windows that look like a clip.

        Raises:
            RequestError, ServiceError: the clip is not valid, or a component is not available.
        """
        started = time.perf_counter()
        with self._registry.use(options.model) as runtime:
            contract = runtime.contract
            request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
            decoded = await self._pool.views(path, request)
            features = await encode_views(runtime.engine, decoded.views, deadline=deadline)
            query = _mean_direction(scoring.normalize(features.video_features))
            return await self._search(runtime, query, options, started=started, key_id=key_id)

    def _features_of_part(self, options: ExampleSearchOptions) -> Float32Array:
        """Return the normalized features [N, D] of the windows that overlap the part."""
        start = options.start_seconds or 0.0
        end = float("inf") if options.end_seconds is None else options.end_seconds
        selected = []
        duration = 0.0
        for part in self._store.parts(options.video_id):
            starts = np.array([window.start_seconds for window in part.windows])
            ends = np.array([window.end_seconds for window in part.windows])
            duration = max(duration, float(ends.max()))
            is_inside = (starts < end) & ((ends > start) | (starts == start))  # the window of an image lasts 0 seconds
            selected.append(scoring.normalize(part.features.video_features[is_inside]))
        features = np.concatenate(selected)
        if not len(features):
            raise InvalidOption(
                f"the part starts at {start:g} s, and the stored video ends at {duration:g} s",
                duration_seconds=duration,
            )
        return features

    async def _search(
        self,
        runtime: ModelRuntime,
        query: Float32Array,
        options: SearchOptions,
        *,
        started: float,
        key_id: str | None,
    ) -> SearchResponse:
        encoded = time.perf_counter()
        index = self._indexes.get(runtime)
        video_filter = options.to_filter(key_id)
        usable_filter = filter_for_runtime(runtime, video_filter)
        num_stale = await asyncio.to_thread(self._store.count_others, video_filter, usable_filter)
        videos = None if video_filter == VideoFilter() else await asyncio.to_thread(self._store.matching, usable_filter)
        among = None if videos is None else {video.video_id for video in videos}
        hits = await index.search(query.astype(np.float32), options.top_k, among=among)
        finished = time.perf_counter()
        timing = {"query": encoded - started, "search": finished - encoded, "total": finished - started}
        return SearchResponse(
            model=runtime.reference,
            scored_by_cosine=not runtime.contract.has_prompt_head,
            num_windows=index.num_windows if videos is None else sum(video.num_windows for video in videos),
            num_stale=num_stale,
            results=[
                SearchResult(
                    video_id=hit.video_id,
                    start_seconds=round_seconds(hit.start_seconds),
                    end_seconds=round_seconds(hit.end_seconds),
                    cosine=hit.cosine,
                )
                for hit in hits
            ],
            timing_ms={stage: round(1000 * seconds, 2) for stage, seconds in timing.items()},
        )


def _mean_direction(features: Float32Array) -> Float32Array:
    """Return the normalized mean [D] of normalized features [N, D]."""
    return scoring.normalize(features.mean(axis=0, dtype=np.float32))
