"""From features of windows to the answer of a timeline: scores, segments and windows, a run of windows at a time.

The windows come of a video that is decoded (`serve.timeline.maker`) or of a stored one (`serve.retrieval`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.arrays import Float32Array
from serve.features import VideoFeatures
from serve.pipeline import ResolvedOptions, compute_scores, describe_model, top_results
from serve.timeline.answers import (
    Relevance,
    SegmentRuleInfo,
    TimelineAnswer,
    TimelineSegment,
    TimelineVideo,
    TimelineWindow,
)
from serve.timeline.options import DEFAULT_TOP_K, SegmentOptions, Spacing
from serve.timeline.segments import Segmenter, SegmentRule
from serve.video.windows import Window
from serve.vocabularies.label_warnings import VocabularyWarning

DEFAULT_ON = 0.5  # score at which a segment opens if there is no threshold and scores are independent (sigmoid)
DEFAULT_EXPONENT = -0.4  # of the number of labels, under softmax: 0.64 of 3, 0.18 of 71, 0.11 of 234
OFF_SHARE = 0.5  # of the score at which it opens: where it closes


class TimelineBuilder:
    """Scores the windows of one video in ascending order and joins them to an answer."""

    def __init__(
        self,
        resolved: ResolvedOptions,
        options: SegmentOptions,
        spacing: Spacing,
        bank: Float32Array,
        *,
        duration_seconds: float,
    ) -> None:
        self._resolved, self._options, self._spacing, self._bank = resolved, options, spacing, bank
        self._min_segment_seconds = spacing.min_segment_seconds
        if options.min_segment_seconds is None:  # not longer than the video, which may be shorter than a window
            self._min_segment_seconds = min(spacing.min_segment_seconds, duration_seconds)
        self._thresholds = Thresholds(resolved, options)
        rule = SegmentRule(
            on=self._thresholds.on,
            off=self._thresholds.off,
            min_segment_seconds=self._min_segment_seconds,
            gap_seconds=spacing.gap_seconds,
        )
        self._segmenter = Segmenter(len(resolved.labels), rule)
        self._windows: list[TimelineWindow] = []
        self.num_windows = 0
        self.seconds_done = 0.0

    async def add(self, windows: Sequence[Window], features: VideoFeatures) -> None:
        """Score windows by their features."""
        for window, scores in zip(windows, await window_scores(self._resolved, features, self._bank), strict=True):
            self._add(window, scores)

    def _add(self, window: Window, scores: scoring.Scores) -> None:
        resolved, options = self._resolved, self._options
        assert scores.scores is not None, "a timeline always has a function"
        if options.has_segments:
            may_continue = None if scores.none_of_these_score is None else scores.scores > scores.none_of_these_score
            self._segmenter.add(
                window,
                self._thresholds.values(scores),
                scores.scores,
                may_open=self._thresholds.may_open(scores),
                may_continue=may_continue,
            )
        if options.has_windows:
            self._windows.append(
                TimelineWindow(
                    start_seconds=rounded_seconds(window.start_seconds),
                    end_seconds=rounded_seconds(window.end_seconds),
                    start_frame=window.start_frame,
                    end_frame=window.end_frame,
                    none_of_these=scores.none_of_these_score,
                    results=top_results(
                        resolved.labels, scores, resolved.rule.accepted(scores), top_k=options.top_k or DEFAULT_TOP_K
                    ),
                )
            )
        self.num_windows += 1
        self.seconds_done = window.end_seconds

    def answer(
        self,
        video: TimelineVideo,
        *,
        relevance: Relevance | None,
        warnings: list[VocabularyWarning],
        timing_ms: dict[str, float],
    ) -> TimelineAnswer:
        """Return the answer after the last window."""
        resolved, options = self._resolved, self._options
        return TimelineAnswer(
            model=describe_model(resolved.runtime),
            notice=resolved.runtime.contract.notice,
            vocabulary=None if resolved.vocabulary is None else resolved.vocabulary.reference,
            video=video,
            window_seconds=self._spacing.window_seconds,
            stride_seconds=self._spacing.stride_seconds,
            num_windows=self.num_windows,
            segment_rule=self._rule_facts() if options.has_segments else None,
            segments=self._segments() if options.has_segments else None,
            windows=self._windows if options.has_windows else None,
            relevance=relevance,
            acceptance=resolved.acceptance,
            examples=resolved.example_info,
            vocabulary_warnings=warnings,
            timing_ms={stage: round(value, 2) for stage, value in timing_ms.items()},
        )

    def _segments(self) -> list[TimelineSegment]:
        return [
            TimelineSegment(
                label=self._resolved.labels[found.label],
                start_seconds=rounded_seconds(found.start_seconds),
                end_seconds=rounded_seconds(found.end_seconds),
                start_frame=found.start_frame,
                end_frame=found.end_frame,
                score=found.score,
                peak_seconds=rounded_seconds(found.peak_seconds),
            )
            for found in self._segmenter.finish()
        ]

    def _rule_facts(self) -> SegmentRuleInfo:
        on, off = self._thresholds.shown
        return SegmentRuleInfo(
            threshold_on=on,
            threshold_off=off,
            best_label_opens=self._thresholds.best_label_opens,
            min_segment_seconds=rounded_seconds(self._min_segment_seconds),
            gap_seconds=self._spacing.gap_seconds,
        )


async def window_scores(resolved: ResolvedOptions, features: VideoFeatures, bank: Float32Array) -> list[scoring.Scores]:
    """Score each view of features as a clip of its own."""
    logits = await resolved.runtime.logits(features, bank)  # [V, M, P]
    prototypes = resolved.prototypes
    examples = None if prototypes is None else prototypes.logits(features.prototype_or_video_features)  # [V, K]
    return [
        await compute_scores(
            resolved, logits[number : number + 1], None if examples is None else examples[number : number + 1]
        )
        for number in range(len(logits))
    ]


class Thresholds:
    """Thresholds [K] at which segments open and close: of the request, else of the vocabulary, else the default.

    By default, under softmax, a label opens a segment only where it is the best one: scores are shared out among all
    labels, so that a threshold alone would be too high for many labels or too low for few.

    Those of a vocabulary may be logits. A segment then closes where the score is half of that at the threshold, which
    is log 2 below it in units of the temperature, as long as scores are small.
    """

    def __init__(self, resolved: ResolvedOptions, options: SegmentOptions) -> None:
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


def rounded_seconds(seconds: float) -> float:
    """Return seconds as answers state them, to a microsecond."""
    return round(seconds, 6)
