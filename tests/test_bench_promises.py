"""Benchmarks can fail: each judges good figures as kept, and the figures of something broken as not."""

from typing import Any

import pytest

from tests.bench import (
    activation_bench,
    examples_bench,
    long_video_bench,
    open_set_bench,
    store_bench,
    timeline_bench,
    vocabulary_bench,
)
from tests.bench.promises import Promise, settle, spread
from tests.bench.segment_metrics import segment_figures

GOOD, BAD = Promise(words="good", found=1, least=1), Promise(words="bad", found=2, most=1)


def test_a_broken_promise_and_a_missed_control_end_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    settle([GOOD], {"noise": [GOOD, BAD]})
    assert capsys.readouterr().out.splitlines() == [
        "kept    good: 1 (at least 1)", "caught  control, noise: breaks bad",
    ]  # fmt: skip
    for promises, controls in (([GOOD, BAD], {"noise": [BAD]}), ([GOOD], {"noise": [GOOD]}), ([GOOD], {}), ([], {})):
        with pytest.raises(SystemExit) as left:
            settle(promises, controls)
        assert left.value.code == 1
    assert not Promise(words="nothing", found=float("nan"), most=1).holds


def test_measurements_are_printed_with_number_and_range() -> None:
    assert spread([3.0, 1.0, 2.0], "ms") == "median 2 ms, 1 to 3, n = 3"


def kept(promises: list[Promise]) -> bool:
    return all(promise.holds for promise in promises)


def test_the_activation_bench_tells_versions_apart() -> None:
    moves: dict[str, Any] = {
        "requests": 2000, "failures": 0, "of_their_version": 2000, "versions": {"1": 900, "2": 1100},
        "rollbacks_s": [0.02, 0.05],
    }  # fmt: skip
    figures = {"auto": {"moves": moves, "crash": {"wrong": 0}}}
    offline = {"1": {"a": 1.0, "b": 2.0}, "2": {"a": 3.0, "b": 1.0}}
    assert kept(activation_bench.judged("auto", moves, {"wrong": 0}))
    controls = activation_bench.controls(figures, offline)
    assert len(controls) == 3
    assert not any(kept(promises) for promises in controls.values())
    for change in ({"failures": 1}, {"of_their_version": 1999}, {"versions": {"1": 2000}}, {"rollbacks_s": [2.0]}):
        assert not kept(activation_bench.judged("auto", {**moves, **change}, {"wrong": 0}))


def test_the_store_bench_finds_a_lost_and_a_torn_version() -> None:
    lost, together = {"sqlite": (5000, 0)}, {"lost": 0, "conflicts": 9000, "p99_ms": 31.0}
    assert kept(store_bench.judged(lost, together))
    controls = store_bench.controls(lost, together)
    assert len(controls) == 3
    assert not any(kept(promises) for promises in controls.values())


def test_the_open_set_bench_exposes_noise() -> None:
    row = {"asked": 0.05, "per_label": False, "as_predicted": 0.95, "known_accepted": 0.6}
    assert kept(open_set_bench.judged([row]))
    assert not kept(open_set_bench.judged([{**row, "known_accepted": 0.06}])), "what noise keeps"
    assert not kept(open_set_bench.judged([{**row, "as_predicted": 0.7}]))


def test_the_examples_bench_wants_accuracy_to_rise() -> None:
    row = {
        "labels": "new words, examples for 5 of 10 labels",
        "with_examples": 5,
        "top1": [0.1, 0.3, 0.4, 0.4, 0.5, 0.5],
    }
    assert kept(examples_bench.judged([row]))
    assert not kept(examples_bench.judged([{**row, "top1": [0.1] * 6}]))
    assert not kept(examples_bench.judged([{**row, "top1": [0.1, 0.5, 0.3, 0.5, 0.6, 0.6]}]))


def test_the_vocabulary_bench_is_about_ratios() -> None:
    large = vocabulary_bench.Large(
        committed=6, in_use=90, idle=40, meanwhile=70, num_meanwhile=900, slowest=170, among_all=140, memory=1, peak=1,
        loaded=4,
    )  # fmt: skip
    assert kept(vocabulary_bench.judged(15, 270, large, 1.2))
    assert not kept(vocabulary_bench.judged(270, 270, large, 1.2))
    assert not kept(vocabulary_bench.judged(15, 270, large, 2.4))


def test_the_timeline_bench_tells_labels_and_argmax_apart() -> None:
    known = [("a", 0.0, 4.0), ("b", 4.0, 8.0)]
    right, wrong = segment_figures(known, known), segment_figures(known, [("b", 0.0, 4.0), ("a", 4.0, 8.0)])
    row = timeline_bench.Row(name="rendered", ours=right, naive=wrong, shuffled=wrong, times_real_time=1.0)
    assert kept(timeline_bench.judged([row]))
    assert not kept(timeline_bench.judged([row], is_control=True))
    assert not kept(timeline_bench.judged([timeline_bench.Row(**{**vars(row), "ours": wrong})]))


def test_the_long_video_bench_finds_memory_that_grows() -> None:
    figures = {"server_growth_mib": 3.0, "child_growth_mib": 1.0, "child_bytes_per_frame": 300.0}
    assert kept(long_video_bench.judged(figures))
    for name in figures:
        assert not kept(long_video_bench.judged({**figures, name: 5000.0}))
