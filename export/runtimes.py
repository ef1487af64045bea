"""The runtimes that can serve an exported graph, each as a function from named input arrays to named output arrays.

OpenVINO's precision is always set explicitly, because its default is bf16 on processors that support it.
"""

import ctypes
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
GraphFunction = Callable[[Arrays], dict[str, Float32Array]]
RuntimeLoader = Callable[[Path], GraphFunction]

GPU_PROVIDERS = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}
PROVIDER_SETTINGS = {
    "CUDAExecutionProvider": {"use_tf32": "0"},  # TF32 has a mantissa of 10 bits
    # the same settings as the TensorRT accelerator of Triton
    "TensorrtExecutionProvider": {"trt_fp16_enable": "1", "trt_layer_norm_fp32_fallback": "1"},
}
TENSORRT_LIBRARY = "libnvinfer.so.10"


def available_runtimes() -> tuple[dict[str, RuntimeLoader], dict[str, str]]:
    """Return the loader of each available runtime, and why each other one is unavailable; keys are engine names."""
    loaders: dict[str, RuntimeLoader] = {
        "onnxruntime-cpu": partial(_load_onnxruntime, provider="CPUExecutionProvider"),
        "openvino-f32": partial(_load_openvino, precision="f32"),
    }
    unavailable = {}
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        loaders["openvino-bf16"] = partial(_load_openvino, precision="bf16")
    else:
        unavailable["openvino-bf16"] = "the processor of the exporting machine does not support bf16"
    for name, provider in GPU_PROVIDERS.items():
        reason = _unavailable_reason(provider)
        if reason:
            unavailable[name] = reason
        else:
            loaders[name] = partial(_load_onnxruntime, provider=provider)
    return loaders, unavailable


def _unavailable_reason(provider: str) -> str:
    """Return why a provider cannot be used on this machine, or an empty string."""
    if not Path("/dev/nvidia0").exists():
        return "the exporting machine has no NVIDIA device"
    if provider not in onnxruntime.get_available_providers():
        return f"this onnxruntime was built without {provider}"
    if provider == "TensorrtExecutionProvider":
        try:
            ctypes.CDLL(TENSORRT_LIBRARY)
        except OSError as error:
            return f"TensorRT is not installed: {error}"
    return ""


def _load_onnxruntime(path: Path, *, provider: str) -> GraphFunction:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    settings = PROVIDER_SETTINGS.get(provider, {})
    session = onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"requested onnxruntime's {provider}, but it selected {session.get_providers()[0]}")
    names = [item.name for item in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _load_openvino(path: Path, *, precision: str) -> GraphFunction:
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": precision})

    def run(inputs: Arrays) -> dict[str, Float32Array]:
        results = compiled(dict(inputs))
        return {item.get_any_name(): np.array(results[item], np.float32) for item in compiled.outputs}

    return run
