"""Makes timelines: streams the windows of a video through a model and joins their scores to segments.

decode child -> frames, each once -> clips [V, T, 3, S, S] of windows -> the engine of all requests, a run at a time
-> scores [K] of each window -> segments

Each window is scored like a video in a classification, with the vocabulary's calibration, thresholds and examples.
Memory holds the frames of the windows that overlap and the state of each label, so it does not grow with the length of
the video, apart from the answer itself. A run waits for its turn behind interactive requests.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.arrays import Float32Array
from serve.errors import EngineUnavailable, InvalidOption
from serve.features import VideoFeatures
from serve.pipeline import Pipeline, ResolvedOptions, label_results, model_facts, scores_of, warnings_of
from serve.settings import TimelineSettings
from serve.timeline.answers import (
    FrameRelevance,
    Relevance,
    SegmentRuleFacts,
    TimelineAnswer,
    TimelineSegment,
    TimelineVideo,
    TimelineWindow,
)
from serve.timeline.clips import FusedClips, clip_encoder
from serve.timeline.options import DEFAULT_TOP_K, MAX_OVERLAP, Spacing, TimelineOptions
from serve.timeline.segments import Segmenter, SegmentRule
from serve.video.view_request import VideoFacts, WindowPart, WindowRequest, WindowsEnd
from serve.video.window_stream import window_stream
from serve.video.windows import Window
from serve.video.workers import DecodePool
from serve.vocabularies.label_warnings import VocabularyWarning

DEFAULT_ON = 0.5  # score at which a segment opens if there is no threshold and scores are independent (sigmoid)
DEFAULT_EXPONENT = -0.4  # of the number of labels, under softmax: 0.64 of 3, 0.18 of 71, 0.11 of 234
OFF_SHARE = 0.5  # of the score at which it opens: where it closes
FRAMES_AT_ONCE = 32

Progress = Callable[[float, VideoFacts], None]  # seconds done, the video


class TimelineMaker:
    """Makes timelines of video files."""

    def __init__(self, pool: DecodePool, pipeline: Pipeline, settings: TimelineSettings) -> None:
        self._pool = pool
        self._pipeline = pipeline
        self._settings = settings

    def check(self, options: TimelineOptions, resolved: ResolvedOptions) -> None:
        """Check options against the model and the labels of a timeline that is to be made later.

        Raises:
            InvalidOption: with what is allowed.
        """
        options.spacing(resolved.runtime.contract.sampling)
        _relevant_label(options, resolved)

    async def timeline(
        self, path: Path, options: TimelineOptions, *, deadline: float, progress: Progress | None = None
    ) -> TimelineAnswer:
        """Make the timeline of the video at `path`; `deadline` in seconds of the event loop's clock.

        Raises:
            RequestError, ServiceError: see `serve.errors`.
        """
        async with self._pipeline.resolve(options.of_window()) as resolved:
            contract = resolved.runtime.contract
            spacing = options.spacing(contract.sampling)
            request = WindowRequest(
                sampling=contract.sampling,
                preprocess=contract.preprocess,
                window_seconds=spacing.window_seconds,
                stride_seconds=spacing.stride_seconds,
                max_windows=self._settings.max_windows,
                frames_at_once=FRAMES_AT_ONCE,
            )
            warnings = await warnings_of(resolved)
            bank = await resolved.runtime.bank.features(resolved.phrases, resolved.templates)
            run = TimelineRun(resolved, options, spacing, bank, deadline=deadline, batch=self._settings.windows_per_run)
            async with window_stream(self._pool, path, request) as stream:
                waiting_since = time.perf_counter()
                async for part in stream:
                    run.timing_ms["decode_wait"] += (time.perf_counter() - waiting_since) * 1000
                    await run.take(part)
                    if progress is not None:
                        progress(run.seconds_done, run.facts)
                    waiting_since = time.perf_counter()
                return run.answer(stream.end, warnings=warnings)


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
    ) -> None:
        self._resolved, self._options, self._spacing, self._bank = resolved, options, spacing, bank
        self._deadline = deadline
        self._batch = batch
        self._relevant = _relevant_label(options, resolved)
        self._facts: VideoFacts | None = None
        self.timing_ms = {"decode_wait": 0.0, "engine": 0.0, "score": 0.0}
        self._begin()

    def _begin(self) -> None:
        """Forget everything of the video: decoding starts, or starts again."""
        self._clips = clip_encoder(self._resolved.runtime.engine, deadline=self._deadline, windows_per_run=self._batch)
        self._thresholds = Thresholds(self._resolved, self._options)
        rule = SegmentRule(
            on=self._thresholds.on,
            off=self._thresholds.off,
            min_segment_seconds=self._min_segment_seconds,
            gap_seconds=self._spacing.gap_seconds,
        )
        self._segmenter = Segmenter(len(self._resolved.labels), rule)
        self._windows: list[TimelineWindow] = []
        self._relevance: list[FrameRelevance] = []
        self.num_windows = 0
        self.seconds_done = 0.0

    @property
    def facts(self) -> VideoFacts:
        """Facts of the video; known after the first part."""
        assert self._facts is not None, "take() comes first"
        return self._facts

    @property
    def _min_segment_seconds(self) -> float:
        """Shortest segment; by default not longer than the video, which may be shorter than a window."""
        is_given = self._options.min_segment_seconds is not None
        if is_given or self._facts is None:
            return self._spacing.min_segment_seconds
        return min(self._spacing.min_segment_seconds, self._facts.duration_seconds)

    async def take(self, part: WindowPart) -> None:
        """Encode and score the windows of a part, and keep the frames that later windows need."""
        if part.facts is not None:
            self._facts = part.facts
            self._begin()
        started = time.perf_counter()
        await self._clips.add(part.frame_indices, part.frames)
        self.timing_ms["engine"] += (time.perf_counter() - started) * 1000
        if self._relevant is not None:
            await self._relate(part, self._relevant)
        for start in range(0, len(part.windows), self._batch):
            await self._score(part.windows[start : start + self._batch])
        segments = self._resolved.runtime.contract.sampling.num_segments
        if self._clips.drop(part.keep_from) > FRAMES_AT_ONCE + (MAX_OVERLAP + 1) * segments:
            raise EngineUnavailable("the decoder sent more frames than windows need")

    async def _score(self, windows: Sequence[Window]) -> None:
        resolved = self._resolved
        started = time.perf_counter()
        features = await self._clips.encode(windows)
        encoded = time.perf_counter()
        logits = await resolved.runtime.logits(features, self._bank)  # [V, M, P]
        examples = self._example_logits(features)  # [V, K]
        for number, window in enumerate(windows):
            own = slice(number, number + 1)
            self._add(window, await scores_of(resolved, logits[own], None if examples is None else examples[own]))
        self.timing_ms["engine"] += (encoded - started) * 1000
        self.timing_ms["score"] += (time.perf_counter() - encoded) * 1000

    async def _relate(self, part: WindowPart, label: int) -> None:
        """Score each frame of a part for one label, as a clip of its own."""
        assert isinstance(self._clips, FusedClips), "checked at the start"
        resolved = self._resolved
        features = await self._clips.encode_stills(part.frame_indices)
        logits = await resolved.runtime.logits(features, self._bank)  # [N, M, P]
        examples = self._example_logits(features)  # [N, K]
        for number, (index, seconds) in enumerate(zip(part.frame_indices, part.frame_seconds, strict=True)):
            own = slice(number, number + 1)
            scores = await scores_of(resolved, logits[own], None if examples is None else examples[own])
            self._relevance.append(
                FrameRelevance(
                    frame=index,
                    seconds=_rounded(seconds),
                    logit=float(scores.logits[label]),
                    cosine=float(scores.cosines[label]),
                )
            )

    def _example_logits(self, features: VideoFeatures) -> Float32Array | None:
        prototypes = self._resolved.prototypes
        return None if prototypes is None else prototypes.logits(features.for_prototypes)

    def _add(self, window: Window, scores: scoring.Scores) -> None:
        resolved, options = self._resolved, self._options
        assert scores.scores is not None, "a timeline always has a function"
        if options.has_segments:
            may_last = None if scores.rival_score is None else scores.scores > scores.rival_score
            self._segmenter.add(
                window,
                self._thresholds.values(scores),
                scores.scores,
                may_open=self._thresholds.may_open(scores),
                may_last=may_last,
            )
        if options.has_windows:
            self._windows.append(
                TimelineWindow(
                    start_seconds=_rounded(window.start_seconds),
                    end_seconds=_rounded(window.end_seconds),
                    start_frame=window.start_frame,
                    end_frame=window.end_frame,
                    none_of_these=scores.rival_score,
                    results=label_results(
                        resolved.labels, scores, resolved.rule.accepted(scores), top_k=options.top_k or DEFAULT_TOP_K
                    ),
                )
            )
        self.num_windows += 1
        self.seconds_done = window.end_seconds

    def answer(self, end: WindowsEnd, *, warnings: list[VocabularyWarning]) -> TimelineAnswer:
        """Return the answer after the last part."""
        resolved, options, facts = self._resolved, self._options, self.facts
        if self.num_windows != facts.num_windows:
            raise EngineUnavailable("the decoder left out a window")
        return TimelineAnswer(
            model=model_facts(resolved.runtime),
            notice=resolved.runtime.contract.notice,
            vocabulary=None if resolved.vocabulary is None else resolved.vocabulary.reference,
            video=TimelineVideo(
                num_frames=facts.num_frames,
                fps=facts.fps,
                duration_seconds=_rounded(facts.duration_seconds),
                width=end.width,
                height=end.height,
                truncated=end.is_truncated,
                num_corrupt_frames=end.num_corrupt_frames,
            ),
            window_seconds=self._spacing.window_seconds,
            stride_seconds=self._spacing.stride_seconds,
            num_windows=self.num_windows,
            segment_rule=self._rule_facts() if options.has_segments else None,
            segments=self._segments() if options.has_segments else None,
            windows=self._windows if options.has_windows else None,
            relevance=(
                None
                if self._relevant is None
                else Relevance(label=resolved.labels[self._relevant], frames=self._relevance)
            ),
            acceptance=resolved.acceptance,
            examples=resolved.example_facts,
            vocabulary_warnings=warnings,
            timing_ms={stage: round(value, 2) for stage, value in self.timing_ms.items()},
        )

    def _segments(self) -> list[TimelineSegment]:
        return [
            TimelineSegment(
                label=self._resolved.labels[found.label],
                start_seconds=_rounded(found.start_seconds),
                end_seconds=_rounded(found.end_seconds),
                start_frame=found.start_frame,
                end_frame=found.end_frame,
                score=found.score,
                peak_seconds=_rounded(found.peak_seconds),
            )
            for found in self._segmenter.finished()
        ]

    def _rule_facts(self) -> SegmentRuleFacts:
        on, off = self._thresholds.shown
        return SegmentRuleFacts(
            threshold_on=on,
            threshold_off=off,
            best_label_opens=self._thresholds.best_label_opens,
            min_segment_seconds=_rounded(self._min_segment_seconds),
            gap_seconds=self._spacing.gap_seconds,
        )


class Thresholds:
    """Thresholds [K] at which segments open and close: of the request, else of the vocabulary, else the default.

    By default, under softmax, a label opens a segment only where it is the best one: scores are shared out among all
    labels, so that a threshold alone would be too high for many labels or too low for few.

    Those of a vocabulary may be logits. A segment then closes where the score is half of that at the threshold, which
    is log 2 below it in units of the temperature, as long as scores are small.
    """

    def __init__(self, resolved: ResolvedOptions, options: TimelineOptions) -> None:
        rule = resolved.rule
        given = np.broadcast_to(np.asarray(rule.thresholds, np.float32), (len(resolved.labels),))
        is_given = np.isfinite(given)
        is_shared_out = resolved.function == "softmax"
        default = len(given) ** DEFAULT_EXPONENT if is_shared_out else DEFAULT_ON
        self._is_logit = is_given & (rule.criterion == "logit")
        self._opens_as_best = ~is_given & is_shared_out
        self.on = np.where(is_given, given, np.float32(default)).astype(np.float32)  # [K]
        by_score = self.on * OFF_SHARE if options.threshold_off is None else np.float32(options.threshold_off)
        by_logit = self.on - rule.scale.temperature * math.log(2)
        self.off = np.where(self._is_logit, by_logit, by_score).astype(np.float32)  # [K]

    def values(self, scores: scoring.Scores) -> Float32Array:
        """Return what the thresholds apply to [K]."""
        assert scores.scores is not None, "a timeline always has a function"
        if not self._is_logit.any():
            return scores.scores
        values: Float32Array = np.where(self._is_logit, scores.logits, scores.scores)
        return values

    def may_open(self, scores: scoring.Scores) -> NDArray[np.bool_] | None:
        """Return which labels [K] may open a segment; None if all."""
        assert scores.scores is not None, "a timeline always has a function"
        if not self.best_label_opens:
            return None
        may_open = ~self._opens_as_best
        may_open[scores.scores.argmax()] = True
        return may_open

    @property
    def best_label_opens(self) -> bool:
        """Whether some labels open a segment only where they are the best one."""
        return bool(self._opens_as_best.any())

    @property
    def shown(self) -> tuple[float | None, float | None]:
        """The two scores, if they are the same for all labels."""
        if self._is_logit.any() or (self.on != self.on[0]).any():
            return None, None
        return round(float(self.on[0]), 6), round(float(self.off[0]), 6)


def _relevant_label(options: TimelineOptions, resolved: ResolvedOptions) -> int | None:
    """Return the index of the label whose relevance is wanted; None if none is.

    Raises:
        InvalidOption: the model cannot tell it, or the label is unknown.
    """
    label = options.relevant_label(resolved.labels)
    if label is not None and resolved.runtime.engine.frame_graphs is None:
        raise InvalidOption(
            f"`relevance` needs a model that encodes frames one by one, "
            f"and {resolved.runtime.reference} on {resolved.runtime.engine.label} does not"
        )
    return label


def _rounded(seconds: float) -> float:
    return round(seconds, 6)
