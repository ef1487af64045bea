"""Fitted thresholds, temperatures and curves, against simulation and other people's arithmetic."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from serve.calibration_statistics import auroc, beta_interval, fpr_at_tpr
from serve.contract import ScoringContract
from serve.errors import InvalidOption
from serve.scoring import IDENTITY_SCALING, LogitScaling, PhraseLayout, Scores, reduce_logits
from serve.vocabularies.acceptance import Acceptance, Fit
from serve.vocabularies.labels import Label
from serve.vocabularies.threshold_fit import fit
from serve.vocabularies.vocabulary import Vocabulary

RULES = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_probability", view_rule="mean_probability")
FIT = Fit(
    model="demo@1", function="softmax", templates=("{}",), num_clips=1, num_crops=1, vocabulary_version=1,
    vocabulary_digest="x", num_known=1, num_unknown=19, false_accept_rate=0.05, false_accept_interval=(0.0, 0.2),
    true_accept_rate=None, accuracy=None, auroc=None, fpr_at_95_tpr=None, calibration_error_before=None,
    calibration_error_after=None, fitted_at="2026-11-23T00:00:00+00:00",
)  # fmt: skip


def scorer(
    logits: np.ndarray, function: str, phrase_layout: PhraseLayout | None = None
) -> Callable[[int, LogitScaling], Scores]:
    def score(clip: int, scale: LogitScaling) -> Scores:
        one = logits[clip][None, None].astype(np.float32)
        return reduce_logits(one, RULES, function=function, phrase_layout=phrase_layout, scale=scale)

    return score


def world(seed: int, *, known: int, unknown: int, labels: int = 5, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of clips that follow softmax(logits * sharp) exactly, and of clips that show nothing."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(known + unknown, labels)) * 2
    probabilities = np.exp(logits * sharp) / np.exp(logits * sharp).sum(axis=1, keepdims=True)
    shown = (probabilities.cumsum(axis=1) > random.random((len(logits), 1))).argmax(axis=1)
    shown[known:] = -1
    logits[:known] += 4  # what is known stands out from what is not
    return logits, shown


@pytest.mark.parametrize(("a", "b"), [(1, 1), (5, 96), (1, 19), (50, 951), (20, 3)])
def test_intervals_are_those_of_the_beta_distribution(a: int, b: int) -> None:
    for value, share in zip(beta_interval(a, b), (0.025, 0.975), strict=True):
        assert float(mpmath.betainc(a, b, 0, value, regularized=True)) == pytest.approx(share, abs=1e-9)


def test_the_area_under_the_curve_is_the_chance_of_being_higher() -> None:
    random = np.random.default_rng(0)
    known, unknown = random.integers(0, 9, 60).astype(float), random.integers(0, 7, 80).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in known for b in unknown]
    assert auroc(known, unknown) == pytest.approx(np.mean(pairs))
    assert fpr_at_tpr(np.arange(100.0), np.array([4.0, 5.0, 6.0, 50.0]), tpr=0.95) == 0.75


def test_the_temperature_of_the_world_is_found() -> None:
    logits, shown = world(1, known=3000, unknown=100, sharp=0.5)
    found = fit(scorer(logits, "softmax"), shown.tolist(), function="softmax", false_accept_rate=0.05)
    assert found.scale.temperature == pytest.approx(2.0, rel=0.08)
    assert found.calibration_error_before is not None and found.calibration_error_after is not None
    assert found.calibration_error_after < 0.03 < found.calibration_error_before
    assert sum(item.count for item in found.reliability_after) == 3000


def negative_log_likelihood(logits: np.ndarray, shown: np.ndarray, scale: LogitScaling) -> np.ndarray:
    score = scorer(logits, "softmax")
    return -np.log([score(clip, scale).scores[label] for clip, label in enumerate(shown)])  # type: ignore[index]


@pytest.mark.parametrize("known", [10, 40, 150])
def test_a_temperature_does_not_make_probabilities_worse(known: int) -> None:
    """40 worlds whose scores are right already: on other clips the mean loss rises by at most 0.01 nats."""
    losses = []
    for seed in range(40):
        logits, shown = world(seed, known=known + 200, unknown=20)
        used = np.r_[0:known, known + 200 : known + 220]
        found = fit(scorer(logits[used], "softmax"), shown[used].tolist(), function="softmax", false_accept_rate=0.05)
        rest = slice(known, known + 200)
        after = negative_log_likelihood(logits[rest], shown[rest], found.scale)
        losses.append(after.mean() - negative_log_likelihood(logits[rest], shown[rest], IDENTITY_SCALING).mean())
    assert np.mean(losses) < 0.01


@pytest.mark.parametrize("sharp", [0.4, 2.5])
def test_a_temperature_that_is_needed_is_found_with_few_clips(sharp: float) -> None:
    gains = []
    for seed in range(20):
        logits, shown = world(seed, known=240, unknown=20, sharp=sharp)
        used = np.r_[0:40, 240:260]
        found = fit(scorer(logits[used], "softmax"), shown[used].tolist(), function="softmax", false_accept_rate=0.05)
        rest = slice(40, 240)
        before = negative_log_likelihood(logits[rest], shown[rest], IDENTITY_SCALING).mean()
        gains.append(before - negative_log_likelihood(logits[rest], shown[rest], found.scale).mean())
    assert np.mean(gains) > 0.02
    assert np.mean(np.array(gains) > -0.01) >= 0.9


def test_right_answers_alone_do_not_ask_for_ever_sharper_scores() -> None:
    """The likelihood of clips that are all right grows without end as T falls to 0; the prior ends it."""
    logits = np.repeat(np.eye(4) * 2.0, 10, axis=0)
    found = fit(
        scorer(np.r_[logits, np.zeros((20, 4))], "softmax"), [*np.repeat(range(4), 10).tolist(), *[-1] * 20],
        function="softmax", false_accept_rate=0.05,
    )  # fmt: skip
    assert 0.15 < found.scale.temperature <= 1


def test_under_sigmoid_every_clip_counts() -> None:
    """Clips that show nothing are most of what a sigmoid sees; a score above 0.5 of one of them is a miss."""
    random = np.random.default_rng(3)
    logits = np.r_[random.normal(2, 1, (30, 1)), random.normal(-2, 1, (300, 1))]
    found = fit(scorer(logits, "sigmoid"), [0] * 30 + [-1] * 300, function="sigmoid", false_accept_rate=0.05)
    for bins in (found.reliability_before, found.reliability_after):
        assert sum(item.count for item in bins) == 330
    assert found.calibration_error_before is not None and found.calibration_error_after is not None
    assert found.calibration_error_after < 0.15


def test_the_slope_and_place_of_a_sigmoid_are_found() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(25, 3, size=(4000, 1))
    shows = random.random((4000, 1)) < 1 / (1 + np.exp(-(logits - 26) / 1.5))
    found = fit(
        scorer(logits, "sigmoid"), np.where(shows[:, 0], 0, -1).tolist(), function="sigmoid", false_accept_rate=0.05
    )
    assert found.scale.temperature == pytest.approx(1.5, rel=0.1)
    assert found.scale.bias == pytest.approx(26, abs=0.3)


def test_sigmoids_of_separable_clips_stay_finite() -> None:
    logits = np.array([[20.0]] * 30 + [[10.0]] * 30)
    found = fit(scorer(logits, "sigmoid"), [0] * 30 + [-1] * 30, function="sigmoid", false_accept_rate=0.05)
    assert 0.1 < found.scale.temperature < 10
    assert 10 < found.scale.bias < 20
    assert found.auroc == 1.0


@pytest.mark.parametrize("per_label", [False, True])
@pytest.mark.parametrize("criterion", ["score", "logit"])
def test_the_true_rate_lies_in_its_interval_as_often_as_promised(criterion: str, per_label: bool) -> None:
    """Over many worlds: fitted on one half, counted on a large other half."""
    inside, rates = 0, []
    for seed in range(60):
        logits, shown = world(seed, known=20, unknown=4200)
        used = np.r_[0:220]
        found = fit(
            scorer(logits, "softmax"), shown[used].tolist(), function="softmax", false_accept_rate=0.05,
            criterion=criterion, per_label=per_label,  # type: ignore[arg-type]
        )  # fmt: skip
        assert found.threshold is not None
        thresholds = np.array([found.label_thresholds.get(k, found.threshold) for k in range(5)], np.float32)
        score = scorer(logits, "softmax")
        new = [score(clip, found.scale) for clip in range(220, 4220, 4)]
        values = np.stack([item.scores if criterion == "score" else item.logits for item in new])  # type: ignore[arg-type]
        rate = float((values >= thresholds).any(axis=1).mean())
        rates.append(rate)
        inside += found.false_accept_interval[0] <= rate <= found.false_accept_interval[1]
    assert inside >= 51  # 95 % of 60 are 57; fewer than 52 happen once in a thousand times
    assert np.mean(rates) == pytest.approx(0.05, abs=0.012)


def test_too_few_unknown_clips_for_a_rate_are_reported() -> None:
    logits, shown = world(0, known=5, unknown=18)
    with pytest.raises(InvalidOption, match="needs 19"):
        fit(scorer(logits, "softmax"), shown.tolist(), function="softmax", false_accept_rate=0.05)
    enough = fit(scorer(logits, "softmax"), shown.tolist(), function="softmax", false_accept_rate=0.06)
    assert enough.false_accepts == 1


def test_equal_values_are_refused_together_rather_than_passed() -> None:
    logits = np.zeros((45, 2))
    logits[:40, 0] = 5  # unknown clips the model is equally sure about
    logits[40:, 0] = 3
    found = fit(scorer(logits, "softmax"), [-1] * 40 + [0] * 5, function="softmax", false_accept_rate=0.1)
    assert found.false_accepts == 0
    assert found.true_accept_rate == 0.0


def test_clips_the_background_wins_need_no_threshold() -> None:
    logits = np.array([[1.0, 9.0]] * 30 + [[9.0, 1.0]] * 10)  # one label, one rival
    score = scorer(logits, "softmax", PhraseLayout(counts=(1,), rule="best"))
    found = fit(score, [-1] * 30 + [0] * 10, function="softmax", false_accept_rate=0.05)
    assert found.threshold is None
    assert found.true_accept_rate == 1.0


def test_without_known_clips_only_the_threshold_is_fitted() -> None:
    logits, shown = world(3, known=0, unknown=100)
    found = fit(scorer(logits, "softmax"), shown.tolist(), function="softmax", false_accept_rate=0.05)
    assert found.scale == IDENTITY_SCALING
    assert (found.auroc, found.accuracy, found.curve) == (None, None, ())


def test_labels_have_thresholds_of_their_own_and_an_acceptance_of_another_model_is_not_applied() -> None:
    acceptance = Acceptance(criterion="logit", threshold=1.0, temperature=2.0)
    vocabulary = Vocabulary(
        name="v",
        version=1,
        labels=(Label(label_id="a", name="a"), Label(label_id="b", name="b", threshold=3.0)),
        acceptance=acceptance,
    )
    scores = Scores(scores=None, logits=np.array([2.0, 2.0], np.float32), cosines=np.zeros(2, np.float32))
    assert vocabulary.acceptance_rule().accepted(scores).tolist() == [True, False]
    same = {"model": "demo@1", "function": "softmax", "templates": ["{}"]}
    assert acceptance.inapplicable_reason(**same) is None  # type: ignore[arg-type]
    fitted = acceptance.model_copy(update={"fitted": FIT})
    assert fitted.inapplicable_reason(**same) is None  # type: ignore[arg-type]
    for change in ({"model": "demo@2"}, {"function": "sigmoid"}, {"templates": ["a {}"]}):
        assert fitted.inapplicable_reason(**{**same, **change}) is not None  # type: ignore[arg-type]
    assert fitted.caveats(digest="x", num_clips=1, num_crops=1) == []
    assert len(fitted.caveats(digest="y", num_clips=1, num_crops=3)) == 2


def clustered(seed: int, *, groups: int, size: int, within: float) -> np.ndarray:
    """Logits of unknown clips in groups of one source: the clips of a group differ by a share `within` alone."""
    random = np.random.default_rng(seed)
    shared = np.repeat(random.normal(size=(groups, 1, 3)), size, axis=1)
    return ((1 - within) * shared + within * random.normal(size=(groups, size, 3))).reshape(-1, 3) * 2


def test_the_interval_holds_for_clips_in_groups_and_not_if_they_are_taken_for_independent() -> None:
    """Fitted on 40 groups of 10 clips, counted on 400 further groups."""
    inside = {"groups": 0, "clips": 0}
    for seed in range(60):
        logits = clustered(seed, groups=40, size=10, within=0.1)
        new = scorer(clustered(1000 + seed, groups=400, size=10, within=0.1), "softmax")
        values = np.array([new(clip, IDENTITY_SCALING).logits.max() for clip in range(0, 4000, 10)])
        for name, groups in (("groups", np.repeat(np.arange(40), 10)), ("clips", np.arange(400))):
            found = fit(
                scorer(logits, "softmax"), [-1] * 400, function="softmax", false_accept_rate=0.05, criterion="logit",
                groups=groups,
            )  # fmt: skip
            assert found.threshold is not None
            rate = float((values >= np.float32(found.threshold)).mean())
            low, high = found.false_accept_interval
            slack = 2 * np.sqrt(0.05 * 0.95 / 400)  # of the counted rate
            inside[name] += low - slack <= rate <= high + slack
    assert inside["groups"] >= 51
    assert inside["clips"] < 51, "the control: clips of one source taken for independent ones"


def test_groups_count_once_in_thresholds_and_scales() -> None:
    """A clip that stands 25 times in its group moves nothing, and 25 clips of one group set no threshold."""
    logits, shown = world(5, known=60, unknown=60, sharp=0.4)
    used = np.r_[np.arange(120), np.repeat(0, 24), np.repeat(119, 24)]
    for function in ("softmax", "sigmoid"):
        once = fit(scorer(logits, function), shown.tolist(), function=function, false_accept_rate=0.05)
        copied = fit(
            scorer(logits[used], function), shown[used].tolist(), function=function, false_accept_rate=0.05,
            criterion=once.criterion, groups=used,
        )  # fmt: skip
        assert copied.scale.temperature == pytest.approx(once.scale.temperature, rel=1e-4), function
        assert copied.scale.bias == pytest.approx(once.scale.bias, abs=1e-3), function
        assert copied.threshold == pytest.approx(once.threshold, rel=1e-4), function
        assert (copied.num_unknown_used, copied.false_accepts) == (60, once.false_accepts)
        assert copied.false_accept_interval == once.false_accept_interval
    with pytest.raises(InvalidOption, match="25 clips show none of the labels, 1 of them independent; clips of one"):
        fit(
            scorer(logits, "softmax"), [-1] * 25, function="softmax", false_accept_rate=0.05,
            groups=np.zeros(25, np.int64),
        )  # fmt: skip


def test_fits_of_earlier_versions_are_read() -> None:
    """The document that the previous version stored, which counts no independent clips."""
    stored = FIT.model_dump(mode="json")
    for name in ("num_known_independent", "num_unknown_independent", "num_copies"):
        assert stored.pop(name) is None
    assert Fit.model_validate(stored) == FIT
