"""What is done with an input of each kind: the same code as the routes and the commands use, and one line of result."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serve.api.options import ClassifyOptions, validate_options
from serve.api.responses import Classification
from serve.embeddings import Embedder, EmbeddingList, VideoEmbeddingOptions
from serve.jobs.records import JobKind
from serve.metrics import Metrics
from serve.pipeline import Pipeline
from serve.timeline.answers import TimelineAnswer
from serve.timeline.google import to_google_answer
from serve.timeline.maker import TimelineMaker
from serve.timeline.options import TimelineOptions
from serve.unicode_text import shown_filename
from serve.video.view_request import VideoInfo
from serve.videos.writer import Origin

OPTIONS: Mapping[JobKind, type[BaseModel]] = {
    "classify": ClassifyOptions,
    "timeline": TimelineOptions,
    "embed": VideoEmbeddingOptions,
}
Progress = Callable[[float, float], None]  # seconds done, seconds in all


class InputWork:
    """Processes one input after the other, of any kind."""

    def __init__(self, pipeline: Pipeline, timelines: TimelineMaker, embedder: Embedder, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._timelines = timelines
        self._embedder = embedder
        self._metrics = metrics

    async def pinned(self, kind: JobKind, document: Mapping[str, Any]) -> dict[str, Any]:
        """Check options against models and vocabularies, and return them with the version of the vocabulary.

        Raises:
            RequestError, ServiceError: as the route of the kind would answer to every input.
        """
        options = validate_options(OPTIONS[kind], document)
        found = options.model_dump(mode="json", exclude_unset=True)
        if isinstance(options, VideoEmbeddingOptions):
            self._embedder.check(options)
            return found
        assert isinstance(options, ClassifyOptions | TimelineOptions), "the kinds of OPTIONS"
        window = options.of_window() if isinstance(options, TimelineOptions) else options
        async with self._pipeline.resolve(window) as resolved:
            if isinstance(options, TimelineOptions):
                self._timelines.check(options, resolved)
            if resolved.vocabulary is not None:
                found["vocabulary"] = resolved.vocabulary.reference
        return found

    async def run(
        self,
        kind: JobKind,
        path: Path,
        document: Mapping[str, Any],
        *,
        name: str,
        key_id: str | None = None,
        deadline: float,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Process a video file and return the answer of the route of the kind.

        `name` is the caller's name of the input, `key_id` the caller's API key; both are kept if the video is stored.

        Raises:
            RequestError, ServiceError: see `serve.errors`.
        """
        options = validate_options(OPTIONS[kind], document)
        origin = Origin(filename=shown_filename(name), key_id=key_id)
        answer = await self._answer(path, options, origin, deadline=deadline, progress=progress)
        found: dict[str, Any] = await asyncio.to_thread(answer.model_dump, mode="json", by_alias=True)
        return found

    async def _answer(
        self, path: Path, options: BaseModel, origin: Origin, *, deadline: float, progress: Progress | None
    ) -> BaseModel:
        if isinstance(options, VideoEmbeddingOptions):
            return await self._embed(path, options, deadline)
        if isinstance(options, ClassifyOptions):
            return await self._classify(path, options, origin, deadline)
        assert isinstance(options, TimelineOptions), "the kinds of OPTIONS"
        answer = await self._timeline(path, options, origin, deadline, progress)
        return answer if options.format == "actserve" else to_google_answer(answer)

    async def _embed(self, path: Path, options: VideoEmbeddingOptions, deadline: float) -> EmbeddingList:
        return await self._embedder.embed_video(path, options, deadline=deadline)

    async def _classify(self, path: Path, options: ClassifyOptions, origin: Origin, deadline: float) -> Classification:
        answer = await self._pipeline.classify(path, options, deadline=deadline, origin=origin)
        self._metrics.observe_stages(answer.timing_ms)
        return answer

    async def _timeline(
        self, path: Path, options: TimelineOptions, origin: Origin, deadline: float, progress: Progress | None
    ) -> TimelineAnswer:
        def on_progress(seconds: float, facts: VideoInfo) -> None:
            if progress is not None:
                progress(seconds, facts.duration_seconds)

        answer = await self._timelines.timeline(path, options, deadline=deadline, progress=on_progress, origin=origin)
        self._metrics.timeline_windows.inc(answer.num_windows)
        self._metrics.timeline_video_seconds.inc(answer.video.duration_seconds)
        return answer
