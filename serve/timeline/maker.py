"""Make timelines: stream the windows of a video through a model and merge their scores into segments.

decoder process -> frames, each decoded once -> clips [V, T, 3, S, S], one per window -> engine, in batches of windows
-> scores [K] of each window -> segments

Each window is scored like the video of a classification, with the vocabulary's calibration, thresholds and examples.
Only the frames of overlapping windows and the state of each label are in memory, so memory use does not grow with the
length of the video, except for the response. Batches of timelines wait while interactive requests are waiting.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from serve.arrays import Float32Array
from serve.errors import EngineUnavailable, InvalidOption
from serve.pipeline import Pipeline, ResolvedOptions, find_label_warnings
from serve.settings import TimelineSettings
from serve.timeline.builder import TimelineBuilder, round_seconds, score_windows
from serve.timeline.clips import ClipEncoder, FusedClipEncoder, make_clip_encoder
from serve.timeline.options import MAX_OVERLAP, Spacing, TimelineOptions
from serve.timeline.responses import FrameRelevance, Relevance, TimelineResponse, TimelineVideo
from serve.video.view_request import VideoInfo, WindowPart, WindowRequest, WindowStreamSummary
from serve.video.window_stream import open_window_stream
from serve.video.windows import Window
from serve.video.workers import DecodePool
from serve.videos.half_precision import round_features
from serve.videos.records import SourceInfo, StoredVideoMetadata
from serve.videos.writer import UNKNOWN_ORIGIN, Origin, VideoSaver, VideoWriter
from serve.vocabularies.label_warnings import VocabularyWarning

FRAMES_PER_PART = 32

Progress = Callable[[float, VideoInfo], None]  # called with the processed seconds and the properties of the video


class TimelineMaker:
    """Makes timelines of video files."""

    def __init__(self, pool: DecodePool, pipeline: Pipeline, settings: TimelineSettings, *, saver: VideoSaver) -> None:
        self._pool = pool
        self._pipeline = pipeline
        self._settings = settings
        self._saver = saver

    def check(self, options: TimelineOptions, resolved: ResolvedOptions) -> None:
        """Check options against the model and the labels of a timeline that will be made later.

        Raises:
            InvalidOption: the model or the labels do not allow an option.
        """
        self._saver.check(options)
        options.spacing(resolved.runtime.contract.sampling)
        _relevant_label(options, resolved)

    async def timeline(
        self,
        path: Path,
        options: TimelineOptions,
        *,
        deadline: float,
        progress: Progress | None = None,
        origin: Origin = UNKNOWN_ORIGIN,
    ) -> TimelineResponse:
        """Make the timeline of the video at `path`.

        `deadline` is a time of the event loop's clock in seconds. If the video is stored, `origin` is stored with it.

        Raises:
            RequestError, ServiceError: the options or the video are not valid, or a component is not available.
        """
        self._saver.check(options)
        async with AsyncExitStack() as stack:
            resolved = await stack.enter_async_context(self._pipeline.resolve(options.to_classify_options()))
            contract = resolved.runtime.contract
            spacing = options.spacing(contract.sampling)
            request = WindowRequest(
                sampling=contract.sampling,
                preprocess=contract.preprocess,
                window_seconds=spacing.window_seconds,
                stride_seconds=spacing.stride_seconds,
                max_windows=self._settings.max_windows,
                frames_per_part=FRAMES_PER_PART,
            )
            warnings = await find_label_warnings(resolved)
            bank = await resolved.runtime.bank_builder.build(resolved.phrases, resolved.templates)
            writer = None
            if options.store:
                writing = self._saver.writing(resolved.runtime, options, kind="windows", key_id=origin.key_id)
                writer = await stack.enter_async_context(writing)
            batch = self._settings.windows_per_run
            run = TimelineRun(resolved, options, spacing, bank, deadline=deadline, batch=batch, writer=writer)
            async with open_window_stream(self._pool, path, request) as stream:
                waiting_since = time.perf_counter()
                async for part in stream:
                    run.timing_ms["decode_wait"] += (time.perf_counter() - waiting_since) * 1000
                    await run.add(part)
                    if progress is not None:
                        progress(run.seconds_done, run.video_info)
                    waiting_since = time.perf_counter()
                response = run.build_response(stream.summary, warnings=warnings)
            if writer is not None:
                response.video_id = await run.finish_storing(writer, response, path, filename=origin.filename)
            return response


class TimelineRun:
    """The state of one timeline in progress."""

    def __init__(
        self,
        resolved: ResolvedOptions,
        options: TimelineOptions,
        spacing: Spacing,
        bank: Float32Array,
        *,
        deadline: float,
        batch: int,
        writer: VideoWriter | None = None,
    ) -> None:
        self._resolved, self._options, self._spacing, self._bank = resolved, options, spacing, bank
        self._deadline = deadline
        self._batch = batch
        self._writer = writer
        self._relevant_label = _relevant_label(options, resolved)
        self._started: tuple[VideoInfo, ClipEncoder, TimelineBuilder] | None = None
        self._relevance: list[FrameRelevance] = []
        self.timing_ms = {"decode_wait": 0.0, "engine": 0.0, "score": 0.0}

    async def _start(self, video_info: VideoInfo) -> None:
        """Start the timeline; when decoding restarts from the beginning, discard all earlier results."""
        clips = make_clip_encoder(self._resolved.runtime.engine, deadline=self._deadline, windows_per_run=self._batch)
        builder = TimelineBuilder(
            self._resolved, self._options, self._spacing, self._bank, duration_seconds=video_info.duration_seconds
        )
        self._started = video_info, clips, builder
        self._relevance = []
        if self._writer is not None:
            await self._writer.restart()

    @property
    def video_info(self) -> VideoInfo:
        """Properties of the video, which the first part contains."""
        assert self._started is not None, "add() was called before"
        return self._started[0]

    @property
    def _clips(self) -> ClipEncoder:
        assert self._started is not None, "add() was called before"
        return self._started[1]

    @property
    def _builder(self) -> TimelineBuilder:
        assert self._started is not None, "add() was called before"
        return self._started[2]

    @property
    def seconds_done(self) -> float:
        """End of the last scored window in seconds."""
        return self._builder.seconds_done

    async def add(self, part: WindowPart) -> None:
        """Encode and score the windows of a part, and retain the frames that later windows need."""
        if part.info is not None:
            await self._start(part.info)
        started = time.perf_counter()
        await self._clips.add(part.frame_indices, part.frames)
        self.timing_ms["engine"] += (time.perf_counter() - started) * 1000
        if self._relevant_label is not None:
            await self._add_relevance(part, self._relevant_label)
        for start in range(0, len(part.windows), self._batch):
            await self._score(part.windows[start : start + self._batch])
        segments = self._resolved.runtime.contract.sampling.num_segments
        if self._clips.drop(part.first_needed_frame) > FRAMES_PER_PART + (MAX_OVERLAP + 1) * segments:
            raise EngineUnavailable("the decoder sent more frames than windows need")

    async def _score(self, windows: Sequence[Window]) -> None:
        started = time.perf_counter()
        features = await self._clips.encode(windows)
        encoded = time.perf_counter()
        if self._writer is not None:
            features = round_features(features)  # as stored, so that rescoring gives exactly the same scores
        await self._builder.add(windows, features)
        scored = time.perf_counter()
        self.timing_ms["engine"] += (encoded - started) * 1000
        self.timing_ms["score"] += (scored - encoded) * 1000
        if self._writer is not None:
            await self._writer.add(windows, features)
            self.timing_ms["store"] = self.timing_ms.get("store", 0.0) + (time.perf_counter() - scored) * 1000

    async def _add_relevance(self, part: WindowPart, label: int) -> None:
        """Score each frame of a part for one label, as a clip that repeats the frame."""
        assert isinstance(self._clips, FusedClipEncoder), "checked by _relevant_label"
        features = await self._clips.encode_stills(part.frame_indices)
        frame_scores = await score_windows(self._resolved, features, self._bank)
        for index, seconds, scores in zip(part.frame_indices, part.frame_seconds, frame_scores, strict=True):
            self._relevance.append(
                FrameRelevance(
                    frame=index,
                    seconds=round_seconds(seconds),
                    logit=float(scores.logits[label]),
                    cosine=float(scores.cosines[label]),
                )
            )

    def build_response(self, summary: WindowStreamSummary, *, warnings: list[VocabularyWarning]) -> TimelineResponse:
        """Return the response; call this after the last part."""
        video_info = self.video_info
        if self._builder.num_windows != video_info.num_windows:
            raise EngineUnavailable("the decoder left out a window")
        relevance = None
        if self._relevant_label is not None:
            relevance = Relevance(label=self._resolved.labels[self._relevant_label], frames=self._relevance)
        video = TimelineVideo(
            num_frames=video_info.num_frames,
            fps=video_info.fps,
            duration_seconds=round_seconds(video_info.duration_seconds),
            width=summary.width,
            height=summary.height,
            truncated=summary.is_truncated,
            num_corrupt_frames=summary.num_corrupt_frames,
        )
        return self._builder.build_response(video, relevance=relevance, warnings=warnings, timing_ms=self.timing_ms)

    async def finish_storing(
        self, writer: VideoWriter, response: TimelineResponse, path: Path, *, filename: str | None
    ) -> str:
        """Complete the stored video and return its id."""
        started = time.perf_counter()
        num_bytes = (await asyncio.to_thread(path.stat)).st_size
        metadata = StoredVideoMetadata(
            engine=self._resolved.runtime.engine.name,
            source=SourceInfo(filename=filename, num_bytes=num_bytes, **response.video.model_dump()),
            sampling=None,
            window_seconds=self._spacing.window_seconds,
            stride_seconds=self._spacing.stride_seconds,
        )
        stored = await writer.finish(metadata)
        waited = self.timing_ms["store"] + (time.perf_counter() - started) * 1000
        response.timing_ms["store"] = round(waited, 2)
        return stored.video_id


def _relevant_label(options: TimelineOptions, resolved: ResolvedOptions) -> int | None:
    """Return the index of the label whose relevance is requested; None without such a request.

    Raises:
        InvalidOption: the model does not support relevance, or the label is unknown.
    """
    label = options.relevant_label(resolved.labels)
    if label is not None and resolved.runtime.engine.frame_graphs is None:
        raise InvalidOption(
            f"`relevance` needs a model that encodes frames one by one, "
            f"and {resolved.runtime.reference} on {resolved.runtime.engine.name} does not"
        )
    return label
