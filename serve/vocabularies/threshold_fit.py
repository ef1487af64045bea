"""Fit "none of these" from clips: temperature, thresholds and their figures.

Known clips show a label of the vocabulary, unknown clips show none. The temperature of a softmax has the highest
posterior: likelihood of the known clips, with a log-normal prior around 1 (`LOG_TEMPERATURE_SPREAD`). It is used only
if cross-validation shows that it raises the likelihood of left-out clips; otherwise it stays 1. Thresholds are order
statistics of the unknown clips, so the share of further such clips that will be accepted follows a beta distribution
for any distribution of scores, and its interval is exact (Wilks 1941; as in split conformal prediction,
arXiv:2107.07511).

This holds for independent clips. Of unknown clips that depend on each other the first alone sets thresholds, and the
interval is that of further groups (subsampling once, arXiv:1809.07441). Temperature and bias give every group the same
weight, and a group is left out of the cross-validation as a whole.
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
LOG_TEMPERATURES = np.linspace(-4.0, 4.0, 81)  # tried first
FOLDS = 10
NORMAL_95 = 1.645  # quantile of the normal distribution
LEAST_SCORE = 1e-12  # a float32 score may be 0
LEAST_CLIPS_OF_LABEL = 20  # unknown clips with this best label that its own threshold needs

Score = Callable[[int, LogitScaling], Scores]  # of clip i under a scale


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fitted values, and their figures on the clips they were fitted on."""

    criterion: Criterion
    scale: LogitScaling
    threshold: float | None  # of labels without one in `label_thresholds`; None: none is needed
    label_thresholds: dict[int, float]  # by index of the label
    false_accept_interval: tuple[float, float]  # of the true rate
    false_accepts: int  # of the unknown clips used for the threshold
    num_unknown_used: int  # one of each group
    true_accept_rate: float | None
    accuracy: float | None
    auroc: float | None
    fpr_at_95_tpr: float | None
    calibration_error_before: float | None
    calibration_error_after: float | None
    reliability_before: tuple[ReliabilityBin, ...]
    reliability_after: tuple[ReliabilityBin, ...]
    curve: tuple[tuple[float, float], ...]  # share of unknown accepted, share of known accepted


def fit(
    score: Score,
    known: Sequence[int],
    *,
    function: str,
    false_accept_rate: float,
    criterion: Criterion | None = None,
    per_label: bool = False,
    groups: Int64Array | None = None,
) -> Calibration:
    """Fit temperature and thresholds.

    `score` returns the scores of a clip under a scale; `known` holds the label of each clip, -1 for none. By default
    `criterion` is the one that separates known from unknown clips better. Clips of one of the `groups` [n] depend on
    each other; without groups all clips are independent.

    Raises:
        InvalidOption: there are too few independent unknown clips for such a rate.
    """
    labels = np.asarray(known, np.int64)
    groups = np.arange(len(labels)) if groups is None else groups
    shows, unknown = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    independent = _first_of_groups(unknown, groups)
    require_unknown(len(unknown), len(independent), false_accept_rate=false_accept_rate, per_label=per_label)
    scale = _fitted_scale(score, labels, function, groups)
    scored = [score(clip, scale) for clip in range(len(labels))]
    chosen = criterion or _better_criterion(scored, labels)
    values = np.stack([_values(item, chosen) for item in scored])  # [n, K]
    offsets, used = np.zeros(values.shape[1]), independent
    if per_label:  # offsets from one half, the common threshold from the other: each clip is used once
        offsets, used = _label_offsets(values[independent[::2]], false_accept_rate), independent[1::2]
    best = (values - offsets).max(axis=1)  # [n]; accepted is what reaches the threshold with any label
    threshold, accepted = _threshold(best[used], false_accept_rate)
    judged = np.arange(len(labels)) if function == "sigmoid" else shows  # a softmax has no score for "none of these"
    before = _reliability([score(int(clip), IDENTITY_SCALING) for clip in judged], labels[judged])
    after = _reliability([scored[clip] for clip in judged], labels[judged])
    return Calibration(
        criterion=chosen,
        scale=scale,
        threshold=threshold,
        label_thresholds={} if threshold is None else {int(k): threshold + offsets[k] for k in np.flatnonzero(offsets)},
        false_accept_interval=beta_interval(max(accepted, 1), len(used) + 1 - max(accepted, 1)),
        false_accepts=accepted,
        num_unknown_used=len(used),
        true_accept_rate=_share(best[shows], -math.inf if threshold is None else threshold) if len(shows) else None,
        accuracy=_accuracy([scored[clip] for clip in shows], labels[shows]) if len(shows) else None,
        auroc=auroc(best[shows], best[unknown]) if len(shows) else None,
        fpr_at_95_tpr=fpr_at_tpr(best[shows], best[unknown], tpr=0.95) if len(shows) else None,
        calibration_error_before=calibration_error(before),
        calibration_error_after=calibration_error(after),
        reliability_before=before,
        reliability_after=after,
        curve=_curve(best[shows], best[unknown]),
    )


def require_unknown(
    num_unknown: int, num_independent: int, *, false_accept_rate: float, per_label: bool, num_copies: int = 0
) -> None:
    """Check that there are enough unknown clips for a rate.

    Raises:
        InvalidOption: there are too few independent ones.
    """
    needed = (math.ceil(1 / false_accept_rate) - 1) * (2 if per_label else 1)
    if num_independent >= needed:
        return
    found = f"{num_unknown} clips show none of the labels"
    if num_independent < num_unknown:
        copies = f", {num_copies} are copies" if num_copies else ""
        found += f", {num_independent} of them independent{copies}; clips of one video or group count once"
    raise InvalidOption(
        f"{found}; a false-accept rate of {false_accept_rate:g} needs {needed}",
        num_unknown=num_unknown,
        num_independent=num_independent,
        num_copies=num_copies,
        needed=needed,
    )


def _first_of_groups(clips: Int64Array, groups: Int64Array) -> Int64Array:
    """Return the first of the clips [m] of each group."""
    return clips[np.sort(np.unique(groups[clips], return_index=True)[1])]


def _fitted_scale(score: Score, labels: Int64Array, function: str, groups: Int64Array) -> LogitScaling:
    known = np.flatnonzero(labels >= 0)
    if function == "sigmoid":
        return _platt(np.stack([score(clip, IDENTITY_SCALING).logits for clip in range(len(labels))]), labels, groups)
    place = np.unique(groups[known], return_inverse=True)[1]
    sizes = np.bincount(place)
    if len(sizes) < 2:
        return IDENTITY_SCALING

    def losses(log_temperature: float) -> Float64Array:
        scale = LogitScaling(temperature=math.exp(log_temperature))
        of_clips = _losses([score(int(clip), scale) for clip in known], labels[known])
        means: Float64Array = np.bincount(place, weights=of_clips) / sizes
        return means

    table = np.stack([losses(float(each)) for each in LOG_TEMPERATURES])  # [temperatures, groups]
    if not _helps(table):
        return IDENTITY_SCALING
    step = float(LOG_TEMPERATURES[1] - LOG_TEMPERATURES[0])
    near = float(LOG_TEMPERATURES[_likeliest(table)])
    found = _lowest(lambda each: float(losses(each).sum()) + _penalty(each), near - step, near + step)
    return LogitScaling(temperature=math.exp(found))


def _helps(table: Float64Array) -> bool:
    """Return whether temperatures fitted to the other folds beat 1 on those left out, beyond chance (one-sided 5 %).

    Losses are [temperatures, groups].
    """
    count = table.shape[1]
    fold = np.arange(count) % min(FOLDS, count)
    plain = table[int(np.argmin(np.abs(LOG_TEMPERATURES)))]
    gains = np.zeros(count)
    for number in np.unique(fold):
        left_out = fold == number
        gains[left_out] = plain[left_out] - table[_likeliest(table[:, ~left_out])][left_out]
    return float(gains.mean()) > NORMAL_95 * float(gains.std(ddof=1)) / math.sqrt(count)


def _likeliest(table: Float64Array) -> int:
    """Return the index of the temperature with the highest posterior, from losses [temperatures, groups]."""
    return int(np.argmin(table.sum(axis=1) + _penalty(LOG_TEMPERATURES)))


@overload
def _penalty(log_temperature: float) -> float: ...
@overload
def _penalty(log_temperature: Float64Array) -> Float64Array: ...
def _penalty(log_temperature: float | Float64Array) -> float | Float64Array:
    """Return the negative logarithm of the prior, without a constant."""
    return (log_temperature / LOG_TEMPERATURE_SPREAD) ** 2 / 2


def _losses(scored: Sequence[Scores], labels: Int64Array) -> Float64Array:
    """Return the negative log-likelihood of each known clip [n]."""
    probabilities = []
    for item, label in zip(scored, labels, strict=True):
        assert item.scores is not None
        probabilities.append(max(float(item.scores[label]), LEAST_SCORE))
    return -np.log(probabilities)


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the minimum of a unimodal function, by golden-section search."""
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


def _platt(logits: Float32Array, labels: Int64Array, groups: Int64Array) -> LogitScaling:
    """Fit temperature and bias of a sigmoid: logistic regression of "shows this label" on the logit, over all pairs.

    Newton's method on the slope and intercept with Platt's targets (1999); logits [n, K], -1 labels are unknown clips.
    A clip of a group of m clips has the weight 1/m.
    """
    shows = np.zeros(logits.shape, np.bool_)
    known = np.flatnonzero(labels >= 0)
    shows[known, labels[known]] = True
    if not shows.any():
        return IDENTITY_SCALING
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    share = np.repeat(1 / sizes[place], logits.shape[1])  # of each pair
    positives, negatives = float(share[shows.ravel()].sum()), float(share[~shows.ravel()].sum())
    x, centre, spread = logits.astype(np.float64).ravel(), float(logits.mean()), float(logits.std()) or 1.0
    x = (x - centre) / spread
    target = np.where(shows.ravel(), (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 1.0, 0.0
    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (slope * x + intercept)))
        weight = share * np.maximum(p * (1 - p), 1e-12)
        error = share * (p - target)
        gradient = np.array([(error * x).sum() + 1e-6 * slope, error.sum()])
        hessian = np.array([[(weight * x * x).sum() + 1e-6, (weight * x).sum()], [(weight * x).sum(), weight.sum()]])
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / float(np.abs(step).max()))  # far from the optimum a full step may overshoot
        slope, intercept = slope - step[0], intercept - step[1]
        if float(np.abs(step).max()) < 1e-9:
            break
    # a negative slope, logits that fall with the label, becomes nearly flat
    slope = float(np.clip(slope / spread, 1 / 1e6, 1e6))
    return LogitScaling(temperature=1 / slope, bias=centre - intercept / slope)


def _better_criterion(scored: Sequence[Scores], labels: Int64Array) -> Criterion:
    """Return the criterion with the larger area under the curve; scores if equal or if there are no known clips."""
    if not (labels >= 0).any():
        return "score"
    areas = {}
    for criterion in ("logit", "score"):
        best = np.array([_values(item, criterion).max() for item in scored])
        areas[criterion] = auroc(best[labels >= 0], best[labels < 0])
    return "logit" if areas["logit"] > areas["score"] else "score"


def _values(scores: Scores, criterion: Criterion) -> Float64Array:
    """Return the values that thresholds apply to [K]; -inf for labels that do not exceed the rivals."""
    found = scores.scores if criterion == "score" else scores.logits
    assert found is not None
    return np.where(AcceptanceRule().accepted(scores), found.astype(np.float64), -np.inf)


def _label_offsets(values: Float64Array, false_accept_rate: float) -> Float64Array:
    """Return the offsets [K] of label thresholds from the common one, 0 for labels with too few unknown clips."""
    best, of = values.max(axis=1), values.argmax(axis=1)
    common = float(np.quantile(best, 1 - false_accept_rate))
    offsets = np.zeros(values.shape[1])
    for label in np.unique(of[np.isfinite(best)]):
        own = best[of == label]
        if len(own) >= LEAST_CLIPS_OF_LABEL and math.isfinite(common):
            offsets[label] = float(np.quantile(own, 1 - false_accept_rate)) - common
    return offsets


def _threshold(best: Float64Array, false_accept_rate: float) -> tuple[float | None, int]:
    """Return (lowest threshold that keeps the expected rate, number of unknown clips it accepts)."""
    falling = np.sort(best)[::-1]
    if not math.isfinite(falling[0]):
        return None, 0  # the rivals reject all of them
    allowed = math.floor(false_accept_rate * (len(best) + 1) + 1e-9)
    accepted = int((falling > falling[allowed]).sum())  # above the first that must be rejected and its equals
    if accepted:
        return float(falling[accepted - 1]), accepted
    return float(np.nextafter(np.float32(falling[0]), np.float32(np.inf))), 0


def _accuracy(scored: Sequence[Scores], labels: Int64Array) -> float:
    return float((_best_labels(scored) == labels).mean())


def _best_labels(scored: Sequence[Scores]) -> Int64Array:
    return np.array([int(top_k(item, 1)[0]) for item in scored], np.int64)


def _reliability(scored: Sequence[Scores], labels: Int64Array) -> tuple[ReliabilityBin, ...]:
    """Group clips by their best score into bins of equal width; an unknown clip counts as a miss."""
    if not len(labels):
        return ()
    best = np.array([item.best for item in scored], np.float64)
    return reliability_bins(best, _best_labels(scored) == labels)


def _curve(known: Float64Array, unknown: Float64Array) -> tuple[tuple[float, float], ...]:
    """Return (share of unknown accepted, share of known accepted) for thresholds from highest to lowest."""
    if not len(known):
        return ()
    values = np.unique(np.concatenate((known, unknown)))[::-1]
    picked = values[np.unique(np.linspace(0, len(values) - 1, CURVE_POINTS).astype(np.int64))]
    return ((0.0, 0.0), *((_share(unknown, value), _share(known, value)) for value in picked))


def _share(values: NDArray[np.float64], threshold: float) -> float:
    return float((values >= threshold).mean())
