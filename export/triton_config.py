"""Generate Triton's `config.pbtxt` from typed values; only the part of the format that export needs is supported.

No `instance_group` is written, so that Triton uses a GPU if there is one, else a CPU; TensorRT configurations require a
GPU.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serve.contract import GraphContract, TensorContract

TYPES = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_VIDEO_BATCH = 64  # views per run
MAX_TEXT_BATCH = 256  # prompts per run


@dataclass(frozen=True, kw_only=True)
class TritonTensor:
    """An input or output; `dims` does not include the batch axis, and -1 is a dynamic axis."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class QueuePolicy:
    """Limits of the queue; requests that exceed a limit are rejected.

    A request can set a shorter timeout: the gateway sends the remaining time of its client.
    """

    max_queue_size: int = 512  # requests
    default_timeout_microseconds: int = 60_000_000

    def __post_init__(self) -> None:
        if self.max_queue_size < 1:
            raise ValueError(f"max_queue_size must be at least 1, got {self.max_queue_size}")
        if self.default_timeout_microseconds < 1:
            raise ValueError(f"the queue timeout must be at least 1 us, got {self.default_timeout_microseconds}")


@dataclass(frozen=True, kw_only=True)
class DynamicBatching:
    """Batches waiting requests up to `max_batch_size`; by default a request does not wait for others."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    queue_policy: QueuePolicy = QueuePolicy()


@dataclass(frozen=True, kw_only=True)
class TritonConfig:
    """One model of a Triton repository; all its versions are served."""

    name: str
    max_batch_size: int  # 0: the first axis is not a batch axis
    inputs: tuple[TritonTensor, ...]
    outputs: tuple[TritonTensor, ...]
    dynamic_batching: DynamicBatching | None
    backend: Literal["onnxruntime", "tensorrt"] = "onnxruntime"

    def __post_init__(self) -> None:
        if not MODEL_NAME.fullmatch(self.name):
            raise ValueError(f"the Triton model name must match {MODEL_NAME.pattern}, got {self.name!r}")
        if self.max_batch_size < 0:
            raise ValueError(f"max_batch_size must be at least 0, got {self.max_batch_size}")
        if self.dynamic_batching is not None and self.max_batch_size < 1:
            raise ValueError("dynamic batching requires a max_batch_size of at least 1")
        for tensor in (*self.inputs, *self.outputs):
            if tensor.data_type not in TYPES.values():
                raise ValueError(
                    f"{tensor.name}: the type must be one of {', '.join(TYPES.values())}, got {tensor.data_type}"
                )
            if any(size != -1 and size < 1 for size in tensor.dims):
                raise ValueError(f"{tensor.name}: dims must be -1 or at least 1, got {tensor.dims}")


def graph_config(name: str, graph: GraphContract, *, max_batch_size: int) -> TritonConfig:
    """Return the configuration of a graph in which the first axis of every tensor is the batch axis."""
    return TritonConfig(
        name=name,
        max_batch_size=max_batch_size,
        inputs=tuple(_triton_tensor(item) for item in graph.inputs),
        outputs=tuple(_triton_tensor(item) for item in graph.outputs),
        dynamic_batching=DynamicBatching(),
    )


def config_text(config: TritonConfig) -> str:
    """Return the configuration in protobuf's text format."""
    parts = [
        f'name: "{config.name}"',
        f'backend: "{config.backend}"',
        f"max_batch_size: {config.max_batch_size}",
        *(_block("input", _tensor_lines(item)) for item in config.inputs),
        *(_block("output", _tensor_lines(item)) for item in config.outputs),
        "version_policy { all { } }",
    ]
    if config.dynamic_batching is not None:
        parts.append(_block("dynamic_batching", _batching_lines(config.dynamic_batching)))
    return "\n".join(parts) + "\n"


def _triton_tensor(item: TensorContract) -> TritonTensor:
    dims = tuple(axis if isinstance(axis, int) else -1 for axis in item.axes[1:])
    return TritonTensor(name=item.name, data_type=TYPES[item.dtype], dims=dims)


def _tensor_lines(item: TritonTensor) -> list[str]:
    return [f'name: "{item.name}"', f"data_type: {item.data_type}", f"dims: [{', '.join(map(str, item.dims))}]"]


def _batching_lines(batching: DynamicBatching) -> list[str]:
    lines = []
    if batching.preferred_batch_size:
        lines.append(f"preferred_batch_size: [{', '.join(map(str, batching.preferred_batch_size))}]")
    lines.append(f"max_queue_delay_microseconds: {batching.max_queue_delay_microseconds}")
    policy = [
        "timeout_action: REJECT",
        f"default_timeout_microseconds: {batching.queue_policy.default_timeout_microseconds}",
        "allow_timeout_override: true",
        f"max_queue_size: {batching.queue_policy.max_queue_size}",
    ]
    return [*lines, *_block("default_queue_policy", policy).splitlines()]


def _block(name: str, lines: list[str]) -> str:
    return "\n".join([f"{name} {{", *(f"  {line}" for line in lines), "}"])


# allowed names and values of parameters of the "tensorrt" accelerator of Triton's onnxruntime backend (see its README);
# checked here, because Triton ignores unknown names
TENSORRT_PARAMETERS = {
    "precision_mode": re.compile("FP32|FP16"),
    "max_workspace_size_bytes": re.compile(r"\d+"),
    "trt_engine_cache_enable": re.compile("0|1"),
    "trt_engine_cache_path": re.compile(r'[^"\\]+'),
    "trt_timing_cache_enable": re.compile("0|1"),
    "trt_timing_cache_path": re.compile(r'[^"\\]+'),
    "trt_layer_norm_fp32_fallback": re.compile("0|1"),
    "trt_builder_optimization_level": re.compile("[0-5]"),
    "trt_profile_min_shapes": re.compile(r"\w+:\d+(x\d+)*(,\w+:\d+(x\d+)*)*"),
    "trt_profile_opt_shapes": re.compile(r"\w+:\d+(x\d+)*(,\w+:\d+(x\d+)*)*"),
    "trt_profile_max_shapes": re.compile(r"\w+:\d+(x\d+)*(,\w+:\d+(x\d+)*)*"),
}


@dataclass(frozen=True, kw_only=True)
class TensorRtAccelerator:
    """TensorRT in the onnxruntime backend; `parameters` are checked against `TENSORRT_PARAMETERS`."""

    parameters: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, value in self.parameters.items():
            if name not in TENSORRT_PARAMETERS:
                raise ValueError(f"accelerator parameters must be among {', '.join(TENSORRT_PARAMETERS)}, got {name}")
            if not TENSORRT_PARAMETERS[name].fullmatch(value):
                raise ValueError(f"{name} must match {TENSORRT_PARAMETERS[name].pattern}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """A run with zeros before a model is ready; `inputs` have a size for each dynamic axis."""

    name: str
    batch_size: int
    inputs: tuple[TritonTensor, ...]

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"warm-up {self.name}: batch_size must be at least 1, got {self.batch_size}")
        for item in self.inputs:
            if any(size < 1 for size in item.dims):
                raise ValueError(f"warm-up {self.name}: dims of {item.name} must be at least 1, got {item.dims}")


def accelerated_text(config: TritonConfig, accelerator: TensorRtAccelerator, warm_ups: Sequence[WarmUp]) -> str:
    """Return `config_text` with TensorRT in the onnxruntime backend; requires a GPU."""
    lines = ['name: "tensorrt"']
    lines += [f'parameters {{ key: "{name}" value: "{value}" }}' for name, value in accelerator.parameters.items()]
    block = _block("gpu_execution_accelerator", lines)
    for parent in ("execution_accelerators", "optimization"):
        block = _block(parent, block.splitlines())
    return config_text(config) + "\n".join([block, *map(_warm_up_text, warm_ups)]) + "\n"


def plan_text(config: TritonConfig, warm_ups: Sequence[WarmUp], *, file: str) -> str:
    """Return the configuration for a TensorRT plan `file` with one optimisation profile, on every GPU of the server."""
    if config.backend != "tensorrt":
        raise ValueError(f"a plan requires the backend tensorrt, got {config.backend}")
    group = _block("instance_group", ["count: 1", "kind: KIND_GPU", 'profile: ["0"]'])
    header = ['platform: "tensorrt_plan"', f'default_model_filename: "{file}"', group]
    return config_text(config) + "\n".join([*header, *map(_warm_up_text, warm_ups)]) + "\n"


def _warm_up_text(item: WarmUp) -> str:
    lines = [f'name: "{item.name}"', f"batch_size: {item.batch_size}"]
    for tensor in item.inputs:
        dims = f"dims: [{', '.join(map(str, tensor.dims))}]"
        value = _block("value", [f"data_type: {tensor.data_type}", dims, "zero_data: true"])
        lines += _block("inputs", [f'key: "{tensor.name}"', *value.splitlines()]).splitlines()
    return _block("model_warmup", lines)
