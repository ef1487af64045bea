"""Build plans from ONNX files with TensorRT 10 and run them. Untested so far: no GPU was available.

fp16 is used everywhere but in normalisations and reductions, whose sums of squares exceed its range; these stay in
fp32, as TensorRT recommends for layer norms.
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
    """Return a serialized engine; kernel timings are read from and added to `timing_cache`.

    Raises:
        BuildError: the graph cannot be parsed, or no engine was found for it.
    """
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):  # by path, for the weights beside it
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BuildError(f"TensorRT cannot read {onnx_file}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.add_optimization_profile(_profile(builder, profiles))
    _set_precision_(tensorrt, network, config, precision=precision)
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"TensorRT found no engine for {onnx_file}; its own messages are above")
    timing_cache.parent.mkdir(parents=True, exist_ok=True)
    timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def run_plan(tensorrt: Any, plan: bytes, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32Array]:
    """Return the outputs of one run; tensors are in torch's GPU memory.

    Raises:
        BuildError: the plan cannot be loaded, or a shape lies outside its profile.
    """
    engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError("the plan cannot be loaded; TensorRT's own messages are above")
    context = engine.create_execution_context()
    held = {name: torch.from_numpy(np.ascontiguousarray(array)).cuda() for name, array in inputs.items()}
    for name, tensor in held.items():
        if not context.set_input_shape(name, tuple(tensor.shape)):
            raise BuildError(f"{name} of shape {tuple(tensor.shape)} lies outside the plan's profile")
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    outputs = {
        name: torch.empty(tuple(context.get_tensor_shape(name)), dtype=torch.float32, device="cuda")
        for name in names
        if name not in held
    }
    for name, tensor in {**held, **outputs}.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.current_stream()
    if not context.execute_async_v3(stream.cuda_stream):
        raise BuildError("the run of the plan failed; TensorRT's own messages are above")
    stream.synchronize()
    return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}


def _profile(builder: Any, profiles: tuple[Profile, ...]) -> Any:
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
    held = {getattr(tensorrt.LayerType, name) for name in FULL_PRECISION_LAYERS}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in held and layer.get_output(0).dtype == tensorrt.float32:  # skip shape computations
            layer.precision = tensorrt.float32
            layer.set_output_type(0, tensorrt.float32)
