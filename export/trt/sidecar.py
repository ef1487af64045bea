"""`model.plan.json`: the source and target of a plan; a plan for another machine is refused.

A TensorRT plan runs only on the GPU model and TensorRT version that built it, and contains the weights of one ONNX
file. The ONNX file is the source of truth: an unsuitable plan is rebuilt.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from export.errors import ExportError
from serve.contract import GraphContract
from serve.files import file_sha256


class ForeignEngine(ExportError):
    """The plan was built for another machine, by another TensorRT version, or from another ONNX file."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPU and TensorRT version that a plan requires."""

    gpu: str  # its product name
    compute_capability: str  # e.g. "8.9"
    tensorrt: str  # version


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The facts of one plan."""

    machine: Machine
    precision: str  # "fp16" or "fp32"
    profiles: tuple[Mapping[str, Any], ...]
    onnx: Mapping[str, str]  # file of the ONNX graph and its data -> sha256
    plan_sha256: str
    parity: Mapping[str, Mapping[str, float]]  # array -> figures against torch, on that machine


def sidecar_path(plan: Path) -> Path:
    """Return the path of the sidecar, beside the plan."""
    return plan.with_name(f"{plan.name}.json")


def onnx_hashes(graph: GraphContract) -> dict[str, str]:
    """Return the sha256 of the files that a plan is built from, from the contract."""
    return {graph.file: graph.sha256, **dict(zip(graph.external_data, graph.external_sha256, strict=True))}


def write_sidecar(plan: Path, sidecar: Sidecar) -> None:
    """Write the sidecar beside the plan."""
    sidecar_path(plan).write_text(json.dumps(asdict(sidecar), indent=1) + "\n", encoding="utf-8")


def read_sidecar(plan: Path) -> Sidecar:
    """Read the sidecar of a plan.

    Raises:
        ForeignEngine: it is missing or malformed, so the origin of the plan is unknown.
    """
    path = sidecar_path(plan)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        machine = Machine(**document.pop("machine"))
        if not all(isinstance(getattr(machine, item.name), str) for item in fields(machine)):
            raise ValueError("a value of machine is not text")
        return Sidecar(machine=machine, **{**document, "profiles": tuple(document["profiles"])})
    except FileNotFoundError as error:
        raise ForeignEngine(f"{plan} has no {path.name}: what it was built from and for is unknown") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ForeignEngine(f"{path} cannot be read: {error}") from error


def check_engine(plan: Path, graph: GraphContract, machine: Machine | None) -> Sidecar:
    """Require that a plan on disk fits this machine (None: no GPU or no TensorRT) and this ONNX file.

    Raises:
        ForeignEngine: names each fact that differs.
    """
    sidecar = read_sidecar(plan)
    differences = []
    if sidecar.onnx != onnx_hashes(graph):
        differences.append(f"it was built from another {graph.file} than the contract names")
    if sidecar.plan_sha256 != file_sha256(plan):
        differences.append("the file is not the one that was built")
    if machine is None:
        differences.append(f"it was built for {_shown(sidecar.machine)}; this machine has no GPU with TensorRT")
    elif machine != sidecar.machine:
        differences.append(f"it was built for {_shown(sidecar.machine)}; this machine is {_shown(machine)}")
    if differences:
        raise ForeignEngine(f"{plan} is refused: {'; '.join(differences)}. Build it here, with --rebuild")
    return sidecar


def _shown(machine: Machine) -> str:
    return f"{machine.gpu} (compute capability {machine.compute_capability}) and TensorRT {machine.tensorrt}"
