"""Generate Triton's `config.pbtxt` from typed values; covers the part of the format that export needs.

No `instance_group` is written: Triton then uses a GPU if there is one, else a CPU. The two TensorRT configurations at
the end need a GPU.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serve.contract import GraphContract, TensorContract

TYPES = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_VIDEO_BATCH = 64  # views of one run
MAX_TEXT_BATCH = 256  # prompts of one run


@dataclass(frozen=True, kw_only=True)
class TritonTensor:
    """An input or output; `dims` leaves out the batch axis, -1 is a dynamic axis."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class QueuePolicy:
    """Limits of the queue; a request beyond either limit is rejected.

    A request may set a shorter timeout: the gateway sends the time its caller has left.
    """

    max_queue_size: int = 512  # requests
    default_timeout_microseconds: int = 60_000_000

    def __post_init__(self) -> None:
        if self.max_queue_size < 1:
            raise ValueError(f"max_queue_size {self.max_queue_size}: allowed is 1 or more")
        if self.default_timeout_microseconds < 1:
            raise ValueError(f"queue timeout {self.default_timeout_microseconds} us: allowed is 1 or more")


@dataclass(frozen=True, kw_only=True)
class DynamicBatching:
    """Waiting requests are batched up to `max_batch_size`; a single request is run at once."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    queue_policy: QueuePolicy = QueuePolicy()


@dataclass(frozen=True, kw_only=True)
class TritonConfig:
    """One model of a Triton repository; all its versions are served."""

    name: str
    max_batch_size: int  # 0: the graph's first axis is no batch axis
    inputs: tuple[TritonTensor, ...]
    outputs: tuple[TritonTensor, ...]
    dynamic_batching: DynamicBatching | None
    backend: Literal["onnxruntime", "tensorrt"] = "onnxruntime"

    def __post_init__(self) -> None:
        if not MODEL_NAME.fullmatch(self.name):
            raise ValueError(f"Triton model name {self.name!r}: allowed is {MODEL_NAME.pattern}")
        if self.max_batch_size < 0:
            raise ValueError(f"max_batch_size {self.max_batch_size}: allowed is 0 or more")
        if self.dynamic_batching is not None and self.max_batch_size < 1:
            raise ValueError("dynamic batching needs a max_batch_size of 1 or more")
        for tensor in (*self.inputs, *self.outputs):
            if tensor.data_type not in TYPES.values():
                raise ValueError(f"{tensor.name}: type {tensor.data_type}, allowed are {', '.join(TYPES.values())}")
            if any(size != -1 and size < 1 for size in tensor.dims):
                raise ValueError(f"{tensor.name}: dims {tensor.dims}, allowed are -1 and 1 or more")


def graph_config(name: str, graph: GraphContract, *, max_batch_size: int) -> TritonConfig:
    """Configuration of a graph whose every tensor has the batch as its first axis."""
    return TritonConfig(
        name=name,
        max_batch_size=max_batch_size,
        inputs=tuple(_tensor(item) for item in graph.inputs),
        outputs=tuple(_tensor(item) for item in graph.outputs),
        dynamic_batching=DynamicBatching(),
    )


def config_text(config: TritonConfig) -> str:
    """The configuration in protobuf's text format."""
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


def _tensor(item: TensorContract) -> TritonTensor:
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


# parameters of the "tensorrt" accelerator of Triton's onnxruntime backend (table in its README) that export may
# write, with their allowed values; Triton accepts unknown names silently
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
    """TensorRT inside the onnxruntime backend; `parameters` are names and values of `TENSORRT_PARAMETERS`."""

    parameters: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, value in self.parameters.items():
            if name not in TENSORRT_PARAMETERS:
                raise ValueError(f"accelerator parameter {name}: allowed are {', '.join(TENSORRT_PARAMETERS)}")
            if not TENSORRT_PARAMETERS[name].fullmatch(value):
                raise ValueError(f"{name} {value!r}: allowed is {TENSORRT_PARAMETERS[name].pattern}")


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """A run with zeros before a model becomes ready; `inputs` have concrete sizes for dynamic axes."""

    name: str
    batch_size: int
    inputs: tuple[TritonTensor, ...]

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"warm-up {self.name}: batch_size {self.batch_size}, allowed is 1 or more")
        for item in self.inputs:
            if any(size < 1 for size in item.dims):
                raise ValueError(f"warm-up {self.name}: {item.name} has dims {item.dims}, allowed is 1 or more")


def accelerated_text(config: TritonConfig, accelerator: TensorRtAccelerator, warm_ups: Sequence[WarmUp]) -> str:
    """`config_text` with TensorRT inside the onnxruntime backend; needs a GPU."""
    lines = ['name: "tensorrt"']
    lines += [f'parameters {{ key: "{name}" value: "{value}" }}' for name, value in accelerator.parameters.items()]
    block = _block("gpu_execution_accelerator", lines)
    for outer in ("execution_accelerators", "optimization"):
        block = _block(outer, block.splitlines())
    return config_text(config) + "\n".join([block, *map(_warm_up_text, warm_ups)]) + "\n"


def plan_text(config: TritonConfig, warm_ups: Sequence[WarmUp], *, file: str) -> str:
    """Return the configuration for a TensorRT plan `file` with one profile, on every GPU of the server."""
    if config.backend != "tensorrt":
        raise ValueError(f"a plan needs the backend tensorrt, found {config.backend}")
    group = _block("instance_group", ["count: 1", "kind: KIND_GPU", 'profile: ["0"]'])
    head = ['platform: "tensorrt_plan"', f'default_model_filename: "{file}"', group]
    return config_text(config) + "\n".join([*head, *map(_warm_up_text, warm_ups)]) + "\n"


def _warm_up_text(item: WarmUp) -> str:
    lines = [f'name: "{item.name}"', f"batch_size: {item.batch_size}"]
    for tensor in item.inputs:
        dims = f"dims: [{', '.join(map(str, tensor.dims))}]"
        value = _block("value", [f"data_type: {tensor.data_type}", dims, "zero_data: true"])
        lines += _block("inputs", [f'key: "{tensor.name}"', *value.splitlines()]).splitlines()
    return _block("model_warmup", lines)
