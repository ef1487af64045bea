"""Search in the windows of stored videos: by a text, by a part of a stored video, or by a clip."""

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
from serve.retrieval.answers import SearchAnswer, SearchResult
from serve.retrieval.index import WindowIndexes, of_runtime
from serve.retrieval.options import ExampleSearchOptions, SearchOptions
from serve.text import prompts
from serve.timeline.builder import rounded_seconds
from serve.video.view_request import ViewRequest
from serve.video.workers import DecodePool
from serve.videos.store import VideoFilter, VideoStore


class WindowSearch:
    """Finds windows of stored videos; with `key_id` of those that belong to that API key."""

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

    async def by_text(self, text: str, options: SearchOptions, *, key_id: str | None = None) -> SearchAnswer:
        """Find windows that a text describes, by the cosine that a label of this text has in a classification.

        Raises:
            UnknownModel: there is no such model.
            InvalidVocabulary: the text cannot be encoded.
        """
        self._pipeline.check_labels([text])
        started = time.perf_counter()
        with self._registry.use(options.model) as runtime:
            bank = await runtime.bank.features(
                prompts.check_labels([text]), runtime.contract.text.templates
            )  # [M, 1, D]
            query = scoring.normalize(bank[:, 0]).mean(axis=0)  # the mean of the cosines is the cosine with the mean
            return await self._found(runtime, query, options, started=started, key_id=key_id)

    async def by_example(self, options: ExampleSearchOptions, *, key_id: str | None = None) -> SearchAnswer:
        """Find windows that look like a part of a stored video.

        Raises:
            UnknownModel, UnknownVideo: there is none.
            StaleVideo: another model version made the features of the video.
            InvalidOption: no window lies in the part.
        """
        started = time.perf_counter()
        with self._registry.use(options.model) as runtime:
            video = await asyncio.to_thread(self._store.get, options.video_id, key_id=key_id)
            if (video.model, video.model_digest) != (runtime.reference, runtime.features_digest):
                raise StaleVideo(
                    f"{video.model} made the features of this stored video, and windows of {runtime.reference} are "
                    "searched; name the model that made it by `model`, or store the video again",
                    made_by=video.model,
                )
            rows = await asyncio.to_thread(self._rows_of_part, options)
            return await self._found(runtime, _mean_direction(rows), options, started=started, key_id=key_id)

    async def by_clip(
        self, path: Path, options: SearchOptions, *, deadline: float, key_id: str | None = None
    ) -> SearchAnswer:
        """Find windows that look like a clip.

        Raises:
            RequestError, ServiceError: see `serve.errors`.
        """
        started = time.perf_counter()
        with self._registry.use(options.model) as runtime:
            contract = runtime.contract
            request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
            decoded = await self._pool.views(path, request)
            features = await encode_views(runtime.engine, decoded.views, deadline=deadline)
            query = _mean_direction(scoring.normalize(features.video_features))
            return await self._found(runtime, query, options, started=started, key_id=key_id)

    def _rows_of_part(self, options: ExampleSearchOptions) -> Float32Array:
        """Return the features [N, D], of length one, of the windows that overlap the part."""
        start = options.start_seconds or 0.0
        end = float("inf") if options.end_seconds is None else options.end_seconds
        chosen = []
        duration = 0.0
        for part in self._store.parts(options.video_id):
            starts = np.array([window.start_seconds for window in part.windows])
            ends = np.array([window.end_seconds for window in part.windows])
            duration = max(duration, float(ends.max()))
            is_inside = (starts < end) & ((ends > start) | (starts == start))  # a picture lasts 0 seconds
            chosen.append(scoring.normalize(part.features.video_features[is_inside]))
        rows = np.concatenate(chosen)
        if not len(rows):
            raise InvalidOption(
                f"the part starts at {start:g} s, and the stored video ends at {duration:g} s",
                duration_seconds=duration,
            )
        return rows

    async def _found(
        self,
        runtime: ModelRuntime,
        query: Float32Array,
        options: SearchOptions,
        *,
        started: float,
        key_id: str | None,
    ) -> SearchAnswer:
        encoded = time.perf_counter()
        index = self._indexes.of(runtime)
        chosen = options.chosen(key_id)
        mine = of_runtime(runtime, chosen)
        num_stale = await asyncio.to_thread(self._store.count_others, chosen, mine)
        found = None if chosen == VideoFilter() else await asyncio.to_thread(self._store.matching, mine)
        among = None if found is None else {video.video_id for video in found}
        hits = await index.search(query.astype(np.float32), options.top_k, among=among)
        finished = time.perf_counter()
        timing = {"query": encoded - started, "search": finished - encoded, "total": finished - started}
        return SearchAnswer(
            model=runtime.reference,
            scored_by_cosine=not runtime.contract.has_prompt_head,
            num_windows=index.num_windows if found is None else sum(video.num_windows for video in found),
            num_stale=num_stale,
            results=[
                SearchResult(
                    video_id=hit.video_id,
                    start_seconds=rounded_seconds(hit.start_seconds),
                    end_seconds=rounded_seconds(hit.end_seconds),
                    cosine=hit.cosine,
                )
                for hit in hits
            ],
            timing_ms={stage: round(1000 * seconds, 2) for stage, seconds in timing.items()},
        )


def _mean_direction(rows: Float32Array) -> Float32Array:
    """Mean of rows [N, D] of length one -> [D] of length one."""
    return scoring.normalize(rows.mean(axis=0, dtype=np.float32))
