"""Scores follow the contract's rules, checked against arithmetic written out."""

from typing import Any

import numpy as np
import pytest

from serve.contract import ScoringContract
from serve.scoring import (
    LogitScaling,
    PhraseLayout,
    Scores,
    ViewReducer,
    compute_logits,
    mean_embedding,
    normalize,
    reduce_logits,
    softmax,
    top_k,
)
from tests.tolerances import DOT, assert_close

pytestmark = pytest.mark.numeric

RANDOM = np.random.default_rng(0)
VIDEO = RANDOM.normal(size=(3, 16)).astype(np.float32)
BANK = normalize(RANDOM.normal(size=(2, 5, 16)).astype(np.float32))


def contract(view_rule: str, *, bias: float = 0.0) -> ScoringContract:
    return ScoringContract(logit_scale=20.0, logit_bias=bias, ensembling="mean_probability", view_rule=view_rule)  # type: ignore[arg-type]


def score(rules: ScoringContract, *, function: str) -> Scores:
    return reduce_logits(compute_logits(VIDEO, BANK, rules), rules, function=function)


def test_mean_probability_averages_softmax_over_views_and_templates() -> None:
    found = score(contract("mean_probability"), function="softmax")
    expected = np.zeros(5)
    for view in VIDEO.astype(np.float64):
        for rows in BANK.astype(np.float64):
            logits = 20 * rows @ view / np.linalg.norm(view)
            expected += np.exp(logits) / np.exp(logits).sum() / 6
    assert found.scores is not None
    assert_close(found.scores, expected, magnitude=20.0, terms=DOT)


def test_mean_logit_averages_views_first() -> None:
    found = score(contract("mean_logit"), function="softmax")
    logits = 20 * np.einsum("vd,mkd->vmk", normalize(VIDEO), BANK).mean(axis=0)
    assert found.scores is not None
    assert_close(found.scores, softmax(logits).mean(axis=0), magnitude=20.0, terms=DOT)


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_logits_and_cosines_do_not_depend_on_the_function(function: str) -> None:
    found = score(contract("mean_probability", bias=-3.0), function=function)
    cosines = np.einsum("vd,mkd->vmk", normalize(VIDEO), BANK).mean(axis=(0, 1))
    assert_close(found.cosines, cosines, magnitude=1.0, terms=DOT)
    assert_close(found.logits, 20 * cosines - 3, magnitude=23.0, terms=DOT)
    assert (found.scores is None) is (function == "none")


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[[1e4, -1e4, 0]]], np.float32)
    for function in ("softmax", "sigmoid"):
        scores = reduce_logits(logits, contract("mean_probability"), function=function).scores
        assert scores is not None and np.isfinite(scores).all()


def test_mean_embedding_gives_unit_rows_of_one_template() -> None:
    averaged = mean_embedding(3 * BANK)
    assert averaged.shape == (1, 5, 16)
    assert_close(np.linalg.norm(averaged, axis=-1), np.ones((1, 5)), terms=DOT)
    assert_close(averaged[0], normalize(BANK.mean(axis=0)), magnitude=1.0, terms=DOT)


def test_the_best_come_first_and_ties_keep_their_order() -> None:
    logits = np.array([[[1, 3, 3, 2, 0]]], np.float32)
    found = reduce_logits(logits, contract("mean_probability"), function="none")
    assert top_k(found, 3).tolist() == [1, 2, 3]
    assert top_k(found, 99).tolist() == [1, 2, 3, 0, 4]


@pytest.mark.parametrize("view_rule", ["mean_probability", "mean_logit"])
@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize(
    "phrase_layout", [None, PhraseLayout(counts=(2, 1, 3), rule="best")], ids=["labels", "phrases"]
)
@pytest.mark.parametrize("has_examples", [False, True])
def test_views_in_parts_are_reduced_like_all_together(
    view_rule: Any, function: str, phrase_layout: PhraseLayout | None, has_examples: bool
) -> None:
    rules = ScoringContract(logit_scale=9.0, logit_bias=-2.0, ensembling="mean_probability", view_rule=view_rule)
    random = np.random.default_rng(0)
    logits = 9 * random.standard_normal((40, 2, 8), dtype=np.float32)  # with phrases: 6 of labels, 2 rivals
    num_labels = 8 if phrase_layout is None else 3
    examples = random.standard_normal((40, num_labels), dtype=np.float32) if has_examples else None
    scale = LogitScaling(temperature=2.0, bias=0.5)
    whole = reduce_logits(
        logits, rules, function=function, phrase_layout=phrase_layout, example_logits=examples, scale=scale
    )
    reducer = ViewReducer(rules, function=function, phrase_layout=phrase_layout, scale=scale)
    for part in (slice(0, 1), slice(1, 30), slice(30, 40)):
        reducer.add(logits[part], None if examples is None else examples[part])
    found = reducer.scores()
    for name in ("scores", "logits", "cosines", "none_of_these_score"):
        mine, theirs = getattr(found, name), getattr(whole, name)
        if theirs is None:
            assert mine is None
        else:
            assert_close(mine, theirs, magnitude=9.0, terms=DOT)
