"""`python -m export tensorrt`: foreign engines are refused by name, and what a machine lacks is said.

The building of engines itself needs a GPU and is not run here.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from export.__main__ import main
from export.errors import ExportError, ParityError
from export.trt import engines
from export.trt.engines import check_operators, check_parity, make_targets
from export.trt.machine import detect_machine, load_tensorrt
from export.trt.serving import CONFIG_FILE
from export.trt.sidecar import (
    EngineMismatch,
    Machine,
    Sidecar,
    check_engine,
    onnx_hashes,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)
from serve.files import file_sha256
from serve.parity import ArrayDifference
from tests.export.conftest import NAME, Exported, make_contract
from tests.models import FAMILIES

ELSEWHERE = Machine(gpu="NVIDIA L4", compute_capability="8.9", tensorrt="10.9.0.34")
HAS_GPU = torch.cuda.is_available()


def run(repository: Path, *arguments: str) -> None:
    command = ["tensorrt", NAME, "--repository", str(repository), *arguments]
    main(command)


def place_plan(repository: Path, machine: Machine = ELSEWHERE) -> list[Path]:
    """Plans as another machine would have left them."""
    contract = make_contract(repository)
    plans = []
    for target in make_targets(repository, contract):
        target.plan.write_bytes(b"an engine of another machine")
        sidecar = Sidecar(
            machine=machine,
            precision="fp16",
            profiles=tuple(asdict(item) for item in target.profiles),
            onnx=onnx_hashes(target.graph),
            plan_sha256=file_sha256(target.plan),
            parity={"video_features": {"lowest_cosine": 0.99999}},
        )
        write_sidecar(target.plan, sidecar)
        plans.append(target.plan)
    return plans


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
def test_what_is_missing_is_named_and_the_variants_are_there(
    copied: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = copied("clip")
    with pytest.raises(SystemExit) as stop:
        run(repository)
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert "missing: the package tensorrt" in printed.err
    assert f"torch {torch.__version__}, built with" in printed.err
    for part in ("text", "video"):
        assert (repository / f"{NAME}_{part}" / CONFIG_FILE).is_file()
        assert f"{NAME}_{part}/{CONFIG_FILE}" in printed.out
    assert not list(repository.rglob("model.plan*"))


def test_a_check_says_which_plans_are_not_there(copied: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copied("clip")
    with pytest.raises(SystemExit):
        run(repository, "--check")
    assert f"plans are missing: {repository}/{NAME}_text/1/model.plan" in capsys.readouterr().err
    assert not (repository / f"{NAME}_video" / CONFIG_FILE).exists(), "a check writes nothing"


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["build", "check"])
def test_a_foreign_engine_is_refused(
    copied: Exported, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    repository = copied("clip")
    plans = place_plan(repository)
    with pytest.raises(SystemExit) as stop:
        run(repository, *arguments)
    assert stop.value.code == 1
    printed = capsys.readouterr().err
    assert "cannot be used: it was built for NVIDIA L4 (compute capability 8.9) and TensorRT 10.9.0.34" in printed
    assert "--rebuild" in printed
    assert all(plan.read_bytes() == b"an engine of another machine" for plan in plans), "nothing was replaced"


def test_each_difference_is_reported(copied: Exported) -> None:
    repository = copied("clip")
    plan = place_plan(repository)[0]
    graph = make_contract(repository).graphs["text"]
    assert check_engine(plan, graph, ELSEWHERE).machine == ELSEWHERE
    for other in (
        replace(ELSEWHERE, gpu="NVIDIA H100"),
        replace(ELSEWHERE, compute_capability="9.0"),
        replace(ELSEWHERE, tensorrt="10.13.0"),
    ):
        with pytest.raises(EngineMismatch, match="this machine has NVIDIA"):
            check_engine(plan, graph, other)
    with pytest.raises(EngineMismatch, match=r"than the one in the contract"):
        check_engine(plan, replace(graph, sha256="0" * 64), ELSEWHERE)
    with pytest.raises(EngineMismatch, match=r"than the one in the contract"):
        check_engine(plan, replace(graph, external_sha256=("0" * 64,)), ELSEWHERE)
    plan.write_bytes(b"an engine of another machinf")
    with pytest.raises(EngineMismatch, match="changed after it was built"):
        check_engine(plan, graph, ELSEWHERE)


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"machine": {"gpu": 1, "compute_capability": "", "tensorrt": ""}}']
)
def test_a_plan_of_unknown_origin_is_refused(copied: Exported, text: str | None) -> None:
    plan = place_plan(copied("clip"))[0]
    sidecar_path(plan).unlink()
    if text is not None:
        sidecar_path(plan).write_text(text)
    with pytest.raises(EngineMismatch, match=r"model\.plan\.json"):
        read_sidecar(plan)


def test_a_sidecar_is_plain_json(copied: Exported) -> None:
    plan = place_plan(copied("clip"))[1]
    document = json.loads(sidecar_path(plan).read_text())
    assert document["machine"] == {"gpu": "NVIDIA L4", "compute_capability": "8.9", "tensorrt": "10.9.0.34"}
    assert document["profiles"][0]["largest"][0] == 64
    assert set(document["onnx"]) == {"tiny_video/1/model.onnx", "tiny_video/1/model.onnx.data"}
    assert read_sidecar(plan).precision == "fp16"


def test_a_changed_onnx_file_is_found_before_anything_is_built(
    copied: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = copied("clip")
    with (repository / f"{NAME}_video" / "1" / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(SystemExit):
        run(repository, "--rebuild")
    assert "sha256" in capsys.readouterr().err


def test_an_unknown_name_or_version_is_one_line(copied: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copied("clip")
    with pytest.raises(SystemExit):
        run(repository, "--version", "7")
    assert f"has no model '{NAME}@7'" in capsys.readouterr().err


def test_another_major_version_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name from an index of the operator's, whatever it is."""
    (tmp_path / "tensorrt.py").write_text("__version__ = '11.4.0'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "tensorrt", raising=False)
    found, reason = load_tensorrt()
    monkeypatch.delitem(__import__("sys").modules, "tensorrt", raising=False)
    assert found is None
    assert reason.startswith("TensorRT 10, found 11.4.0")


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_none() -> None:
    machine, missing = detect_machine()
    assert machine is None
    assert any("NVIDIA GPU" in reason for reason in missing)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "concepts"])
def test_the_graphs_to_build_hold_nothing_tensorrt_refuses(exported: Exported, family: str) -> None:
    repository = exported(family)
    for target in make_targets(repository, make_contract(repository)):
        check_operators(target)


def test_quantised_tables_that_tensorrt_does_not_take_are_named(exported: Exported) -> None:
    repository = exported("concepts")  # weights are 8-bit codes
    for target, table in zip(
        make_targets(repository, make_contract(repository)), ("text.piece_table", "visual.classifier"), strict=True
    ):
        with pytest.raises(ExportError, match=rf"{table}\.codes must be one of .*, got U?INT8"):
            check_operators(target)


def test_the_rule_of_a_precision_is_kept() -> None:
    near = ArrayDifference(relative_difference=3e-3, lowest_cosine=0.9999, largest_difference=0.1)
    far = ArrayDifference(relative_difference=3e-1, lowest_cosine=0.99, largest_difference=3.0)
    check_parity("x.onnx", {"video_features": near}, precision="fp16")
    for figures, precision in ((near, "fp32"), (far, "fp16")):
        with pytest.raises(ParityError, match="video_features"):
            check_parity("x.onnx", {"video_features": figures}, precision=precision)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(detect_machine()[0] is None, reason="no GPU with TensorRT 10 here")
def test_engines_are_built_and_give_torchs_features(copied: Exported, tmp_path: Path) -> None:
    repository = copied("actionclip")
    contract = make_contract(repository)
    parts = list(make_targets(repository, contract, max_views=8, max_prompts=16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "TIMING_CACHE", tmp_path / "timing")
        built = engines.build_engines(repository, contract, parts, precision="fp16", rebuild=False)
        again = engines.build_engines(repository, contract, parts, precision="fp16", rebuild=False)
    assert built == again == engines.check_engines(parts)
    with pytest.raises(ExportError, match="cannot be used"):
        check_engine(parts[0].plan, parts[0].graph, ELSEWHERE)
