"""Build and check the TensorRT engines of a version: `model.plan` next to each `model.onnx`, and its configuration."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray

from export.errors import ExportError, ParityError
from export.triton_config import MAX_TEXT_BATCH, MAX_VIDEO_BATCH
from export.trt.building import Precision, build_plan, run_plan
from export.trt.machine import detect_machine, load_tensorrt
from export.trt.operators import SOURCE, find_unsupported
from export.trt.profiles import Profile, make_graph_profiles
from export.trt.serving import CONFIG_FILE, PLAN_FILE, WORKSPACE_BYTES, plan_config
from export.trt.sidecar import Machine, Sidecar, check_engine, onnx_hashes, sidecar_path, write_sidecar
from export.verification import read_golden
from serve.contract import GraphContract, ModelContract
from serve.files import file_sha256
from serve.parity import FULL_PRECISION_TOLERANCE, HALF_PRECISION_COSINE, ArrayDifference, compare
from serve.repository import verify_files

Component = Literal["text", "video"]
INPUTS: Mapping[Component, str] = {"text": "tokens", "video": "frames"}
TIMING_CACHE = Path("~/.cache/actserve/tensorrt.timing")


@dataclass(frozen=True, kw_only=True)
class EngineTarget:
    """One of the two graphs that Triton serves, and its plan."""

    component: Component
    graph: GraphContract
    onnx_file: Path
    profiles: tuple[Profile, ...]
    max_batch_size: int

    @property
    def plan(self) -> Path:
        """Path of the plan, next to the ONNX file."""
        return self.onnx_file.with_name(PLAN_FILE)


def make_targets(
    repository: Path, contract: ModelContract, *, max_views: int = MAX_VIDEO_BATCH, max_prompts: int = MAX_TEXT_BATCH
) -> Iterator[EngineTarget]:
    """Yield the text and the video graph of a version."""
    limits: Mapping[Component, int] = {"text": max_prompts, "video": max_views}
    for component, limit in limits.items():
        graph = contract.graphs[component]
        yield EngineTarget(
            component=component,
            graph=graph,
            onnx_file=repository / graph.file,
            profiles=make_graph_profiles(graph, max_batch_size=limit, text=contract.text),
            max_batch_size=limit,
        )


def write_configs(repository: Path, name: str, engine_targets: list[EngineTarget]) -> list[Path]:
    """Write `configs/tensorrt.pbtxt` for both Triton models, which applies to all their versions; return the files."""
    written = []
    for target in engine_targets:
        model = f"{name}_{target.component}"
        path = repository / model / CONFIG_FILE
        path.parent.mkdir(exist_ok=True)
        text = plan_config(model, target.graph, profiles=target.profiles, max_batch_size=target.max_batch_size)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def check_engines(engine_targets: list[EngineTarget]) -> list[Sidecar]:
    """Check that each plan exists and can run on this machine; return the sidecars.

    Raises:
        ExportError: a plan does not exist.
        EngineMismatch: a plan was built for another machine or from another ONNX file.
    """
    machine, _ = detect_machine()
    missing = [str(target.plan) for target in engine_targets if not target.plan.is_file()]
    if missing:
        raise ExportError(f"plans are missing: {', '.join(missing)}; build them with `python -m export tensorrt`")
    return [check_engine(target.plan, target.graph, machine) for target in engine_targets]


def build_engines(
    repository: Path,
    contract: ModelContract,
    engine_targets: list[EngineTarget],
    *,
    precision: Precision,
    rebuild: bool,
) -> list[Sidecar]:
    """Build missing plans, or all if `rebuild` is set; existing plans must be valid for this machine.

    A plan is stored only if its outputs match torch's on the parity clips.

    Raises:
        EngineMismatch: an existing plan was built for another machine or from another ONNX file.
        ExportError: TensorRT or a GPU is missing, TensorRT does not support a graph, or it finds no engine for it.
        ParityError: the outputs of an engine differ from torch's by more than the tolerance.
    """
    verify_files(contract, repository)
    machine, missing = detect_machine()
    existing = [] if rebuild else [target for target in engine_targets if target.plan.exists()]
    for target in existing:
        check_engine(target.plan, target.graph, machine)
    if machine is None:
        raise ExportError(f"cannot build TensorRT engines on this machine; missing: {'; '.join(missing)}")
    golden = read_golden(repository, contract)
    for target in engine_targets:
        if target not in existing:
            _build(target, golden, machine=machine, precision=precision)
    return [check_engine(target.plan, target.graph, machine) for target in engine_targets]


def check_operators(target: EngineTarget) -> None:
    """Check that TensorRT supports the operators and data types of a graph, according to its documentation.

    Raises:
        ExportError: an operator or data type is not supported; the message lists all of them.
    """
    unsupported = find_unsupported(onnx.load(target.onnx_file, load_external_data=False))
    if unsupported:
        raise ExportError(f"TensorRT does not support {target.graph.file} ({SOURCE}): {'; '.join(unsupported)}")


def _build(target: EngineTarget, golden: Mapping[str, NDArray[Any]], *, machine: Machine, precision: Precision) -> None:
    check_operators(target)
    tensorrt, _ = load_tensorrt()
    plan = build_plan(
        tensorrt,
        target.onnx_file,
        profiles=target.profiles,
        precision=precision,
        workspace_bytes=WORKSPACE_BYTES,
        timing_cache=TIMING_CACHE.expanduser(),
    )
    name = INPUTS[target.component]
    outputs = run_plan(tensorrt, plan, {name: golden[name]})
    differences = {key: compare(output, golden[key]) for key, output in outputs.items()}
    check_parity(target.graph.file, differences, precision=precision)
    partial = target.plan.with_suffix(".part")
    partial.write_bytes(plan)
    sidecar = Sidecar(
        machine=machine,
        precision=precision,
        profiles=tuple(asdict(item) for item in target.profiles),
        onnx=onnx_hashes(target.graph),
        plan_sha256=file_sha256(partial),
        parity={key: asdict(item) for key, item in differences.items()},
    )
    sidecar_path(target.plan).unlink(missing_ok=True)
    partial.replace(target.plan)  # after a crash here the sidecar is missing, so the plan is rejected
    write_sidecar(target.plan, sidecar)


def check_parity(file: str, differences: Mapping[str, ArrayDifference], *, precision: Precision) -> None:
    """Check the differences between a plan and torch against the tolerance for the precision.

    Raises:
        ParityError: a difference is too large.
    """
    for name, item in differences.items():
        is_close = (
            item.lowest_cosine >= HALF_PRECISION_COSINE
            if precision == "fp16"
            else item.relative_difference <= FULL_PRECISION_TOLERANCE
        )
        if not is_close:
            raise ParityError(
                f"the {precision} engine of {file} differs from torch in {name}: relative difference "
                f"{item.relative_difference:.2e}, lowest cosine {item.lowest_cosine:.5f}"
            )
