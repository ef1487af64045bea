"""The TensorRT engines of a version: `model.plan` beside each `model.onnx`, and the configuration that serves them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray

from export.errors import ExportError, ParityError
from export.triton_config import MAX_TEXT_BATCH, MAX_VIDEO_BATCH
from export.trt.building import Precision, build_plan, run_plan
from export.trt.machine import load_tensorrt, this_machine
from export.trt.operators import SOURCE, obstacles
from export.trt.profiles import Profile, graph_profiles
from export.trt.serving import PLAN_FILE, VARIANT, WORKSPACE_BYTES, plan_config
from export.trt.sidecar import Machine, Sidecar, check_engine, onnx_hashes, sidecar_path, write_sidecar
from export.verification import read_golden
from serve.contract import GraphContract, ModelContract
from serve.files import file_sha256
from serve.parity import FULL_PRECISION_TOLERANCE, HALF_PRECISION_COSINE, ArrayDifference, compare
from serve.repository import verify_files

Part = Literal["text", "video"]
INPUTS: Mapping[Part, str] = {"text": "tokens", "video": "frames"}
TIMING_CACHE = Path("~/.cache/actserve/tensorrt.timing")


@dataclass(frozen=True, kw_only=True)
class EngineTarget:
    """One of the two graphs that Triton serves, with its plan."""

    part: Part
    graph: GraphContract
    onnx_file: Path
    profiles: tuple[Profile, ...]
    max_batch_size: int

    @property
    def plan(self) -> Path:
        """Path of the plan, beside the ONNX file."""
        return self.onnx_file.with_name(PLAN_FILE)


def targets(
    repository: Path, contract: ModelContract, *, max_views: int = MAX_VIDEO_BATCH, max_prompts: int = MAX_TEXT_BATCH
) -> Iterator[EngineTarget]:
    """Return the text and the video graph of a version."""
    limits: Mapping[Part, int] = {"text": max_prompts, "video": max_views}
    for part, limit in limits.items():
        graph = contract.graphs[part]
        yield EngineTarget(
            part=part,
            graph=graph,
            onnx_file=repository / graph.file,
            profiles=graph_profiles(graph, max_batch_size=limit, text=contract.text),
            max_batch_size=limit,
        )


def write_variants(repository: Path, name: str, parts: list[EngineTarget]) -> list[Path]:
    """Write `configs/tensorrt.pbtxt` of both models; it applies to every version of the name."""
    written = []
    for target in parts:
        model = f"{name}_{target.part}"
        path = repository / model / VARIANT
        path.parent.mkdir(exist_ok=True)
        text = plan_config(model, target.graph, profiles=target.profiles, max_batch_size=target.max_batch_size)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def check_engines(parts: list[EngineTarget]) -> list[Sidecar]:
    """Return the sidecars of all plans; require that each plan exists and fits this machine.

    Raises:
        ExportError: a plan does not exist.
        ForeignEngine: a plan was built for another machine or from another ONNX file.
    """
    machine, _ = this_machine()
    absent = [str(target.plan) for target in parts if not target.plan.is_file()]
    if absent:
        raise ExportError(f"not built: {', '.join(absent)}")
    return [check_engine(target.plan, target.graph, machine) for target in parts]


def build_engines(
    repository: Path, contract: ModelContract, parts: list[EngineTarget], *, precision: Precision, rebuild: bool
) -> list[Sidecar]:
    """Build missing plans, or all with `rebuild`; existing plans must fit this machine.

    A plan is kept only if its features match torch's on the parity clips.

    Raises:
        ForeignEngine: an existing plan was built for another machine or from another ONNX file.
        ExportError: TensorRT or a GPU is missing (each named), TensorRT does not support a graph, or finds no engine
            for it.
        ParityError: an engine differs from torch by more than the tolerance.
    """
    verify_files(contract, repository)
    machine, missing = this_machine()
    kept = [] if rebuild else [target for target in parts if target.plan.exists()]
    for target in kept:
        check_engine(target.plan, target.graph, machine)
    if machine is None:
        raise ExportError(f"no TensorRT engine can be built here; missing: {'; '.join(missing)}")
    golden = read_golden(repository, contract)
    for target in parts:
        if target not in kept:
            _build(target, golden, machine=machine, precision=precision)
    return [check_engine(target.plan, target.graph, machine) for target in parts]


def require_operators(target: EngineTarget) -> None:
    """Refuse a graph with operators or data types that TensorRT's documentation does not list.

    Raises:
        ExportError: names each of them.
    """
    found = obstacles(onnx.load(target.onnx_file, load_external_data=False))
    if found:
        raise ExportError(f"TensorRT does not take {target.graph.file} ({SOURCE}): {'; '.join(found)}")


def _build(target: EngineTarget, golden: Mapping[str, NDArray[Any]], *, machine: Machine, precision: Precision) -> None:
    require_operators(target)
    tensorrt, _ = load_tensorrt()
    plan = build_plan(
        tensorrt,
        target.onnx_file,
        profiles=target.profiles,
        precision=precision,
        workspace_bytes=WORKSPACE_BYTES,
        timing_cache=TIMING_CACHE.expanduser(),
    )
    name = INPUTS[target.part]
    outputs = run_plan(tensorrt, plan, {name: golden[name]})
    figures = {key: compare(found, golden[key]) for key, found in outputs.items()}
    require_figures(target.graph.file, figures, precision=precision)
    partial = target.plan.with_suffix(".part")
    partial.write_bytes(plan)
    sidecar = Sidecar(
        machine=machine,
        precision=precision,
        profiles=tuple(asdict(item) for item in target.profiles),
        onnx=onnx_hashes(target.graph),
        plan_sha256=file_sha256(partial),
        parity={key: asdict(item) for key, item in figures.items()},
    )
    sidecar_path(target.plan).unlink(missing_ok=True)
    partial.replace(target.plan)  # a crash here leaves a plan without a sidecar, which is refused
    write_sidecar(target.plan, sidecar)


def require_figures(file: str, figures: Mapping[str, ArrayDifference], *, precision: Precision) -> None:
    """Compare a plan's figures with the tolerances of its precision.

    Raises:
        ParityError: names the array and its figures.
    """
    for name, item in figures.items():
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
