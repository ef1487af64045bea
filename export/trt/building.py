"""Build TensorRT plans from ONNX files and run them (TensorRT 10). Not yet tested, because no GPU was available.

With fp16, normalisations and reductions stay in fp32, because their sums of squares exceed the range of fp16; TensorRT
recommends this for layer norms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import ExportError
from export.trt.profiles import Profile
from serve.arrays import Float32Array

Precision = Literal["fp16", "fp32"]
FULL_PRECISION_LAYERS = ("NORMALIZATION", "REDUCE")


class BuildError(ExportError):
    """TensorRT could not build an engine."""


def build_plan(
    tensorrt: Any,
    onnx_file: Path,
    *,
    profiles: tuple[Profile, ...],
    precision: Precision,
    workspace_bytes: int,
    timing_cache: Path,
) -> bytes:
    """Build a serialized engine; kernel timings are read from `timing_cache` and added to it.

    Raises:
        BuildError: the graph cannot be parsed, or TensorRT finds no engine for it.
    """
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):  # a path, so that external weights are found
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BuildError(f"TensorRT cannot read {onnx_file}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.add_optimization_make_profile(_make_profile(builder, profiles))
    _set_precision_(tensorrt, network, config, precision=precision)
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"TensorRT found no engine for {onnx_file}; see its log messages above")
    timing_cache.parent.mkdir(parents=True, exist_ok=True)
    timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def run_plan(tensorrt: Any, plan: bytes, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32Array]:
    """Run a plan once on the current GPU and return its outputs.

    Raises:
        BuildError: the plan cannot be loaded, a shape is outside its profile, or the run fails.
    """
    engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError("TensorRT cannot load the plan; see its log messages above")
    context = engine.create_execution_context()
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).cuda() for name, array in inputs.items()}
    for name, tensor in tensors.items():
        if not context.set_input_shape(name, tuple(tensor.shape)):
            raise BuildError(f"{name} of shape {tuple(tensor.shape)} is outside the profile of the plan")
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    outputs = {
        name: torch.empty(tuple(context.get_tensor_shape(name)), dtype=torch.float32, device="cuda")
        for name in names
        if name not in tensors
    }
    for name, tensor in {**tensors, **outputs}.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.current_stream()
    if not context.execute_async_v3(stream.cuda_stream):
        raise BuildError("TensorRT cannot run the plan; see its log messages above")
    stream.synchronize()
    return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}


def _make_profile(builder: Any, profiles: tuple[Profile, ...]) -> Any:
    profile = builder.create_optimization_profile()
    for item in profiles:
        profile.set_shape(item.input, item.smallest, item.usual, item.largest)
    return profile


def _set_precision_(tensorrt: Any, network: Any, config: Any, *, precision: Precision) -> None:
    if precision == "fp32":
        config.clear_flag(tensorrt.BuilderFlag.TF32)  # TF32 has a mantissa of 10 bits
        return
    config.set_flag(tensorrt.BuilderFlag.FP16)
    config.set_flag(tensorrt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    full_precision_types = {getattr(tensorrt.LayerType, name) for name in FULL_PRECISION_LAYERS}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if (
            layer.type in full_precision_types and layer.get_output(0).dtype == tensorrt.float32
        ):  # other dtypes are shape computations
            layer.precision = tensorrt.float32
            layer.set_output_type(0, tensorrt.float32)
