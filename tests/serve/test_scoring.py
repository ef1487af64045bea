"""Scores follow the contract's rules, checked against arithmetic written out."""

import numpy as np
import pytest

from serve.contract import ScoringContract
from serve.scoring import Scores, logits_of, mean_embedding, reduce_logits, softmax, top_k, unit

RANDOM = np.random.default_rng(0)
VIDEO = RANDOM.normal(size=(3, 16)).astype(np.float32)
BANK = unit(RANDOM.normal(size=(2, 5, 16)).astype(np.float32))


def contract(view_rule: str, *, bias: float = 0.0) -> ScoringContract:
    return ScoringContract(logit_scale=20.0, logit_bias=bias, ensembling="mean_probability", view_rule=view_rule)  # type: ignore[arg-type]


def score(rules: ScoringContract, *, function: str) -> Scores:
    return reduce_logits(logits_of(VIDEO, BANK, rules), rules, function=function)


def test_mean_probability_averages_softmax_over_views_and_templates() -> None:
    found = score(contract("mean_probability"), function="softmax")
    expected = np.zeros(5)
    for view in VIDEO.astype(np.float64):
        for rows in BANK.astype(np.float64):
            logits = 20 * rows @ view / np.linalg.norm(view)
            expected += np.exp(logits) / np.exp(logits).sum() / 6
    assert found.scores is not None
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)


def test_mean_logit_averages_views_first() -> None:
    found = score(contract("mean_logit"), function="softmax")
    logits = 20 * np.einsum("vd,mkd->vmk", unit(VIDEO), BANK).mean(axis=0)
    assert found.scores is not None
    np.testing.assert_allclose(found.scores, softmax(logits).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_logits_and_cosines_do_not_depend_on_the_function(function: str) -> None:
    found = score(contract("mean_probability", bias=-3.0), function=function)
    cosines = np.einsum("vd,mkd->vmk", unit(VIDEO), BANK).mean(axis=(0, 1))
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
    np.testing.assert_allclose(found.logits, 20 * cosines - 3, atol=1e-5)
    assert (found.scores is None) is (function == "none")


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[[1e4, -1e4, 0]]], np.float32)
    for function in ("softmax", "sigmoid"):
        scores = reduce_logits(logits, contract("mean_probability"), function=function).scores
        assert scores is not None and np.isfinite(scores).all()


def test_mean_embedding_gives_unit_rows_of_one_template() -> None:
    averaged = mean_embedding(3 * BANK)
    assert averaged.shape == (1, 5, 16)
    np.testing.assert_allclose(np.linalg.norm(averaged, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(averaged[0], unit(BANK.mean(axis=0)), atol=1e-6)


def test_the_best_come_first_and_ties_keep_their_order() -> None:
    logits = np.array([[[1, 3, 3, 2, 0]]], np.float32)
    found = reduce_logits(logits, contract("mean_probability"), function="none")
    assert top_k(found, 3).tolist() == [1, 2, 3]
    assert top_k(found, 99).tolist() == [1, 2, 3, 0, 4]
