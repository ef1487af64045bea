"""Benchmarks can fail: each judges good figures as kept, and the figures of something broken as not."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import (
    activation_bench,
    attention_bench,
    batch_bench,
    cluster_bench,
    container_bench,
    dashboard_bench,
    decode_bench,
    examples_bench,
    export_bench,
    few_shot_bench,
    image_bench,
    isolation_bench,
    jobs_bench,
    loader_bench,
    long_video_bench,
    open_set_bench,
    overload_bench,
    platform_bench,
    request_bench,
    starter_bench,
    store_bench,
    stored_bench,
    timeline_bench,
    train_bench,
    triton_bench,
    vocabulary_bench,
)
from tests.bench.promises import Promise, settle, spread
from tests.bench.segment_metrics import segment_figures
from tests.running_server import ROOT

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


def test_the_activation_bench_distinguishes_versions() -> None:
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


def test_the_jobs_bench_finds_a_lost_and_a_repeated_input() -> None:
    good = jobs_bench.Tally(rounds=25, inputs=150, finished_before=60, interrupted=9)
    tallies = {"sqlite": good, "postgresql": good}
    assert kept(jobs_bench.judged(tallies))
    for fault in ({"lost": 1}, {"repeated": 1}, {"rounds": 24}, {"interrupted": 0}, {"finished_before": 0}):
        assert not kept(jobs_bench.judged({**tallies, "sqlite": replace(good, **fault)}))


def test_the_batch_bench_finds_a_lost_and_a_repeated_input() -> None:
    good = batch_bench.Tally(rounds=4, kills=12, inputs=240, committed_at_kills=165)
    assert kept(batch_bench.judged(good))
    for fault in ({"lost": 1}, {"repeated": 1}, {"kills": 0}, {"committed_at_kills": 0}, {"committed_at_kills": 240}):
        assert not kept(batch_bench.judged(replace(good, **fault)))


def test_the_cluster_bench_counts_failures_by_phase() -> None:
    failed = {"calm": 0, "kill": 2, "database": 0, "roll": 0}
    assert kept(cluster_bench.judged(failed, num_clients=4, num_missing=0))
    assert not kept(cluster_bench.judged(failed, num_clients=4, num_missing=1))
    for fault in ({"calm": 1}, {"kill": 5}, {"database": 1}, {"roll": 1}):
        assert not kept(cluster_bench.judged({**failed, **fault}, num_clients=4, num_missing=0))
    assert not kept(cluster_bench.judged({"calm": 0}, num_clients=4, num_missing=0)), "phases without requests"


def test_the_dashboard_bench_finds_a_query_without_data() -> None:
    counts = {f"panel {number}": 1 for number in range(20)}
    assert kept(dashboard_bench.judged(counts, 0))
    assert not kept(dashboard_bench.judged({**counts, "panel 3": 0}, 0))
    assert not kept(dashboard_bench.judged(counts, 1)) and not kept(dashboard_bench.judged({}, 0))


def test_the_image_bench_bounds_the_image_for_cpus() -> None:
    assert kept(image_bench.judged(850 * 10**6, 200, "cpu")) and kept(image_bench.judged(5 * 10**9, 200, "gpu"))
    assert not kept(image_bench.judged(950 * 10**6, 200, "cpu"))
    assert not kept(image_bench.judged(850 * 10**6, 503, "cpu"))


def test_the_platform_bench_wants_every_supported_combination() -> None:
    found = [
        platform_bench.Resolution(platform=platform, python=python, extra=extra, num_packages=60, fault=None)
        for platform, extra in platform_bench.SUPPORTED
        for python in platform_bench.PYTHONS
    ]
    assert kept(platform_bench.judged(found))
    assert not kept(platform_bench.judged(found[1:]))
    assert not kept(platform_bench.judged([replace(found[0], fault="no wheel"), *found[1:]]))


def test_the_container_bench_finds_other_pixels_and_full_decoding() -> None:
    times, pixels = {"mp4": [90.0, 100.0, 900.0], "ts": [300.0, 390.0, 700.0]}, {"mp4": True, "ts": True}
    assert kept(container_bench.promises_of(times, pixels))
    assert not kept(container_bench.promises_of(times, {**pixels, "ts": False}))
    assert not kept(container_bench.promises_of({**times, "ts": [60_000.0]}, pixels))


def test_the_isolation_bench_compares_requests() -> None:
    times = {"off": 10.0, "auto": 11.0, "new child": 90.0}
    assert kept(isolation_bench.promises_of(times, "auto"))
    assert not kept(isolation_bench.promises_of(times, "new child"))


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


def test_the_decode_bench_wants_the_same_pixels_and_no_slower_clip() -> None:
    row = {"clip": "a.mp4", "is_equal": True, "ratio": 1.3}
    assert kept(decode_bench.judged([row]))
    assert not kept(decode_bench.judged([row, {**row, "is_equal": False}]))
    assert not kept(decode_bench.judged([row, {**row, "ratio": 0.9}]))


def test_the_triton_bench_compares_ways_and_features() -> None:
    own, grpc, shared = triton_bench.WAYS
    medians = {own: 50.0, grpc: 55.0, shared: 52.0}
    assert kept(triton_bench.judged(medians, 0.99999))
    assert not kept(triton_bench.judged({**medians, grpc: 275.0}, 0.99999))
    assert not kept(triton_bench.judged({**medians, shared: 110.0}, 0.99999))
    assert not kept(triton_bench.judged(medians, 0.9))


def test_the_few_shot_bench_wants_examples_to_help() -> None:
    def document(*top1: float, zero: float = 0.05) -> dict[str, Any]:
        methods = few_shot_bench.METHODS
        return {
            "summary": [{"zero_shot": {"mean": zero}, **{name: {"mean": each} for name in methods}} for each in top1]
        }

    assert kept(few_shot_bench.judged(document(0.7, 0.86, 0.93, 0.97), num_again=0))
    assert not kept(few_shot_bench.judged(document(0.05, 0.06, 0.05, 0.04), num_again=0)), "exchanged labels"
    assert not kept(few_shot_bench.judged(document(0.7, 0.9, 0.5, 0.97), num_again=0))
    assert not kept(few_shot_bench.judged(document(0.7, 0.86, 0.93, 0.97, zero=0.5), num_again=0))
    assert not kept(few_shot_bench.judged(document(0.7, 0.86, 0.93, 0.97), num_again=480))


def test_the_loader_and_train_benches_are_about_shares() -> None:
    assert kept(loader_bench.judged({"loader, test views": 0.81, "loader, xclip training": 0.67}))
    assert not kept(loader_bench.judged({"loader, test views": 0.81, "loader, xclip training": 0.3}))
    assert kept(train_bench.judged({"a.yaml": 0.68}, "cpu"))
    assert not kept(train_bench.judged({"a.yaml": 0.68 / 3}, "cpu"))


def test_the_export_bench_finds_other_numbers() -> None:
    row = {"family": "clip", "engine": "onnxruntime-cpu", "passed": True, "other_top1": 0}
    assert kept(export_bench.judged_parity([row]))
    assert not kept(export_bench.judged_parity([row, {**row, "passed": False}]))
    assert not kept(export_bench.judged_parity([row, {**row, "other_top1": 1}]))
    text = {"ratio": 6.5, "relative_difference": 1e-6}
    assert kept(export_bench.judged_text([text]))
    assert not kept(export_bench.judged_text([{**text, "ratio": 1.0}]))
    assert not kept(export_bench.judged_text([{**text, "relative_difference": 0.5}]))


def test_the_attention_bench_wants_the_same_features_faster() -> None:
    rows = [
        {"model": "a", "runtime": "onnxruntime-cpu", "cosine": 0.999999, "ratio": 1.1},
        {"model": "b", "runtime": "onnxruntime-cpu", "cosine": 0.999999, "ratio": 0.99},
        {"model": "a", "runtime": "openvino-bf16", "cosine": 0.9998, "ratio": 1.2},
    ]
    assert kept(attention_bench.judged(rows))
    assert not kept(attention_bench.judged([{**row, "ratio": 1 / row["ratio"]} for row in rows]))
    assert not kept(attention_bench.judged([{**row, "cosine": 0.9} for row in rows]))


def test_the_request_bench_wants_their_logits_and_less_time() -> None:
    agreed = [{"engine": "onnxruntime-cpu", "largest_difference": 1e-4}]
    times = {"ours": 200.0, "documented": 2400.0, "texts kept": 1200.0, "bf16": 1000.0, "bf16, texts kept": 420.0}
    results, rest = [{"clip": "a.mp4", "ms": times}], [{"clip": "a.mp4", "server_ms": 4.1}]
    assert kept(request_bench.judged(agreed, results, rest))
    assert not kept(request_bench.judged([{**agreed[0], "largest_difference": 3.0}], results, rest))
    assert not kept(request_bench.judged(agreed, [{"clip": "a.mp4", "ms": {**times, "ours": 2400.0}}], rest))
    assert not kept(request_bench.judged(agreed, [{"clip": "a.mp4", "ms": {**times, "ours": 230.0}}], rest))
    assert not kept(request_bench.judged(agreed, results, [{"clip": "a.mp4", "server_ms": 5.7}]))


def test_the_starter_bench_wants_its_share_and_a_start() -> None:
    assert kept(starter_bench.judged(52.0, 0.6, 2.5))
    assert not kept(starter_bench.judged(156.0, 0.6, 2.5))
    assert not kept(starter_bench.judged(52.0, 0.6 / 3, 2.5))
    assert not kept(starter_bench.judged(52.0, 0.6, 5.5))


def test_the_stored_bench_wants_exact_answers_in_time() -> None:
    assert kept(stored_bench.judged(1.4, 0.12, 1e-6, 1.0))
    for figures in ((14.0, 0.12, 1e-6, 1.0), (1.4, 0.3, 1e-6, 1.0), (1.4, 0.12, 0.01, 1.0), (1.4, 0.12, 1e-6, 0.99)):
        assert not kept(stored_bench.judged(*figures))


def test_every_benchmark_asserts_its_promise() -> None:
    benches = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "bench").glob("*_bench.py")}
    assert len(benches) > 10
    assert [name for name, text in benches.items() if "settle(" not in text] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_bench_runs_all_and_names_the_broken(tmp_path: Path) -> None:
    """With stand-ins for the interpreter and what `make` installs: one benchmark of two ends with 1."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "tests" / "bench").mkdir(parents=True)
    for name in ("good", "bad", "other"):
        (tmp_path / "tests" / "bench" / f"{name}_bench.py").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "ran $2"\ntest "$2" != tests.bench.bad_bench\n')
    python.chmod(0o755)
    left = subprocess.run(
        ["make", "bench", "--old-file=everything", "--old-file=triton"], cwd=tmp_path, capture_output=True, text=True
    )
    assert sorted(line for line in left.stdout.splitlines() if line.startswith("ran ")) == [
        f"ran tests.bench.{name}_bench" for name in ("bad", "good", "other")
    ]
    assert left.returncode != 0 and "broken promises: bad_bench" in left.stdout


def test_the_overload_bench_wants_answers_refusals_memory_and_recovery() -> None:
    good = overload_bench.Figures(
        peak_per_second=15.0, answers_per_second=14.2, offered_per_second=300.0, statuses={"200": 400, "503": 8000},
        slowest_answer_seconds=5.0, refusal_p95_ms=12.0, answer_p95_ms=4000.0, peak_mib=400.0, overload_mib=450.0,
        recovery_seconds=0.3,
    )  # fmt: skip
    assert kept(overload_bench.promises_of(good))
    for changes in (
        {"answers_per_second": 11.4}, {"refusal_p95_ms": 570.0}, {"refusal_p95_ms": float("nan")},
        {"overload_mib": 1200.0}, {"recovery_seconds": 3.0}, {"slowest_answer_seconds": 61.0},
        {"statuses": {"200": 400, "500": 1}}, {"statuses": {"200": 400, "lost": 1}},
    ):  # fmt: skip
        assert not kept(overload_bench.promises_of(replace(good, **changes)))
