"""Export a torch module to an ONNX file with external weights and without traces of the build machine.

All graphs in a folder store their weights in `model.onnx.data`. Equal tensors are stored once, so the graphs for frames
and fusion add no second copy. Graphs may be larger than 2 GB.

The name of a graph ends with a digest of its nodes and weights. onnxruntime's TensorRT provider finds cached engines by
the names in a graph, not by its weights (onnxruntime issues 6455 and 32254): without the digest, version 2 of a model
would run with the weights of version 1.
"""

import hashlib
import logging
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import onnx
import onnx_ir as ir
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from torch import Tensor, nn

from export.errors import ExportError
from serve.contract import GraphContract, TensorContract
from serve.files import file_sha256

OPSET = 18
DATA_FILE = "model.onnx.data"
DATA_FILE_PATTERN = re.compile(rf"{re.escape(DATA_FILE)}(\.[1-9][0-9]*)?")
MIN_EXTERNAL_BYTES = 1024  # smaller tensors are stored in the graph
PAGE_BYTES = 4096  # alignment of tensors of at least `LARGE_BYTES`, which runtimes map into memory
LARGE_BYTES = 1 << 20
SMALL_ALIGNMENT = 64  # of other tensors, in bytes
ONNX_TYPES = {"uint8": onnx.TensorProto.UINT8, "int64": onnx.TensorProto.INT64, "float32": onnx.TensorProto.FLOAT}

logger = logging.getLogger(__name__)


class WeightFile:
    """Writes weights to `model.onnx.data`; equal tensors are stored once.

    With `max_bytes`, a tensor that would exceed the limit starts another file (`model.onnx.data.1`, ...). A tensor is
    never split.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._locations: dict[bytes, tuple[str, int, int]] = {}  # SHA-256 -> (file, offset, length)
        self._stream: BinaryIO | None = None
        self._file_index = 0

    def __enter__(self) -> Self:
        self._stream = (self.folder / DATA_FILE).open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stream is not None
        self._stream.close()
        self._stream = None
        if not self._locations:
            (self.folder / DATA_FILE).unlink()

    def store(self, array: NDArray[Any]) -> tuple[str, int, int, bytes]:
        """Return (file, offset, length, SHA-256) of the bytes of an array; write them if they are not stored yet."""
        data = np.ascontiguousarray(array).tobytes()  # ONNX requires little-endian, as all supported platforms are
        digest = hashlib.sha256(data).digest()
        if digest not in self._locations:
            stream = self._stream_for(len(data))
            alignment = PAGE_BYTES if len(data) >= LARGE_BYTES else SMALL_ALIGNMENT
            stream.write(b"\0" * (-stream.tell() % alignment))
            self._locations[digest] = (Path(stream.name).name, stream.tell(), len(data))
            stream.write(data)
        return (*self._locations[digest], digest)

    def _stream_for(self, num_bytes: int) -> BinaryIO:
        """Return the current file, or a new one if the tensor would exceed the limit."""
        assert self._stream is not None, "WeightFile must be used as a context manager"
        used = self._stream.tell()
        if self._max_bytes is not None and used and used + PAGE_BYTES + num_bytes > self._max_bytes:
            self._stream.close()
            self._file_index += 1
            self._stream = (self.folder / f"{DATA_FILE}.{self._file_index}").open("xb")
        return self._stream


def write_graph(
    module: nn.Module,
    path: Path,
    *,
    example: Mapping[str, Tensor],
    inputs: tuple[TensorContract, ...],
    outputs: tuple[TensorContract, ...],
    bounds: Mapping[str, int],
    weight_file: WeightFile,
    store_float16: bool,
) -> None:
    """Export `module` to `path`; axes that are letters in `inputs` are dynamic, with a maximum if it is in `bounds`.

    With `store_float16`, float32 weights that float16 represents exactly are stored as float16 and cast in the graph;
    small ones are not changed.

    Raises:
        ExportError: torch cannot export the module with these dynamic axes.
    """
    model = _export(module, example=example, inputs=inputs, outputs=outputs, bounds=bounds)
    _remove_metadata(model)
    _reconnect_to_cast(model.graph)
    if store_float16:
        _store_as_float16(model.graph)
    digests = _move_weights(model.graph, weight_file)
    _name_after_content(model, digests)
    ir.save(model, path)


def describe_graph(
    path: Path,
    *,
    file: str,
    opset: int,
    inputs: tuple[TensorContract, ...],
    outputs: tuple[TensorContract, ...],
) -> GraphContract:
    """Check a graph file and return its description for the contract.

    `file` is the path in the contract, relative to the repository. Checks that the file is a valid ONNX model (onnx's
    full check with shape inference) of `opset` with these inputs and outputs, and that its large weights are stored in
    `model.onnx.data`.

    Raises:
        ExportError: a check fails.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(str(path), full_check=True)  # a path, because a model in memory is limited to 2 GB
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError) as error:
        raise ExportError(f"{path.name} is not a valid ONNX model: {error}") from error
    opsets = {item.domain: item.version for item in model.opset_import}
    if opsets != {"": opset}:
        raise ExportError(f"{path.name}: must use only opset {opset} of the standard domain, got {opsets}")
    _check_tensors(path.name, "input", model.graph.input, inputs)
    _check_tensors(path.name, "output", model.graph.output, outputs)
    locations = sorted(_external_locations(path, model))
    parent = file.rpartition("/")[0]
    return GraphContract(
        file=file,
        sha256=file_sha256(path),
        external_data=tuple(f"{parent}/{name}" for name in locations),
        external_sha256=tuple(file_sha256(path.parent / name) for name in locations),
        inputs=inputs,
        outputs=outputs,
    )


def round_to_float16_(module: nn.Module) -> None:
    """Round matrices to float16 in place, keeping float32, so that `store_float16` stores them without loss."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim >= 2 and parameter.dtype == torch.float32:
                parameter.copy_(parameter.half().float())


def _export(
    module: nn.Module,
    *,
    example: Mapping[str, Tensor],
    inputs: tuple[TensorContract, ...],
    outputs: tuple[TensorContract, ...],
    bounds: Mapping[str, int],
) -> ir.Model:
    letters = {axis for item in inputs for axis in item.axes if isinstance(axis, str)}
    dims = {letter: torch.export.Dim(letter, max=bounds.get(letter)) for letter in sorted(letters)}
    shapes = {
        item.name: {i: dims[axis] for i, axis in enumerate(item.axes) if isinstance(axis, str)} for item in inputs
    }
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch warns about deprecations in its own code
            program = torch.onnx.export(
                module.eval(),
                args=(),
                kwargs={item.name: example[item.name] for item in inputs},
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                input_names=[item.name for item in inputs],
                output_names=[item.name for item in outputs],
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        raise ExportError(f"torch cannot export {type(module).__name__} with dynamic axes {shapes}: {error}") from error
    assert program is not None, "torch.onnx.export returns a program if no file is given"
    return program.model


def _remove_metadata(model: ir.Model) -> None:
    """Remove the stack traces, paths and module names that torch adds to nodes and values."""
    model.metadata_props.clear()
    model.doc_string = None
    for graph in model.graphs():
        graph.metadata_props.clear()
        graph.doc_string = None
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
            value.doc_string = None
            if value.const_value is not None:
                value.const_value.metadata_props.clear()


def _reconnect_to_cast(graph: ir.Graph) -> None:
    """Connect other consumers of a uint8 input (Shape) to its Cast, because TensorRT supports uint8 only there."""
    for value in graph.inputs:
        if value.dtype != ir.DataType.UINT8:
            continue
        cast = next(node for node in value.consumers() if node.op_type == "Cast")
        graph.remove(cast)
        graph.insert_before(graph[0], cast)
        for node, index in list(value.uses()):
            if node is not cast:
                node.replace_input_with(index, cast.outputs[0])


def _store_as_float16(graph: ir.Graph) -> None:
    first = graph[0]
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < MIN_EXTERNAL_BYTES:
            continue
        exact = tensor.numpy()
        with np.errstate(over="ignore"):  # a weight beyond float16's range becomes infinite and stays float32
            half = exact.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), exact):
            continue
        stored = ir.Value(
            name=f"{name}_half",
            shape=ir.Shape(half.shape),
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.Tensor(half, name=f"{name}_half"),
        )
        cast = ir.Node("", "Cast", [stored], attributes=[ir.AttrInt64("to", int(ir.DataType.FLOAT))], num_outputs=1)
        cast.outputs[0].name = f"{name}_full"
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        value.replace_all_uses_with(cast.outputs[0])
        del graph.initializers[name]
        graph.register_initializer(stored)
        graph.insert_before(first, cast)


def _move_weights(graph: ir.Graph, weight_file: WeightFile) -> list[bytes]:
    """Move each large weight into the weight file; return the SHA-256 of each."""
    digests = []
    for name, value in graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None, "an initializer has a value"
        if tensor.nbytes < MIN_EXTERNAL_BYTES:
            continue
        array = tensor.numpy()
        file, offset, length, digest = weight_file.store(array)
        digests.append(digest)
        value.const_value = ir.ExternalTensor(
            file,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(array.shape),
            name=name,
            base_dir=weight_file.folder,
        )
    return digests


def _name_after_content(model: ir.Model, digests: list[bytes]) -> None:
    model.graph.name = "graph"
    serialised = ir.to_proto(model).SerializeToString(deterministic=True)
    model.graph.name = f"graph_{hashlib.sha256(serialised + b''.join(digests)).hexdigest()[:16]}"


def _check_tensors(file: str, kind: str, tensors: Any, expected: tuple[TensorContract, ...]) -> None:
    actual = [
        (
            item.name,
            item.type.tensor_type.elem_type,
            [axis.dim_value or None for axis in item.type.tensor_type.shape.dim],
        )
        for item in tensors
    ]
    expected_values = [
        (item.name, ONNX_TYPES[item.dtype], [axis if isinstance(axis, int) else None for axis in item.axes])
        for item in expected
    ]
    if actual != expected_values:
        raise ExportError(f"{file}: {kind}s must be {expected_values}, got {actual}")


def _external_locations(path: Path, model: onnx.ModelProto) -> set[str]:
    """Return the names of the data files; check that they contain every external tensor of the graph.

    Raises:
        ExportError: a large tensor is not external, or a data file is missing or too short.
    """
    names = set()
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            if size >= MIN_EXTERNAL_BYTES:
                raise ExportError(
                    f"{path.name}: {tensor.name} ({size} bytes) must be stored in {DATA_FILE}, not in the graph"
                )
            continue
        reference = {item.key: item.value for item in tensor.external_data}
        location, end = reference["location"], int(reference["offset"]) + int(reference["length"])
        data = path.parent / location
        available = data.stat().st_size if DATA_FILE_PATTERN.fullmatch(location) and data.is_file() else 0
        if int(reference["length"]) != size or available < end:
            raise ExportError(
                f"{path.name}: {tensor.name} ({size} bytes) must be in {DATA_FILE} or a numbered file next to it; "
                f"it refers to {location} up to byte {end}, where {available} bytes are available"
            )
        names.add(location)
    return names
