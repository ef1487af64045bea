"""Run graphs with OpenVINO's CPU plugin, in f32 or bf16.

The precision is always set explicitly, because OpenVINO defaults to bf16 on processors that support it.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Float32Array
from serve.errors import ContractError, EngineFailure

NUMPY_NAMES = {"u8": "uint8", "i64": "int64", "f32": "float32"}
PRECISION_HINTS = {"openvino-bf16": "bf16", "openvino-f32": "f32"}


class OpenVinoSession:
    """One compiled graph; `engine_name` selects the precision."""

    def __init__(self, path: Path, engine_name: str, *, threads: int, cache_dir: Path) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[engine_name],
            "PERFORMANCE_HINT": "LATENCY",
            # A separate folder per precision: bf16 returns NaN if an f32 graph of the file is cached (OpenVINO 2026.4).
            "CACHE_DIR": str(cache_dir / "openvino" / PRECISION_HINTS[engine_name]),
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
            self._request = self._compiled.create_infer_request()
        except Exception as error:  # OpenVINO raises exceptions without a common base class
            raise ContractError(f"OpenVINO cannot load {path.name}: {error}") from error
        self._outputs = [item.get_any_name() for item in self._compiled.outputs]

    def input_shapes(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        return {
            item.get_any_name(): (
                NUMPY_NAMES.get(item.get_element_type().get_type_name(), item.get_element_type().get_type_name()),
                tuple(axis.get_length() if axis.is_static else None for axis in item.get_partial_shape()),
            )
            for item in self._compiled.inputs
        }

    def output_names(self) -> tuple[str, ...]:
        return tuple(self._outputs)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        try:
            results = self._request.infer(dict(inputs), share_inputs=True)
        except Exception as error:
            raise EngineFailure(f"OpenVINO failed: {error}") from error
        return {
            name: np.array(results[output], np.float32)  # a copy, because the request reuses its buffers
            for name, output in zip(self._outputs, self._compiled.outputs, strict=True)
        }


@cache
def has_bf16() -> bool:
    """Return whether the processor supports bf16."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def runtime_version() -> str:
    """Return the name and version of the library, which are part of the key of cached parity results."""
    import openvino

    return f"openvino {openvino.__version__}"
