"""Calibration from clips: each clip is measured like a classification, then thresholds are fitted."""

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
from serve.independence import Independence, independence, independent_groups
from serve.pipeline import Pipeline, ResolvedOptions, VideoLogits, reduced
from serve.scoring import LogitScaling, Scores
from serve.uploads import ReceivedFile
from serve.vocabularies import threshold_fit
from serve.vocabularies.acceptance import Acceptance, Fit
from serve.vocabularies.vocabulary import LabelFinder, Vocabulary

CLIPS_AT_ONCE = 4
MAX_LOGIT_BYTES = 2**30  # of all clips


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """The result of a calibration, ready to be stored."""

    acceptance: Acceptance
    label_thresholds: Mapping[str, float]  # by label_id
    found: threshold_fit.Calibration


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """What was sent, before anything is measured."""

    known: Int64Array  # index of the label of each clip, -1 for none [n]
    groups: Int64Array  # clips of one group depend on each other [n]
    digests: Sequence[str]  # of the content of each clip
    distinct: Sequence[int]  # the first clip of each content

    def independence_of(self, chosen: NDArray[np.bool_]) -> Independence:
        """Return how many of the chosen clips [n] are independent, and how many are copies."""
        clips = np.flatnonzero(chosen)
        return independence(self.groups[clips], digests=[self.digests[clip] for clip in clips.tolist()])


async def calibrate(
    pipeline: Pipeline,
    vocabulary: Vocabulary,
    clips: Sequence[ReceivedFile],
    options: CalibrateOptions,
    *,
    deadline: float,
) -> CalibrationResult:
    """Measure each clip and fit thresholds; `deadline` in seconds of the event loop's clock.

    Of clips with the same content the first is measured and used.

    Raises:
        InvalidOption: labels, groups and clips do not match, copies have different labels, or there are too few
            independent unknown clips.
        RequestError, ServiceError: a clip cannot be used; names it.
    """
    sent = await asyncio.to_thread(_sent, clips, _split_indices(vocabulary, clips, options), options)
    known = [sent.known[clip] for clip in sent.distinct]
    classify_options = ClassifyOptions(
        vocabulary=vocabulary.reference,
        num_clips=options.num_clips,
        num_crops=options.num_crops,
        function_to_apply=options.function_to_apply,
        model=options.model,
    )
    async with pipeline.resolve(classify_options) as resolved:
        _check_size(resolved, len(sent.distinct), options)
        measured = await _measure_clips(
            pipeline, resolved, [clips[clip] for clip in sent.distinct], classify_options, deadline=deadline
        )

    def score(clip: int, scale: LogitScaling) -> Scores:
        return reduced(resolved, measured[clip].logits, measured[clip].example_logits, scale=scale)

    found = await asyncio.to_thread(
        threshold_fit.fit,
        score,
        known,
        function=resolved.function,
        false_accept_rate=options.false_accept_rate,
        criterion=options.criterion,
        per_label=options.per_label,
        groups=sent.groups[sent.distinct],
    )
    thresholds = {vocabulary.labels[place].label_id: value for place, value in found.label_thresholds.items()}
    return CalibrationResult(
        acceptance=_acceptance(resolved, vocabulary, options, found, sent),
        label_thresholds=thresholds,
        found=found,
    )


def _split_indices(vocabulary: Vocabulary, clips: Sequence[ReceivedFile], options: CalibrateOptions) -> list[int]:
    """Return the index of each clip's label, -1 for none."""
    if len(options.labels) != len(clips):
        raise InvalidOption(f"{len(clips)} clips came with {len(options.labels)} labels; each clip needs one label")
    find = LabelFinder(vocabulary)
    place = {label.label_id: number for number, label in enumerate(vocabulary.labels)}
    return [-1 if label is None else place[find(label).label_id] for label in options.labels]


def _sent(clips: Sequence[ReceivedFile], known: Sequence[int], options: CalibrateOptions) -> _Sent:
    """Return which clips are copies or depend on each other.

    Raises:
        InvalidOption: copies have different labels, there are not as many groups as clips, or there are too few
            independent unknown clips.
    """
    if options.groups and len(options.groups) != len(clips):
        raise InvalidOption(f"{len(clips)} clips came with {len(options.groups)} groups; each clip needs one, or null")
    digests = [file_sha256(clip.path) for clip in clips]
    first: dict[str, int] = {}
    for clip, digest in enumerate(digests):
        other = first.setdefault(digest, clip)
        if known[other] != known[clip]:
            raise InvalidOption(
                f"{clips[other].filename!r} and {clips[clip].filename!r} have the same content and different labels"
            )
    groups = independent_groups(
        names=[clip.filename for clip in clips],
        digests=digests,
        declared=[group or "" for group in options.groups],
    )
    sent = _Sent(known=np.array(known, np.int64), groups=groups, digests=digests, distinct=list(first.values()))
    unknown = sent.independence_of(sent.known < 0)
    threshold_fit.require_unknown(
        unknown.num_clips, unknown.num_independent, num_copies=unknown.num_copies,
        false_accept_rate=options.false_accept_rate, per_label=options.per_label,
    )  # fmt: skip
    return sent


def _check_size(resolved: ResolvedOptions, num_clips: int, options: CalibrateOptions) -> None:
    views = options.num_clips * options.num_crops
    needed = 4 * num_clips * views * len(resolved.templates) * len(resolved.phrases)
    if needed > MAX_LOGIT_BYTES:
        raise InvalidOption(
            f"the logits of {num_clips} clips would take {needed} bytes, {MAX_LOGIT_BYTES} are allowed: "
            "send fewer clips, or request fewer views",
            needed=needed,
            limit=MAX_LOGIT_BYTES,
        )


async def _measure_clips(
    pipeline: Pipeline,
    resolved: ResolvedOptions,
    clips: Sequence[ReceivedFile],
    classify_options: ClassifyOptions,
    *,
    deadline: float,
) -> list[VideoLogits]:
    """Measure all clips, a few at a time; the first failure cancels the others."""
    turns = asyncio.Semaphore(CLIPS_AT_ONCE)

    async def one(clip: ReceivedFile) -> VideoLogits:
        async with turns:
            try:
                return await pipeline.measure(clip.path, resolved, classify_options, deadline=deadline)
            except RequestError as error:
                raise type(error)(f"{clip.filename!r}: {error.message}", **error.facts) from error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(clip)) for clip in clips]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _acceptance(
    resolved: ResolvedOptions,
    vocabulary: Vocabulary,
    options: CalibrateOptions,
    found: threshold_fit.Calibration,
    sent: _Sent,
) -> Acceptance:
    assert resolved.function != "none", "the options allow softmax and sigmoid"
    known, unknown = sent.independence_of(sent.known >= 0), sent.independence_of(sent.known < 0)
    return Acceptance(
        criterion=found.criterion,
        threshold=found.threshold,
        temperature=found.scale.temperature,
        bias=found.scale.bias,
        fitted=Fit(
            model=resolved.runtime.reference,
            function=resolved.function,
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
            false_accept_interval=found.false_accept_interval,
            true_accept_rate=found.true_accept_rate,
            accuracy=found.accuracy,
            auroc=found.auroc,
            fpr_at_95_tpr=found.fpr_at_95_tpr,
            calibration_error_before=found.calibration_error_before,
            calibration_error_after=found.calibration_error_after,
            fitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
