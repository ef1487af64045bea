"""Fit the temperature and the acceptance thresholds of a vocabulary from clips, and measure both.

Known clips show a label of the vocabulary, unknown clips show none. The temperature of a softmax is the maximum a
posteriori estimate from the known clips, with a log-normal prior around 1 (`LOG_TEMPERATURE_SPREAD`). It is used only
if cross-validation shows that it raises the likelihood of left-out clips; otherwise the temperature is 1. Thresholds
are order statistics of the unknown clips. The fraction of new unknown clips that a threshold accepts therefore follows
a beta distribution, whatever the distribution of the scores, and its interval is exact (Wilks 1941; as in split
conformal prediction, arXiv:2107.07511).

This requires independent clips. Thresholds use only the first unknown clip of each group of dependent clips, and the
interval applies to clips of new groups (subsampling once, arXiv:1809.07441). Every group has the same weight in the fit
of temperature and bias, and cross-validation leaves out whole groups.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.calibration_statistics import (
    ReliabilityBin,
    auroc,
    beta_interval,
    calibration_error,
    fpr_at_tpr,
    reliability_bins,
)
from serve.errors import InvalidOption
from serve.scoring import IDENTITY_SCALING, LogitScaling, Scores, top_k
from serve.vocabularies.acceptance import AcceptanceRule, Criterion

CURVE_POINTS = 200
LOG_TEMPERATURE_SPREAD = 0.5  # standard deviation of the prior: 95 % between 0.38 and 2.7
LOG_TEMPERATURES = np.linspace(-4.0, 4.0, 81)  # grid of the coarse search
NUM_FOLDS = 10
NORMAL_QUANTILE_95 = 1.645
MIN_SCORE = 1e-12  # bounds the logarithm; a float32 score may be 0
MIN_CLIPS_PER_LABEL = 20  # unknown clips with this best label, for a label-specific threshold

ScoreClip = Callable[[int, LogitScaling], Scores]  # (index of the clip, scaling of logits) -> its scores


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fitted values, and the metrics measured on the clips they were fitted on."""

    criterion: Criterion
    scale: LogitScaling
    threshold: float | None  # of labels missing from `label_thresholds`; None if no threshold is needed
    label_thresholds: dict[int, float]  # by index of the label
    false_accept_interval: tuple[float, float]  # 95 % interval of the true false-accept rate
    false_accepts: int  # number of unknown clips, of those used for the threshold, that are accepted
    num_unknown_used: int  # unknown clips used for the threshold, one per group
    true_accept_rate: float | None
    accuracy: float | None
    auroc: float | None
    fpr_at_95_tpr: float | None
    calibration_error_before: float | None
    calibration_error_after: float | None
    reliability_before: tuple[ReliabilityBin, ...]
    reliability_after: tuple[ReliabilityBin, ...]
    curve: tuple[tuple[float, float], ...]  # (fraction of unknown clips accepted, fraction of known clips accepted)


def fit(
    score: ScoreClip,
    clip_labels: Sequence[int],
    *,
    function: str,
    false_accept_rate: float,
    criterion: Criterion | None = None,
    per_label: bool = False,
    groups: Int64Array | None = None,
) -> Calibration:
    """Fit temperature and thresholds to clips.

    `score` computes the scores of a clip for a scaling of logits. `clip_labels` [n] are label indices, -1 for clips
    that show no label. If `criterion` is None, the criterion with the larger AUROC of known against unknown clips is
    used. Clips with the same number in `groups` [n] depend on each other; without groups all clips are independent.

    Raises:
        InvalidOption: there are too few independent unknown clips for this false-accept rate.
    """
    labels = np.asarray(clip_labels, np.int64)
    groups = np.arange(len(labels)) if groups is None else groups
    known, unknown = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    independent = _first_of_groups(unknown, groups)
    require_unknown(len(unknown), len(independent), false_accept_rate=false_accept_rate, per_label=per_label)
    scale = _fit_scaling(score, labels, function, groups)
    clip_scores = [score(clip, scale) for clip in range(len(labels))]
    chosen = criterion or _choose_criterion(clip_scores, labels)
    values = np.stack([_criterion_values(item, chosen) for item in clip_scores])  # [n, K]
    offsets, used = np.zeros(values.shape[1]), independent
    if per_label:  # one half of the clips sets the offsets, the other half the common threshold
        offsets, used = _fit_label_offsets(values[independent[::2]], false_accept_rate), independent[1::2]
    best = (values - offsets).max(axis=1)  # [n]; a clip is accepted if this reaches the common threshold
    threshold, accepted = _fit_threshold(best[used], false_accept_rate)
    measured = (
        np.arange(len(labels)) if function == "sigmoid" else known
    )  # unknown clips have no correct label in a softmax
    before = _reliability([score(int(clip), IDENTITY_SCALING) for clip in measured], labels[measured])
    after = _reliability([clip_scores[clip] for clip in measured], labels[measured])
    return Calibration(
        criterion=chosen,
        scale=scale,
        threshold=threshold,
        label_thresholds={} if threshold is None else {int(k): threshold + offsets[k] for k in np.flatnonzero(offsets)},
        false_accept_interval=beta_interval(max(accepted, 1), len(used) + 1 - max(accepted, 1)),
        false_accepts=accepted,
        num_unknown_used=len(used),
        true_accept_rate=_accepted_fraction(best[known], -math.inf if threshold is None else threshold)
        if len(known)
        else None,
        accuracy=_accuracy([clip_scores[clip] for clip in known], labels[known]) if len(known) else None,
        auroc=auroc(best[known], best[unknown]) if len(known) else None,
        fpr_at_95_tpr=fpr_at_tpr(best[known], best[unknown], tpr=0.95) if len(known) else None,
        calibration_error_before=calibration_error(before),
        calibration_error_after=calibration_error(after),
        reliability_before=before,
        reliability_after=after,
        curve=_acceptance_curve(best[known], best[unknown]),
    )


def require_unknown(
    num_unknown: int, num_independent: int, *, false_accept_rate: float, per_label: bool, num_copies: int = 0
) -> None:
    """Check that there are enough independent unknown clips for a false-accept rate.

    Raises:
        InvalidOption: there are too few; the message states how many are needed.
    """
    needed = (math.ceil(1 / false_accept_rate) - 1) * (2 if per_label else 1)
    if num_independent >= needed:
        return
    counts = f"{num_unknown} clips show none of the labels"
    if num_independent < num_unknown:
        copies = f", {num_copies} are copies" if num_copies else ""
        counts += f", {num_independent} of them independent{copies}; clips of one video or group count once"
    raise InvalidOption(
        f"{counts}; a false-accept rate of {false_accept_rate:g} needs {needed}",
        num_unknown=num_unknown,
        num_independent=num_independent,
        num_copies=num_copies,
        needed=needed,
    )


def _first_of_groups(clips: Int64Array, groups: Int64Array) -> Int64Array:
    """Return the first clip of each group, among clips [m] in ascending order."""
    return clips[np.sort(np.unique(groups[clips], return_index=True)[1])]


def _fit_scaling(score: ScoreClip, labels: Int64Array, function: str, groups: Int64Array) -> LogitScaling:
    """Fit temperature and bias (sigmoid), or the temperature alone (softmax, known clips only)."""
    known = np.flatnonzero(labels >= 0)
    if function == "sigmoid":
        logits = np.stack([score(clip, IDENTITY_SCALING).logits for clip in range(len(labels))])
        return _fit_platt(logits, labels, groups)
    group_index = np.unique(groups[known], return_inverse=True)[1]
    group_sizes = np.bincount(group_index)
    if len(group_sizes) < 2:
        return IDENTITY_SCALING

    def group_losses(log_temperature: float) -> Float64Array:
        scale = LogitScaling(temperature=math.exp(log_temperature))
        clip_losses = _clip_losses([score(int(clip), scale) for clip in known], labels[known])
        means: Float64Array = np.bincount(group_index, weights=clip_losses) / group_sizes
        return means

    table = np.stack([group_losses(float(each)) for each in LOG_TEMPERATURES])  # [temperatures, groups]
    if not _improves_held_out(table):
        return IDENTITY_SCALING
    step = float(LOG_TEMPERATURES[1] - LOG_TEMPERATURES[0])
    coarse = float(LOG_TEMPERATURES[_posterior_mode(table)])
    fitted = _minimize(lambda each: float(group_losses(each).sum()) + _penalty(each), coarse - step, coarse + step)
    return LogitScaling(temperature=math.exp(fitted))


def _improves_held_out(table: Float64Array) -> bool:
    """Return whether cross-validated temperatures have a lower held-out loss than temperature 1 (one-sided 5 % level).

    `table` holds losses [temperatures, groups].
    """
    count = table.shape[1]
    fold = np.arange(count) % min(NUM_FOLDS, count)
    plain = table[int(np.argmin(np.abs(LOG_TEMPERATURES)))]
    gains = np.zeros(count)
    for number in np.unique(fold):
        held_out = fold == number
        gains[held_out] = plain[held_out] - table[_posterior_mode(table[:, ~held_out])][held_out]
    return float(gains.mean()) > NORMAL_QUANTILE_95 * float(gains.std(ddof=1)) / math.sqrt(count)


def _posterior_mode(table: Float64Array) -> int:
    """Return the index of the maximum a posteriori temperature, from losses [temperatures, groups]."""
    return int(np.argmin(table.sum(axis=1) + _penalty(LOG_TEMPERATURES)))


@overload
def _penalty(log_temperature: float) -> float: ...
@overload
def _penalty(log_temperature: Float64Array) -> Float64Array: ...
def _penalty(log_temperature: float | Float64Array) -> float | Float64Array:
    """Return the negative log prior, up to a constant."""
    return (log_temperature / LOG_TEMPERATURE_SPREAD) ** 2 / 2


def _clip_losses(clip_scores: Sequence[Scores], labels: Int64Array) -> Float64Array:
    """Return the negative log-likelihood of the label of each known clip [n]."""
    probabilities = []
    for item, label in zip(clip_scores, labels, strict=True):
        assert item.scores is not None
        probabilities.append(max(float(item.scores[label]), MIN_SCORE))
    return -np.log(probabilities)


def _minimize(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the argument of the minimum of a unimodal function, by golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(30):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _fit_platt(logits: Float32Array, labels: Int64Array, groups: Int64Array) -> LogitScaling:
    """Fit temperature and bias of a sigmoid by logistic regression of "the clip shows the label" on the logit.

    Every pair of a clip and a label is one sample. Newton's method fits slope and intercept to Platt's targets (1999).
    Logits are [n, K]; unknown clips have the label -1; a clip in a group of m clips has the weight 1/m.
    """
    shows = np.zeros(logits.shape, np.bool_)
    known = np.flatnonzero(labels >= 0)
    shows[known, labels[known]] = True
    if not shows.any():
        return IDENTITY_SCALING
    _, group_index, group_sizes = np.unique(groups, return_inverse=True, return_counts=True)
    pair_weights = np.repeat(1 / group_sizes[group_index], logits.shape[1])  # [n*K]
    positives, negatives = float(pair_weights[shows.ravel()].sum()), float(pair_weights[~shows.ravel()].sum())
    x, centre, spread = logits.astype(np.float64).ravel(), float(logits.mean()), float(logits.std()) or 1.0
    x = (x - centre) / spread
    target = np.where(shows.ravel(), (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 1.0, 0.0
    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (slope * x + intercept)))
        weight = pair_weights * np.maximum(p * (1 - p), 1e-12)
        error = pair_weights * (p - target)
        gradient = np.array([(error * x).sum() + 1e-6 * slope, error.sum()])
        hessian = np.array([[(weight * x * x).sum() + 1e-6, (weight * x).sum()], [(weight * x).sum(), weight.sum()]])
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / float(np.abs(step).max()))  # far from the optimum a full step may overshoot
        slope, intercept = slope - step[0], intercept - step[1]
        if float(np.abs(step).max()) < 1e-9:
            break
    # a negative slope (clips of a label have lower logits for it) is replaced by a nearly flat positive one
    slope = float(np.clip(slope / spread, 1 / 1e6, 1e6))
    return LogitScaling(temperature=1 / slope, bias=centre - intercept / slope)


def _choose_criterion(clip_scores: Sequence[Scores], labels: Int64Array) -> Criterion:
    """Return the criterion with the larger AUROC; "score" if both are equal or there are no known clips."""
    if not (labels >= 0).any():
        return "score"
    areas = {}
    for criterion in ("logit", "score"):
        best = np.array([_criterion_values(item, criterion).max() for item in clip_scores])
        areas[criterion] = auroc(best[labels >= 0], best[labels < 0])
    return "logit" if areas["logit"] > areas["score"] else "score"


def _criterion_values(scores: Scores, criterion: Criterion) -> Float64Array:
    """Return the values [K] that thresholds apply to; -inf for labels that do not exceed "none of the labels"."""
    values = scores.scores if criterion == "score" else scores.logits
    assert values is not None
    return np.where(AcceptanceRule().accepted(scores), values.astype(np.float64), -np.inf)


def _fit_label_offsets(values: Float64Array, false_accept_rate: float) -> Float64Array:
    """Return the offset of each label's threshold from the common one [K], 0 for labels with too few unknown clips."""
    best, best_label = values.max(axis=1), values.argmax(axis=1)
    common = float(np.quantile(best, 1 - false_accept_rate))
    offsets = np.zeros(values.shape[1])
    for label in np.unique(best_label[np.isfinite(best)]):
        label_values = best[best_label == label]
        if len(label_values) >= MIN_CLIPS_PER_LABEL and math.isfinite(common):
            offsets[label] = float(np.quantile(label_values, 1 - false_accept_rate)) - common
    return offsets


def _fit_threshold(best: Float64Array, false_accept_rate: float) -> tuple[float | None, int]:
    """Return (threshold, number of accepted clips) for the highest value of each unknown clip [m].

    The threshold is the lowest one whose expected false-accept rate is at most `false_accept_rate`, or None if the
    phrases for "none of the labels" already reject every clip.
    """
    descending = np.sort(best)[::-1]
    if not math.isfinite(descending[0]):
        return None, 0
    max_accepted = math.floor(false_accept_rate * (len(best) + 1) + 1e-9)
    accepted = int((descending > descending[max_accepted]).sum())  # excludes ties with the first rejected clip
    if accepted:
        return float(descending[accepted - 1]), accepted
    return float(np.nextafter(np.float32(descending[0]), np.float32(np.inf))), 0


def _accuracy(clip_scores: Sequence[Scores], labels: Int64Array) -> float:
    return float((_best_labels(clip_scores) == labels).mean())


def _best_labels(clip_scores: Sequence[Scores]) -> Int64Array:
    return np.array([int(top_k(item, 1)[0]) for item in clip_scores], np.int64)


def _reliability(clip_scores: Sequence[Scores], labels: Int64Array) -> tuple[ReliabilityBin, ...]:
    """Group clips by their best score into bins of equal width; an unknown clip counts as an error."""
    if not len(labels):
        return ()
    best = np.array([item.best for item in clip_scores], np.float64)
    return reliability_bins(best, _best_labels(clip_scores) == labels)


def _acceptance_curve(known: Float64Array, unknown: Float64Array) -> tuple[tuple[float, float], ...]:
    """Return (fraction of unknown clips accepted, fraction of known clips accepted) for falling thresholds."""
    if not len(known):
        return ()
    values = np.unique(np.concatenate((known, unknown)))[::-1]
    picked = values[np.unique(np.linspace(0, len(values) - 1, CURVE_POINTS).astype(np.int64))]
    return (
        (0.0, 0.0),
        *((_accepted_fraction(unknown, value), _accepted_fraction(known, value)) for value in picked),
    )


def _accepted_fraction(values: NDArray[np.float64], threshold: float) -> float:
    return float((values >= threshold).mean())
