"""The runtimes that serve an exported graph, each as a function from tensors to tensors.

OpenVINO's precision is always asked for: its own default is bf16 on processors that have it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
from numpy.typing import NDArray

from serve.arrays import Float32Array

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], dict[str, Float32Array]]
Load = Callable[[Path], Run]


def available_runtimes() -> tuple[dict[str, Load], dict[str, str]]:
    """(label -> loader, label -> why it is not there) on this machine; labels are those of serve's engines."""
    loaders: dict[str, Load] = {
        "onnxruntime-cpu": partial(_load_onnxruntime, provider="CPUExecutionProvider"),
        "openvino-f32": partial(_load_openvino, precision="f32"),
    }
    absent = {}
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        loaders["openvino-bf16"] = partial(_load_openvino, precision="bf16")
    else:
        absent["openvino-bf16"] = "the exporting processor has no bf16"
    if Path("/dev/nvidia0").exists() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        loaders["onnxruntime-cuda"] = partial(_load_onnxruntime, provider="CUDAExecutionProvider")
    else:
        absent["onnxruntime-cuda"] = "the exporting machine has no NVIDIA device"
    return loaders, absent


def _load_onnxruntime(path: Path, *, provider: str) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    settings = {"use_tf32": "0"} if provider == "CUDAExecutionProvider" else {}  # TF32 keeps 10 bits of a product
    session = onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"asked onnxruntime for {provider}, it took {session.get_providers()[0]}")
    names = [item.name for item in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _load_openvino(path: Path, *, precision: str) -> Run:
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": precision})

    def run(inputs: Arrays) -> dict[str, Float32Array]:
        results = compiled(dict(inputs))
        return {item.get_any_name(): np.array(results[item], np.float32) for item in compiled.outputs}

    return run
