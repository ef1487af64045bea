"""`actserve batch`: results, errors, later runs, and what is refused."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from serve.batch.folder import lock_folder
from serve.cli.main import main
from tests.serve.batch.conftest import LABELS, lines

Run = Callable[..., tuple[int, dict[str, Any], str]]


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def written(archive: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a classification with features and lines."""
    out = tmp_path_factory.mktemp("batch") / "out"
    words = ("--labels", LABELS, "--options", '{"num_clips": 2}', "--features", "--format", "both", "--part-size", 2)
    status, counts, errors = run(archive / "list.txt", "--out", out, *words)
    assert status == 1
    assert {name: counts[name] for name in ("total", "completed", "failed", "completed_before", "num_rows")} == {
        "total": 6, "completed": 4, "failed": 2, "completed_before": 0, "num_rows": 8,
    }  # fmt: skip
    assert "6 of 6 inputs, 2 failed" in errors
    return out


def test_results_are_those_of_classify(written: Path, archive: Path) -> None:
    by_index = {line["index"]: line for line in lines(written, "jsonl")}
    assert sorted(by_index) == [0, 1, 2, 3]
    table = parquet.read_table(written / "results").to_pylist()
    assert sorted((row["index"], row["clip"], row["crop"]) for row in table) == [
        (index, clip, 0) for index in range(4) for clip in (0, 1)
    ]
    videos = [str(archive / f"{index}.mp4") for index in range(4)]
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        main(["classify", *videos, "--labels", LABELS, "--clips", "2", "--model", "demo", "--json"])
    assert len(printed.getvalue().splitlines()) == 4
    for direct in map(json.loads, printed.getvalue().splitlines()):
        line = by_index[direct["index"]]
        assert (line["input"], line["kind"], line.keys()) == (direct["input"], "classify", direct.keys())
        assert line["result"].keys() == direct["result"].keys()
        assert line["result"]["video_id"] is None
        for found, expected in zip(line["result"]["results"], direct["result"]["results"], strict=True):
            assert found["label"] == expected["label"]
            assert found["cosine"] == pytest.approx(expected["cosine"], abs=1e-3)  # rounded features, see stored videos
        for row in (row for row in table if row["index"] == line["index"]):
            assert row["input"] == line["input"]
            assert row["labels"] == [item["label"] for item in line["result"]["results"]]
            assert row["logits"] == [item["logit"] for item in line["result"]["results"]]
            assert len(row["video_features"]) == 128


def test_bad_inputs_have_lines_with_their_problems(written: Path, archive: Path) -> None:
    problems = {line["input"]: line["problem"]["type"] for line in lines(written, "errors")}
    assert problems == {
        str(archive / "broken.mp4"): "/problems/unsupported-media",
        str(archive / "absent.mp4"): "/problems/fetch-failed",
    }


SAME = ("--labels", LABELS, "--options", '{"num_clips": 2}', "--features", "--format", "both")


def test_another_run_does_only_what_is_new(written: Path, archive: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(written, out)
    (out / "results" / "part-000009.parquet").write_bytes(b"killed before its commit")
    (out / "jsonl" / ".part-000009.jsonl.0123456789ab.part").write_bytes(b"killed while it was written")
    added = tmp_path / "added.mp4"
    shutil.copy(archive / "0.mp4", added)
    status, counts, _ = run(archive / "list.txt", added, "--out", out, *SAME)
    assert status == 1, "earlier errors count"
    assert (counts["completed"], counts["failed"], counts["completed_before"], counts["failed_before"]) == (1, 0, 4, 2)
    before, after = content(written), content(out)
    assert {name: after[name] for name in before if name != "inputs.jsonl"} == {
        name: value for name, value in before.items() if name != "inputs.jsonl"
    }
    assert [line["index"] for line in lines(out, "jsonl")][-1] == 6
    assert not [name for name in after if "part-000009" in name]
    (out / "jsonl" / "part-000000.jsonl").unlink()
    status, _, errors = run(added, "--out", out, *SAME)
    assert status == 2
    assert "part-000000.jsonl is missing; delete" in errors


def test_errors_are_tried_again_on_request(archive: Path, run: Run, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    (tmp_path / "list.txt").write_text(f"{archive / '0.mp4'}\n{late}\n")
    words = (tmp_path / "list.txt", "--out", tmp_path / "out", "--kind", "embed")
    status, counts, _ = run(*words)
    assert (status, counts["completed"], counts["failed"]) == (1, 1, 1)
    shutil.copy(archive / "1.mp4", late)
    status, counts, _ = run(*words, "--retry-errors")
    assert (status, counts["completed"], counts["failed"], counts["completed_before"]) == (0, 1, 0, 1)
    assert lines(tmp_path / "out", "errors") == []
    table = parquet.read_table(tmp_path / "out" / "results")
    assert sorted(table["index"].to_pylist()) == [0, 1]
    assert {len(embedding) for embedding in table["embedding"].to_pylist()} == {128}


def test_a_timeline_has_windows_and_segments(archive: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, counts, _ = run(
        archive / "0.mp4", "--out", out, "--kind", "timeline", "--labels", LABELS, "--format", "both"
    )
    (line,) = lines(out, "jsonl")
    windows = line["result"]["windows"]
    assert (status, counts["num_rows"]) == (0, len(windows))
    table = parquet.read_table(out / "results").to_pylist()
    for number, (row, window) in enumerate(zip(table, windows, strict=True)):
        assert (row["window"], row["start_seconds"], row["end_frame"]) == (
            number, window["start_seconds"], window["end_frame"],
        )  # fmt: skip
        assert row["scores"] == [item["score"] for item in window["results"]]
    segments = [
        {name: value for name, value in row.items() if name not in ("index", "input")}
        for row in parquet.read_table(out / "segments").to_pylist()
    ]
    assert segments == line["result"]["segments"]


def test_other_settings_are_refused(written: Path, archive: Path, run: Run) -> None:
    before = content(written)
    status, _, errors = run(archive, "--out", written, *SAME, "--options", '{"num_clips": 1}')
    assert status == 2
    assert "options.num_clips was 2 and is 1" in errors
    assert content(written) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--options", '{"store": true}'), "actserve videos import"),
        (("--features", "--kind", "embed"), "embed writes embeddings"),
        (("--features", "--format", "jsonl"), "--features needs --format"),
        (("--kind", "timeline", "--options", '{"view": "segments"}'), "'both'"),
        (("--kind", "timeline", "--options", '{"relevance": true}'), "relevance"),
        (("--kind", "embed", "--labels", "a,b"), "candidate_labels"),
        (("--options", '{"top_k": 0}'), "top_k"),
        (("--options", "[]"), "object"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_without_effect_are_refused(
    words: tuple[str, ...], message: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(archive, "--out", tmp_path / "out", *words, capsys=capsys)
    assert not (tmp_path / "out").exists()


def refused(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that ends with 2."""
    with pytest.raises(SystemExit) as end:
        main(["batch", *map(str, words)])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_folders_of_others_are_refused(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not empty" in refused(archive, "--out", archive, capsys=capsys)
    (tmp_path / "manifest.json").write_text("{}")
    with lock_folder(tmp_path):
        assert "another command of actserve uses" in refused(archive, "--out", tmp_path, capsys=capsys)
    assert "is not a folder" in refused(archive, "--out", archive / "0.mp4", capsys=capsys)
    assert (tmp_path / "manifest.json").read_text() == "{}"
