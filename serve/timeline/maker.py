"""Makes timelines: streams the windows of a video through a model and joins their scores to segments.

decode child -> frames, each once -> clips [V, T, 3, S, S] of windows -> the engine of all requests, a run at a time
-> scores [K] of each window -> segments

Each window is scored like a video in a classification, with the vocabulary's calibration, thresholds and examples.
Memory holds the frames of the windows that overlap and the state of each label, so it does not grow with the length of
the video, apart from the answer itself. A run waits for its turn behind interactive requests.
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
from serve.timeline.answers import FrameRelevance, Relevance, TimelineAnswer, TimelineVideo
from serve.timeline.builder import TimelineBuilder, rounded_seconds, window_scores
from serve.timeline.clips import ClipEncoder, FusedClipEncoder, make_clip_encoder
from serve.timeline.options import MAX_OVERLAP, Spacing, TimelineOptions
from serve.video.view_request import VideoInfo, WindowPart, WindowRequest, WindowStreamSummary
from serve.video.window_stream import open_window_stream
from serve.video.windows import Window
from serve.video.workers import DecodePool
from serve.videos.half_precision import rounded
from serve.videos.store import SourceFacts, StoredFacts
from serve.videos.writer import UNKNOWN_ORIGIN, Origin, VideoSaver, VideoWriter
from serve.vocabularies.label_warnings import VocabularyWarning

FRAMES_PER_PART = 32

Progress = Callable[[float, VideoInfo], None]  # seconds done, the video


class TimelineMaker:
    """Makes timelines of video files."""

    def __init__(self, pool: DecodePool, pipeline: Pipeline, settings: TimelineSettings, *, saver: VideoSaver) -> None:
        self._pool = pool
        self._pipeline = pipeline
        self._settings = settings
        self._saver = saver

    def check(self, options: TimelineOptions, resolved: ResolvedOptions) -> None:
        """Check options against the model and the labels of a timeline that is to be made later.

        Raises:
            InvalidOption: with what is allowed.
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
    ) -> TimelineAnswer:
        """Make the timeline of the video at `path`; `deadline` in seconds of the event loop's clock.

        `origin` is kept if the video is stored.

        Raises:
            RequestError, ServiceError: see `serve.errors`.
        """
        self._saver.check(options)
        async with AsyncExitStack() as stack:
            resolved = await stack.enter_async_context(self._pipeline.resolve(options.of_window()))
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
            bank = await resolved.runtime.bank.features(resolved.phrases, resolved.templates)
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
                    await run.take(part)
                    if progress is not None:
                        progress(run.seconds_done, run.facts)
                    waiting_since = time.perf_counter()
                answer = run.answer(stream.summary, warnings=warnings)
            if writer is not None:
                answer.video_id = await run.finish(writer, answer, path, filename=origin.filename)
            return answer


class TimelineRun:
    """One timeline while it is made."""

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
        self._relevant = _relevant_label(options, resolved)
        self._started: tuple[VideoInfo, ClipEncoder, TimelineBuilder] | None = None
        self._relevance: list[FrameRelevance] = []
        self.timing_ms = {"decode_wait": 0.0, "engine": 0.0, "score": 0.0}

    async def _begin(self, facts: VideoInfo) -> None:
        """Start, or forget everything of the video: decoding starts again."""
        clips = make_clip_encoder(self._resolved.runtime.engine, deadline=self._deadline, windows_per_run=self._batch)
        builder = TimelineBuilder(
            self._resolved, self._options, self._spacing, self._bank, duration_seconds=facts.duration_seconds
        )
        self._started = facts, clips, builder
        self._relevance = []
        if self._writer is not None:
            await self._writer.restart()

    @property
    def facts(self) -> VideoInfo:
        """Facts of the video; known after the first part."""
        assert self._started is not None, "take() comes first"
        return self._started[0]

    @property
    def _clips(self) -> ClipEncoder:
        assert self._started is not None, "take() comes first"
        return self._started[1]

    @property
    def _builder(self) -> TimelineBuilder:
        assert self._started is not None, "take() comes first"
        return self._started[2]

    @property
    def seconds_done(self) -> float:
        """End of the last window so far."""
        return self._builder.seconds_done

    async def take(self, part: WindowPart) -> None:
        """Encode and score the windows of a part, and keep the frames that later windows need."""
        if part.info is not None:
            await self._begin(part.info)
        started = time.perf_counter()
        await self._clips.add(part.frame_indices, part.frames)
        self.timing_ms["engine"] += (time.perf_counter() - started) * 1000
        if self._relevant is not None:
            await self._relate(part, self._relevant)
        for start in range(0, len(part.windows), self._batch):
            await self._score(part.windows[start : start + self._batch])
        segments = self._resolved.runtime.contract.sampling.num_segments
        if self._clips.drop(part.keep_from) > FRAMES_PER_PART + (MAX_OVERLAP + 1) * segments:
            raise EngineUnavailable("the decoder sent more frames than windows need")

    async def _score(self, windows: Sequence[Window]) -> None:
        started = time.perf_counter()
        features = await self._clips.encode(windows)
        encoded = time.perf_counter()
        if self._writer is not None:
            features = rounded(features)  # so that scoring the stored features again gives these very numbers
        await self._builder.add(windows, features)
        scored = time.perf_counter()
        self.timing_ms["engine"] += (encoded - started) * 1000
        self.timing_ms["score"] += (scored - encoded) * 1000
        if self._writer is not None:
            await self._writer.add(windows, features)
            self.timing_ms["store"] = self.timing_ms.get("store", 0.0) + (time.perf_counter() - scored) * 1000

    async def _relate(self, part: WindowPart, label: int) -> None:
        """Score each frame of a part for one label, as a clip of its own."""
        assert isinstance(self._clips, FusedClipEncoder), "checked at the start"
        features = await self._clips.encode_stills(part.frame_indices)
        found = await window_scores(self._resolved, features, self._bank)
        for index, seconds, scores in zip(part.frame_indices, part.frame_seconds, found, strict=True):
            self._relevance.append(
                FrameRelevance(
                    frame=index,
                    seconds=rounded_seconds(seconds),
                    logit=float(scores.logits[label]),
                    cosine=float(scores.cosines[label]),
                )
            )

    def answer(self, end: WindowStreamSummary, *, warnings: list[VocabularyWarning]) -> TimelineAnswer:
        """Return the answer after the last part."""
        facts = self.facts
        if self._builder.num_windows != facts.num_windows:
            raise EngineUnavailable("the decoder left out a window")
        relevance = None
        if self._relevant is not None:
            relevance = Relevance(label=self._resolved.labels[self._relevant], frames=self._relevance)
        video = TimelineVideo(
            num_frames=facts.num_frames,
            fps=facts.fps,
            duration_seconds=rounded_seconds(facts.duration_seconds),
            width=end.width,
            height=end.height,
            truncated=end.is_truncated,
            num_corrupt_frames=end.num_corrupt_frames,
        )
        return self._builder.answer(video, relevance=relevance, warnings=warnings, timing_ms=self.timing_ms)

    async def finish(self, writer: VideoWriter, answer: TimelineAnswer, path: Path, *, filename: str | None) -> str:
        """Complete the stored video and return its id."""
        started = time.perf_counter()
        num_bytes = (await asyncio.to_thread(path.stat)).st_size
        facts = StoredFacts(
            engine=self._resolved.runtime.engine.name,
            source=SourceFacts(filename=filename, num_bytes=num_bytes, **answer.video.model_dump()),
            sampling=None,
            window_seconds=self._spacing.window_seconds,
            stride_seconds=self._spacing.stride_seconds,
        )
        stored = await writer.finish(facts)
        waited = self.timing_ms["store"] + (time.perf_counter() - started) * 1000
        answer.timing_ms["store"] = round(waited, 2)
        return stored.video_id


def _relevant_label(options: TimelineOptions, resolved: ResolvedOptions) -> int | None:
    """Return the index of the label whose relevance is wanted; None if none is.

    Raises:
        InvalidOption: the model cannot tell it, or the label is unknown.
    """
    label = options.relevant_label(resolved.labels)
    if label is not None and resolved.runtime.engine.frame_graphs is None:
        raise InvalidOption(
            f"`relevance` needs a model that encodes frames one by one, "
            f"and {resolved.runtime.reference} on {resolved.runtime.engine.name} does not"
        )
    return label
