"""Calibration from clips: compute the logits of each clip as in a classification, then fit thresholds."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from serve.api.options import CalibrateOptions, ClassifyOptions
from serve.arrays import Int64Array
from serve.errors import InvalidOption, RequestError
from serve.files import file_sha256
from serve.independence import GroupCounts, assign_groups, count_groups
from serve.pipeline import InferenceResult, Pipeline, ResolvedOptions, score_logits
from serve.scoring import LogitScaling, Scores
from serve.uploads import ReceivedFile
from serve.vocabularies import threshold_fit
from serve.vocabularies.acceptance import Acceptance, Fit
from serve.vocabularies.vocabulary import LabelFinder, Vocabulary

MAX_CONCURRENT_CLIPS = 4
MAX_LOGIT_BYTES = 2**30  # logits of all clips together


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """The result of a calibration, ready to be stored."""

    acceptance: Acceptance
    label_thresholds: Mapping[str, float]  # by label_id
    calibration: threshold_fit.Calibration


@dataclass(frozen=True, kw_only=True)
class _ClipSet:
    """Labels, groups and content hashes of the n uploaded clips."""

    label_indices: Int64Array  # [n], -1 for a clip that shows none of the labels
    groups: Int64Array  # [n], clips with the same group index are not independent
    digests: Sequence[str]  # SHA-256 of the content of each clip
    distinct: Sequence[int]  # index of the first clip with each content

    def count_selected(self, is_selected: NDArray[np.bool_]) -> GroupCounts:
        """Count the independent clips and the copies among the selected clips [n]."""
        clips = np.flatnonzero(is_selected)
        return count_groups(self.groups[clips], digests=[self.digests[clip] for clip in clips.tolist()])


async def calibrate(
    pipeline: Pipeline,
    vocabulary: Vocabulary,
    clips: Sequence[ReceivedFile],
    options: CalibrateOptions,
    *,
    deadline: float,
) -> CalibrationResult:
    """Compute the logits of each clip and fit thresholds; `deadline` in seconds on the event loop's clock.

    If several clips have the same content, only the first one is used.

    Raises:
        InvalidOption: labels, groups and clips do not match, copies have different labels, or there are too few
            independent unknown clips.
        RequestError, ServiceError: a clip cannot be used; the message names it.
    """
    clip_set = await asyncio.to_thread(_inspect_clips, clips, _label_indices(vocabulary, clips, options), options)
    label_indices = [clip_set.label_indices[clip] for clip in clip_set.distinct]
    classify_options = ClassifyOptions(
        vocabulary=vocabulary.reference,
        num_clips=options.num_clips,
        num_crops=options.num_crops,
        function_to_apply=options.function_to_apply,
        model=options.model,
    )
    async with pipeline.resolve(classify_options) as resolved:
        _check_size(resolved, len(clip_set.distinct), options)
        video_logits = await _compute_clip_logits(
            pipeline, resolved, [clips[clip] for clip in clip_set.distinct], classify_options, deadline=deadline
        )

    def score(clip: int, scale: LogitScaling) -> Scores:
        return score_logits(resolved, video_logits[clip].logits, video_logits[clip].example_logits, scale=scale)

    calibration = await asyncio.to_thread(
        threshold_fit.fit,
        score,
        label_indices,
        function=resolved.function_to_apply,
        false_accept_rate=options.false_accept_rate,
        criterion=options.criterion,
        per_label=options.per_label,
        groups=clip_set.groups[clip_set.distinct],
    )
    thresholds = {vocabulary.labels[index].label_id: value for index, value in calibration.label_thresholds.items()}
    return CalibrationResult(
        acceptance=_make_acceptance(resolved, vocabulary, options, calibration, clip_set),
        label_thresholds=thresholds,
        calibration=calibration,
    )


def _label_indices(vocabulary: Vocabulary, clips: Sequence[ReceivedFile], options: CalibrateOptions) -> list[int]:
    """Return the index of each clip's label, or -1 for a clip that shows none of the labels."""
    if len(options.labels) != len(clips):
        raise InvalidOption(
            f"{len(clips)} clips were sent with {len(options.labels)} labels; send one label, or null, per clip"
        )
    find = LabelFinder(vocabulary)
    index_of = {label.label_id: index for index, label in enumerate(vocabulary.labels)}
    return [-1 if label is None else index_of[find(label).label_id] for label in options.labels]


def _inspect_clips(clips: Sequence[ReceivedFile], label_indices: Sequence[int], options: CalibrateOptions) -> _ClipSet:
    """Find the clips that are copies of, or not independent from, another clip.

    Raises:
        InvalidOption: copies have different labels, there are not as many groups as clips, or there are too few
            independent unknown clips.
    """
    if options.groups and len(options.groups) != len(clips):
        raise InvalidOption(
            f"{len(clips)} clips were sent with {len(options.groups)} groups; send one group, or null, per clip"
        )
    digests = [file_sha256(clip.path) for clip in clips]
    first: dict[str, int] = {}
    for clip, digest in enumerate(digests):
        other = first.setdefault(digest, clip)
        if label_indices[other] != label_indices[clip]:
            raise InvalidOption(
                f"{clips[other].filename!r} and {clips[clip].filename!r} have the same content and different labels"
            )
    groups = assign_groups(
        names=[clip.filename for clip in clips],
        digests=digests,
        declared=[group or "" for group in options.groups],
    )
    clip_set = _ClipSet(
        label_indices=np.array(label_indices, np.int64), groups=groups, digests=digests, distinct=list(first.values())
    )
    unknown = clip_set.count_selected(clip_set.label_indices < 0)
    threshold_fit.require_unknown(
        unknown.num_clips, unknown.num_independent, num_copies=unknown.num_copies,
        false_accept_rate=options.false_accept_rate, per_label=options.per_label,
    )  # fmt: skip
    return clip_set


def _check_size(resolved: ResolvedOptions, num_clips: int, options: CalibrateOptions) -> None:
    views = options.num_clips * options.num_crops
    needed = 4 * num_clips * views * len(resolved.templates) * len(resolved.phrases)
    if needed > MAX_LOGIT_BYTES:
        raise InvalidOption(
            f"the logits of {num_clips} clips would take {needed} bytes and at most {MAX_LOGIT_BYTES} are allowed; "
            "send fewer clips, or request fewer views",
            needed=needed,
            limit=MAX_LOGIT_BYTES,
        )


async def _compute_clip_logits(
    pipeline: Pipeline,
    resolved: ResolvedOptions,
    clips: Sequence[ReceivedFile],
    classify_options: ClassifyOptions,
    *,
    deadline: float,
) -> list[InferenceResult]:
    """Compute the logits of all clips, a few at a time; the first failure cancels the others."""
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_CLIPS)

    async def compute_logits(clip: ReceivedFile) -> InferenceResult:
        async with semaphore:
            try:
                return await pipeline.compute_logits(clip.path, resolved, classify_options, deadline=deadline)
            except RequestError as error:
                raise type(error)(f"{clip.filename!r}: {error.message}", **error.details) from error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(compute_logits(clip)) for clip in clips]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _make_acceptance(
    resolved: ResolvedOptions,
    vocabulary: Vocabulary,
    options: CalibrateOptions,
    calibration: threshold_fit.Calibration,
    clip_set: _ClipSet,
) -> Acceptance:
    assert resolved.function_to_apply != "none", "CalibrateOptions allows only softmax and sigmoid"
    known = clip_set.count_selected(clip_set.label_indices >= 0)
    unknown = clip_set.count_selected(clip_set.label_indices < 0)
    return Acceptance(
        criterion=calibration.criterion,
        threshold=calibration.threshold,
        temperature=calibration.scale.temperature,
        bias=calibration.scale.bias,
        fitted=Fit(
            model=resolved.runtime.reference,
            function=resolved.function_to_apply,
            templates=resolved.templates,
            num_clips=options.num_clips,
            num_crops=options.num_crops,
            vocabulary_version=vocabulary.version,
            vocabulary_digest=vocabulary.digest,
            num_known=known.num_clips,
            num_unknown=unknown.num_clips,
            num_known_independent=known.num_independent,
            num_unknown_independent=unknown.num_independent,
            num_copies=known.num_copies + unknown.num_copies,
            false_accept_rate=options.false_accept_rate,
            false_accept_interval=calibration.false_accept_interval,
            true_accept_rate=calibration.true_accept_rate,
            accuracy=calibration.accuracy,
            auroc=calibration.auroc,
            fpr_at_95_tpr=calibration.fpr_at_95_tpr,
            calibration_error_before=calibration.calibration_error_before,
            calibration_error_after=calibration.calibration_error_after,
            fitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
