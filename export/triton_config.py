"""`config.pbtxt` of Triton from typed values: what export needs of the format, nothing else of it.

No `instance_group` is written: Triton then takes a GPU where there is one and a CPU where there is none.
"""

import re
from dataclasses import dataclass
from typing import Literal

from serve.contract import GraphContract, TensorContract

TYPES = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class TritonTensor:
    """An input or output; `dims` leaves out the batch axis, -1 is a dynamic axis."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class DynamicBatching:
    """Requests that wait are joined up to `max_batch_size`; a lone request never waits."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0


@dataclass(frozen=True, kw_only=True)
class TritonConfig:
    """One model of a Triton repository, all of its versions served."""

    name: str
    max_batch_size: int  # 0: the graph's first axis is no batch axis
    inputs: tuple[TritonTensor, ...]
    outputs: tuple[TritonTensor, ...]
    dynamic_batching: DynamicBatching | None
    backend: Literal["onnxruntime"] = "onnxruntime"

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
    return lines


def _block(name: str, lines: list[str]) -> str:
    return "\n".join([f"{name} {{", *(f"  {line}" for line in lines), "}"])
