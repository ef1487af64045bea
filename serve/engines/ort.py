"""Run graphs with onnxruntime, on its CPU, CUDA or TensorRT provider."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Float32Array
from serve.errors import ContractError, EngineFailure

NUMPY_NAMES = {"tensor(uint8)": "uint8", "tensor(int64)": "int64", "tensor(float)": "float32"}
PROVIDERS = {
    "onnxruntime-cpu": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}


class OrtSession:
    """One graph on one provider; a fallback to another provider raises `ContractError`."""

    def __init__(self, path: Path, engine_name: str, *, threads: int, cache_dir: Path) -> None:
        import onnxruntime  # slow to import, so it is imported only when a graph is loaded

        provider = PROVIDERS[engine_name]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=[(provider, provider_options(engine_name, cache_dir))]
            )
        except Exception as error:  # onnxruntime raises exceptions without a common base class
            raise ContractError(f"onnxruntime cannot load {path.name} with {provider}: {error}") from error
        if self._session.get_providers()[0] != provider:
            raise ContractError(
                f"onnxruntime fell back to {self._session.get_providers()[0]}, because {provider} is not available; "
                "set SERVE_ENGINE to another engine",
                field="engine", expected=provider, found=self._session.get_providers()[0],
            )  # fmt: skip
        self._outputs = [item.name for item in self._session.get_outputs()]

    def input_shapes(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        return {
            item.name: (
                NUMPY_NAMES.get(item.type, item.type),
                tuple(axis if isinstance(axis, int) else None for axis in item.shape),
            )
            for item in self._session.get_inputs()
        }

    def output_names(self) -> tuple[str, ...]:
        return tuple(self._outputs)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise EngineFailure(f"onnxruntime failed: {error}") from error
        return {name: np.asarray(value, np.float32) for name, value in zip(self._outputs, outputs, strict=True)}


def provider_options(engine_name: str, cache_dir: Path) -> dict[str, str]:
    """Return the options of the provider; compiled TensorRT engines are cached in `cache_dir`."""
    if engine_name != "onnxruntime-tensorrt":
        return {}
    return {
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache_dir / "tensorrt"),
    }


def has_cuda_device() -> bool:
    """Return whether an NVIDIA device and onnxruntime's CUDA provider are both present."""
    import onnxruntime

    return Path("/dev/nvidia0").exists() and "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def runtime_version() -> str:
    """Return the name and version of the library, which are part of the key of cached parity results."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"
