"""Process one input of a job according to the kind of the job, with the same code as the routes."""

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
from serve.timeline.google import to_google_response
from serve.timeline.maker import TimelineMaker
from serve.timeline.options import TimelineOptions
from serve.timeline.responses import TimelineResponse
from serve.unicode_text import shown_filename
from serve.video.view_request import VideoInfo
from serve.videos.writer import Origin

OPTIONS: Mapping[JobKind, type[BaseModel]] = {
    "classify": ClassifyOptions,
    "timeline": TimelineOptions,
    "embed": VideoEmbeddingOptions,
}
Progress = Callable[[float, float], None]  # called with (processed seconds, total seconds) of the video


class InputProcessor:
    """Processes single inputs of all job kinds."""

    def __init__(self, pipeline: Pipeline, timelines: TimelineMaker, embedder: Embedder, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._timelines = timelines
        self._embedder = embedder
        self._metrics = metrics

    async def pin_options(self, kind: JobKind, document: Mapping[str, Any]) -> dict[str, Any]:
        """Check options against the models and vocabularies, and return them with a fixed version of the vocabulary.

        Raises:
            RequestError, ServiceError: the errors that the route of this kind would return for every input.
        """
        options = validate_options(OPTIONS[kind], document)
        resolved_options = options.model_dump(mode="json", exclude_unset=True)
        if isinstance(options, VideoEmbeddingOptions):
            self._embedder.check_video_options(options)
            return resolved_options
        assert isinstance(options, ClassifyOptions | TimelineOptions), "the kinds of OPTIONS"
        window = options.to_classify_options() if isinstance(options, TimelineOptions) else options
        async with self._pipeline.resolve(window) as resolved:
            if isinstance(options, TimelineOptions):
                self._timelines.check(options, resolved)
            if resolved.vocabulary is not None:
                resolved_options["vocabulary"] = resolved.vocabulary.reference
        return resolved_options

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
        """Process a video file and return the response (JSON) that the route of this kind would return.

        `name` is the caller's name of the input, `key_id` the caller's API key; both are saved if the video is stored.

        Raises:
            RequestError, ServiceError: the errors of the route of this kind.
        """
        options = validate_options(OPTIONS[kind], document)
        origin = Origin(filename=shown_filename(name), key_id=key_id)
        response = await self._process(path, options, origin, deadline=deadline, progress=progress)
        result: dict[str, Any] = await asyncio.to_thread(response.model_dump, mode="json", by_alias=True)
        return result

    async def _process(
        self, path: Path, options: BaseModel, origin: Origin, *, deadline: float, progress: Progress | None
    ) -> BaseModel:
        if isinstance(options, VideoEmbeddingOptions):
            return await self._embed(path, options, deadline)
        if isinstance(options, ClassifyOptions):
            return await self._classify(path, options, origin, deadline)
        assert isinstance(options, TimelineOptions), "the kinds of OPTIONS"
        timeline = await self._timeline(path, options, origin, deadline, progress)
        return timeline if options.format == "actserve" else to_google_response(timeline)

    async def _embed(self, path: Path, options: VideoEmbeddingOptions, deadline: float) -> EmbeddingList:
        return await self._embedder.embed_video(path, options, deadline=deadline)

    async def _classify(self, path: Path, options: ClassifyOptions, origin: Origin, deadline: float) -> Classification:
        response = await self._pipeline.classify(path, options, deadline=deadline, origin=origin)
        self._metrics.observe_stages(response.timing_ms)
        return response

    async def _timeline(
        self, path: Path, options: TimelineOptions, origin: Origin, deadline: float, progress: Progress | None
    ) -> TimelineResponse:
        def on_progress(seconds: float, video_info: VideoInfo) -> None:
            if progress is not None:
                progress(seconds, video_info.duration_seconds)

        timeline = await self._timelines.timeline(path, options, deadline=deadline, progress=on_progress, origin=origin)
        self._metrics.timeline_windows.inc(timeline.num_windows)
        self._metrics.timeline_video_seconds.inc(timeline.video.duration_seconds)
        return timeline
