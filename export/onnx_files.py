"""Export a torch module to an ONNX file with external weights and without traces of the build machine.

All graphs of one folder store their weights in `model.onnx.data`; equal tensors are stored once, so the halves of a
video graph need no second copy. This also works for graphs over 2 GB.

A graph's name ends in a digest of its nodes and weights. onnxruntime's TensorRT provider looks up cached engines by the
names in a graph, not by the weights (onnxruntime issues 6455 and 32254): without the digest, version 2 of a model would
run with the weights of version 1.
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
DATA_NAME = re.compile(rf"{re.escape(DATA_FILE)}(\.[1-9][0-9]*)?")
EXTERNAL_FROM_BYTES = 1024  # smaller tensors stay in the graph
PAGE_BYTES = 4096  # runtimes memory-map large tensors
LARGE_BYTES = 1 << 20
SMALL_ALIGNMENT = 64
ONNX_TYPES = {"uint8": onnx.TensorProto.UINT8, "int64": onnx.TensorProto.INT64, "float32": onnx.TensorProto.FLOAT}

logger = logging.getLogger(__name__)


class WeightFile:
    """Writer of `model.onnx.data`: appends tensors, stores equal ones once.

    With `max_bytes`, a tensor that would exceed it starts another file, `model.onnx.data.1` and so on; a tensor is
    never split.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._places: dict[bytes, tuple[str, int, int]] = {}
        self._stream: BinaryIO | None = None
        self._number = 0

    def __enter__(self) -> Self:
        self._stream = (self.folder / DATA_FILE).open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stream is not None
        self._stream.close()
        self._stream = None
        if not self._places:
            (self.folder / DATA_FILE).unlink()

    def place(self, array: NDArray[Any]) -> tuple[str, int, int, bytes]:
        """Return (file, offset, length, sha256) of the array's bytes; write them if they are new."""
        data = np.ascontiguousarray(array).tobytes()  # little-endian on every platform we run on
        digest = hashlib.sha256(data).digest()
        if digest not in self._places:
            stream = self._stream_for(len(data))
            alignment = PAGE_BYTES if len(data) >= LARGE_BYTES else SMALL_ALIGNMENT
            stream.write(b"\0" * (-stream.tell() % alignment))
            self._places[digest] = (Path(stream.name).name, stream.tell(), len(data))
            stream.write(data)
        return (*self._places[digest], digest)

    def _stream_for(self, num_bytes: int) -> BinaryIO:
        """Return the current file, or a new one if the tensor does not fit."""
        assert self._stream is not None, "use as a context"
        used = self._stream.tell()
        if self._max_bytes is not None and used and used + PAGE_BYTES + num_bytes > self._max_bytes:
            self._stream.close()
            self._number += 1
            self._stream = (self.folder / f"{DATA_FILE}.{self._number}").open("xb")
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
    halve_weights: bool,
) -> None:
    """Export `module` to `path`; axes named by a letter in `inputs` are dynamic, up to their bound if any.

    With `halve_weights`, each large float32 weight that float16 represents exactly is stored as float16 and cast in the
    graph.

    Raises:
        ExportError: torch cannot export the module with these dynamic axes.
    """
    model = _export(module, example=example, inputs=inputs, outputs=outputs, bounds=bounds)
    _strip(model)
    _measure_after_cast(model.graph)
    if halve_weights:
        _halve(model.graph)
    digests = _move_weights(model.graph, weight_file)
    _name_by_content(model, digests)
    ir.save(model, path)


def describe_graph(
    path: Path,
    *,
    file: str,
    opset: int,
    inputs: tuple[TensorContract, ...],
    outputs: tuple[TensorContract, ...],
) -> GraphContract:
    """Read a graph back from disk, check it, and describe it for the contract.

    `file` is its path in the contract, relative to the repository folder. Checks that the file is a complete, valid
    ONNX model (onnx's full check with shape inference) of `opset` with these inputs and outputs, and that its large
    weights are in `model.onnx.data`.

    Raises:
        ExportError: a check failed.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(str(path), full_check=True)  # by path: a model in memory is limited to 2 GB
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError) as error:
        raise ExportError(f"{path.name} is not a valid ONNX model: {error}") from error
    opsets = {item.domain: item.version for item in model.opset_import}
    if opsets != {"": opset}:
        raise ExportError(f"{path.name}: expected opset {opset} of the standard domain alone, found {opsets}")
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


def halve_parameters_(module: nn.Module) -> None:
    """Round matrices to float16 and back, in place, so that `halve_weights` stores them without loss."""
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
            warnings.simplefilter("ignore")  # torch warns of its own deprecations here
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


def _strip(model: ir.Model) -> None:
    """Remove the stack traces, paths and module names that torch adds to each node and value."""
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


def _measure_after_cast(graph: ir.Graph) -> None:
    """Connect other consumers of a uint8 input (Shape, for B) to its Cast: TensorRT accepts uint8 only there."""
    for value in graph.inputs:
        if value.dtype != ir.DataType.UINT8:
            continue
        cast = next(node for node in value.consumers() if node.op_type == "Cast")
        graph.remove(cast)
        graph.insert_before(graph[0], cast)
        for node, index in list(value.uses()):
            if node is not cast:
                node.replace_input_with(index, cast.outputs[0])


def _halve(graph: ir.Graph) -> None:
    first = graph[0]
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < EXTERNAL_FROM_BYTES:
            continue
        exact = tensor.numpy()
        with np.errstate(over="ignore"):  # a weight beyond float16's range becomes infinite and is kept in float32
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
    """Move each large weight into the file; return their sha256."""
    digests = []
    for name, value in graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None, "an initializer has a value"
        if tensor.nbytes < EXTERNAL_FROM_BYTES:
            continue
        array = tensor.numpy()
        file, offset, length, digest = weight_file.place(array)
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


def _name_by_content(model: ir.Model, digests: list[bytes]) -> None:
    model.graph.name = "graph"
    serialised = ir.to_proto(model).SerializeToString(deterministic=True)
    model.graph.name = f"graph_{hashlib.sha256(serialised + b''.join(digests)).hexdigest()[:16]}"


def _check_tensors(file: str, kind: str, found: Any, expected: tuple[TensorContract, ...]) -> None:
    described = [
        (
            item.name,
            item.type.tensor_type.elem_type,
            [axis.dim_value or None for axis in item.type.tensor_type.shape.dim],
        )
        for item in found
    ]
    wanted = [
        (item.name, ONNX_TYPES[item.dtype], [axis if isinstance(axis, int) else None for axis in item.axes])
        for item in expected
    ]
    if described != wanted:
        raise ExportError(f"{file}: expected {kind}s {wanted}, found {described}")


def _external_locations(path: Path, model: onnx.ModelProto) -> set[str]:
    """Return the names of the data files; check that they hold every external tensor of the graph."""
    found = set()
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            if size >= EXTERNAL_FROM_BYTES:
                raise ExportError(
                    f"{path.name}: {tensor.name} of {size} bytes is stored in the graph, not in {DATA_FILE}"
                )
            continue
        place = {item.key: item.value for item in tensor.external_data}
        location, end = place["location"], int(place["offset"]) + int(place["length"])
        data = path.parent / location
        held = data.stat().st_size if DATA_NAME.fullmatch(location) and data.is_file() else 0
        if int(place["length"]) != size or held < end:
            raise ExportError(
                f"{path.name}: {tensor.name} of {size} bytes is stored in {location} up to byte {end}; "
                f"expected {DATA_FILE} or a numbered file beside it, which holds {held} bytes"
            )
        found.add(location)
    return found
