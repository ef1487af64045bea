"""`model.plan.json`, the sidecar of a plan: what the plan was built from, and for which machine.

A TensorRT plan runs only with the GPU model and TensorRT version that built it, and contains the weights of one ONNX
file. A plan that does not match is rejected and must be rebuilt from the ONNX file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from export.errors import ExportError
from serve.contract import GraphContract
from serve.files import file_sha256


class EngineMismatch(ExportError):
    """The plan was built for another machine, with another TensorRT version, or from another ONNX file."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPU model and TensorRT version that a plan requires."""

    gpu: str  # product name
    compute_capability: str  # e.g. "8.9"
    tensorrt: str  # version


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """How a plan was built, and its differences from torch."""

    machine: Machine
    precision: str  # "fp16" or "fp32"
    profiles: tuple[Mapping[str, Any], ...]
    onnx: Mapping[str, str]  # SHA-256 of the graph and its data files, by path
    plan_sha256: str
    parity: Mapping[str, Mapping[str, float]]  # by output: differences from torch on that machine


def sidecar_path(plan: Path) -> Path:
    """Return the path of the sidecar, next to the plan."""
    return plan.with_name(f"{plan.name}.json")


def onnx_hashes(graph: GraphContract) -> dict[str, str]:
    """Return the SHA-256 of the files that a plan is built from, according to the contract."""
    return {graph.file: graph.sha256, **dict(zip(graph.external_data, graph.external_sha256, strict=True))}


def write_sidecar(plan: Path, sidecar: Sidecar) -> None:
    """Write the sidecar next to the plan."""
    sidecar_path(plan).write_text(json.dumps(asdict(sidecar), indent=1) + "\n", encoding="utf-8")


def read_sidecar(plan: Path) -> Sidecar:
    """Read the sidecar of a plan.

    Raises:
        EngineMismatch: the sidecar is missing or malformed, so the origin of the plan is unknown.
    """
    path = sidecar_path(plan)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        machine = Machine(**document.pop("machine"))
        if not all(isinstance(getattr(machine, item.name), str) for item in fields(machine)):
            raise ValueError("the values of machine must be strings")
        return Sidecar(machine=machine, **{**document, "profiles": tuple(document["profiles"])})
    except FileNotFoundError as error:
        raise EngineMismatch(f"{plan} has no {path.name}, so its origin and target are unknown") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineMismatch(f"cannot read {path}: {error}") from error


def check_engine(plan: Path, graph: GraphContract, machine: Machine | None) -> Sidecar:
    """Check that a plan matches this machine (None: no GPU or no TensorRT) and its ONNX file; return the sidecar.

    Raises:
        EngineMismatch: something differs; the message lists the differences.
    """
    sidecar = read_sidecar(plan)
    differences = []
    if sidecar.onnx != onnx_hashes(graph):
        differences.append(f"it was built from a different {graph.file} than the one in the contract (SHA-256 differs)")
    if sidecar.plan_sha256 != file_sha256(plan):
        differences.append("the file was changed after it was built")
    if machine is None:
        differences.append(f"it was built for {_describe(sidecar.machine)}; this machine has no GPU with TensorRT")
    elif machine != sidecar.machine:
        differences.append(f"it was built for {_describe(sidecar.machine)}; this machine has {_describe(machine)}")
    if differences:
        raise EngineMismatch(
            f"{plan} cannot be used: {'; '.join(differences)}. Build it on this machine with --rebuild"
        )
    return sidecar


def _describe(machine: Machine) -> str:
    return f"{machine.gpu} (compute capability {machine.compute_capability}) and TensorRT {machine.tensorrt}"
