"""Build the timeline response from window features, in batches of consecutive windows.

The windows come from a video that is being decoded (`serve.timeline.maker`) or from a stored one (`serve.retrieval`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.arrays import Float32Array
from serve.features import VideoFeatures
from serve.pipeline import ResolvedOptions, compute_scores, describe_model, top_results
from serve.timeline.options import DEFAULT_TOP_K, SegmentOptions, Spacing
from serve.timeline.responses import (
    Relevance,
    SegmentRuleInfo,
    TimelineResponse,
    TimelineSegment,
    TimelineVideo,
    TimelineWindow,
)
from serve.timeline.segments import Segmenter, SegmentRule
from serve.video.windows import Window
from serve.vocabularies.label_warnings import VocabularyWarning

# Default thresholds at which a segment opens. With softmax it is K ** SOFTMAX_EXPONENT for K labels: 0.64 for K = 3,
# 0.18 for K = 71, 0.11 for K = 234.
SIGMOID_OPEN_THRESHOLD = 0.5
SOFTMAX_EXPONENT = -0.4
CLOSE_RATIO = 0.5  # by default, a segment closes at this fraction of the score at which it opens


class TimelineBuilder:
    """Scores the windows of one video in ascending order and combines them into a response."""

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
        if options.min_segment_seconds is None:  # a video that is shorter than a window may have a segment
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
        """Score windows from their features."""
        for window, scores in zip(windows, await score_windows(self._resolved, features, self._bank), strict=True):
            self._add(window, scores)

    def _add(self, window: Window, scores: scoring.Scores) -> None:
        resolved, options = self._resolved, self._options
        assert scores.scores is not None, "timeline options require softmax or sigmoid"
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
                    start_seconds=round_seconds(window.start_seconds),
                    end_seconds=round_seconds(window.end_seconds),
                    start_frame=window.start_frame,
                    end_frame=window.end_frame,
                    none_of_these=scores.none_of_these_score,
                    results=top_results(
                        resolved.labels,
                        scores,
                        resolved.acceptance_rule.accepted(scores),
                        top_k=options.top_k or DEFAULT_TOP_K,
                    ),
                )
            )
        self.num_windows += 1
        self.seconds_done = window.end_seconds

    def build_response(
        self,
        video: TimelineVideo,
        *,
        relevance: Relevance | None,
        warnings: list[VocabularyWarning],
        timing_ms: dict[str, float],
    ) -> TimelineResponse:
        """Return the response; call this after the last window."""
        resolved, options = self._resolved, self._options
        return TimelineResponse(
            model=describe_model(resolved.runtime),
            notice=resolved.runtime.contract.notice,
            vocabulary=None if resolved.vocabulary is None else resolved.vocabulary.reference,
            video=video,
            window_seconds=self._spacing.window_seconds,
            stride_seconds=self._spacing.stride_seconds,
            num_windows=self.num_windows,
            segment_rule=self._segment_rule_info() if options.has_segments else None,
            segments=self._segments() if options.has_segments else None,
            windows=self._windows if options.has_windows else None,
            relevance=relevance,
            acceptance=resolved.acceptance_info,
            examples=resolved.example_info,
            vocabulary_warnings=warnings,
            timing_ms={stage: round(value, 2) for stage, value in timing_ms.items()},
        )

    def _segments(self) -> list[TimelineSegment]:
        return [
            TimelineSegment(
                label=self._resolved.labels[segment.label],
                start_seconds=round_seconds(segment.start_seconds),
                end_seconds=round_seconds(segment.end_seconds),
                start_frame=segment.start_frame,
                end_frame=segment.end_frame,
                score=segment.score,
                peak_seconds=round_seconds(segment.peak_seconds),
            )
            for segment in self._segmenter.finish()
        ]

    def _segment_rule_info(self) -> SegmentRuleInfo:
        on, off = self._thresholds.common_scores
        return SegmentRuleInfo(
            threshold_on=on,
            threshold_off=off,
            best_label_opens=self._thresholds.best_label_opens,
            min_segment_seconds=round_seconds(self._min_segment_seconds),
            gap_seconds=self._spacing.gap_seconds,
        )


async def score_windows(resolved: ResolvedOptions, features: VideoFeatures, bank: Float32Array) -> list[scoring.Scores]:
    """Score each of the V windows independently; return V scores."""
    logits = await resolved.runtime.logits(features, bank)  # [V, M, P]
    prototypes = resolved.prototypes
    examples = None if prototypes is None else prototypes.logits(features.prototype_or_video_features)  # [V, K]
    return [
        await compute_scores(
            resolved, logits[index : index + 1], None if examples is None else examples[index : index + 1]
        )
        for index in range(len(logits))
    ]


class Thresholds:
    """Hysteresis thresholds [K] at which segments open and close.

    They are taken from the request, otherwise from the vocabulary, otherwise the default applies. With the default and
    softmax, only the best label of a window can open a segment: softmax scores sum to one, so a threshold alone would
    be too high for many labels or too low for few.

    If the vocabulary's thresholds are logits, the closing threshold is the opening threshold minus
    `temperature * log(2)`. This halves the score as long as scores are small.
    """

    def __init__(self, resolved: ResolvedOptions, options: SegmentOptions) -> None:
        acceptance_rule = resolved.acceptance_rule
        thresholds = np.broadcast_to(np.asarray(acceptance_rule.thresholds, np.float32), (len(resolved.labels),))
        is_set = np.isfinite(thresholds)
        is_softmax = resolved.function_to_apply == "softmax"
        default = len(thresholds) ** SOFTMAX_EXPONENT if is_softmax else SIGMOID_OPEN_THRESHOLD
        self._is_logit = is_set & (acceptance_rule.criterion == "logit")
        self._must_be_best = ~is_set & is_softmax
        self.on = np.where(is_set, thresholds, np.float32(default)).astype(np.float32)  # [K]
        score_off = self.on * CLOSE_RATIO if options.threshold_off is None else np.float32(options.threshold_off)
        logit_off = self.on - acceptance_rule.scale.temperature * math.log(2)
        self.off = np.where(self._is_logit, logit_off, score_off).astype(np.float32)  # [K]

    def values(self, scores: scoring.Scores) -> Float32Array:
        """Return the score or logit of each label [K] that is compared with its thresholds."""
        assert scores.scores is not None, "timeline options require softmax or sigmoid"
        if not self._is_logit.any():
            return scores.scores
        values: Float32Array = np.where(self._is_logit, scores.logits, scores.scores)
        return values

    def may_open(self, scores: scoring.Scores) -> NDArray[np.bool_] | None:
        """Return which labels [K] may open a segment in this window; None if all may."""
        assert scores.scores is not None, "timeline options require softmax or sigmoid"
        if not self.best_label_opens:
            return None
        may_open = ~self._must_be_best
        may_open[scores.scores.argmax()] = True
        return may_open

    @property
    def best_label_opens(self) -> bool:
        """Whether there are labels that can open a segment only as the best label of a window."""
        return bool(self._must_be_best.any())

    @property
    def common_scores(self) -> tuple[float | None, float | None]:
        """Opening and closing score if all labels have the same ones, otherwise (None, None)."""
        if self._is_logit.any() or (self.on != self.on[0]).any():
            return None, None
        return round(float(self.on[0]), 6), round(float(self.off[0]), 6)


def round_seconds(seconds: float) -> float:
    """Round a time to microseconds, as in responses."""
    return round(seconds, 6)
