"""From a torch module to an ONNX file: export, weights kept beside the graph, nothing of the build left in it.

All graphs of one folder keep their weights in `model.onnx.data`; equal tensors are stored once, so that the halves of a
video graph cost no second copy. Graphs over 2 GB need nothing else.

A graph's name ends in a digest of everything it computes with. onnxruntime's TensorRT provider finds its cached engines
by the names in a graph and not by the weights (onnxruntime issues 6455 and 32254): without it version 2 of a model
would be answered with version 1's weights.
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
PAGE_BYTES = 4096  # runtimes map large tensors from the file by pages
LARGE_BYTES = 1 << 20
SMALL_ALIGNMENT = 64
ONNX_TYPES = {"uint8": onnx.TensorProto.UINT8, "int64": onnx.TensorProto.INT64, "float32": onnx.TensorProto.FLOAT}

logger = logging.getLogger(__name__)


class WeightFile:
    """`model.onnx.data` while it is written: tensors are appended, equal ones stored once.

    With `max_bytes` a tensor that would make the file larger begins another, `model.onnx.data.1` and so on; one tensor
    is never divided.
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
        """(file, offset, length, sha256) of the array's contents in bytes, written if they are new."""
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
        """Where a tensor goes: the present file, or a new one where it does not fit beside what is there."""
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

    Under `halve_weights` every large float32 weight that float16 holds exactly is stored as float16 and cast in the
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
    """Read a graph back from disk, assert that it is what was promised, and describe it for the contract.

    `file` is the path the contract gives it, relative to the repository folder. The file is a whole and valid ONNX
    model (onnx's full check, with inference of all shapes) of `opset`, takes and gives these tensors, and has its large
    weights in `model.onnx.data` beside it.

    Raises:
        ExportError: any of this does not hold.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(str(path), full_check=True)  # by its path, or 2 GB would be the limit
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError) as error:
        raise ExportError(f"{path.name} is no valid ONNX model: {error}") from error
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
    """Round every matrix of the module to float16 and back, in place: what `halve_weights` then stores without loss."""
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
    assert program is not None, "torch.onnx.export gives a program when no file is named"
    return program.model


def _strip(model: ir.Model) -> None:
    """Remove stack traces, paths and module names that torch leaves in every node and value."""
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
    """Whatever else looks at a uint8 input (its Shape, for the batch) looks at its Cast: TensorRT takes uint8 there
    alone."""
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
        with np.errstate(over="ignore"):  # a weight outside float16's range becomes infinite, and then stays float32
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
    """Put every large weight into the file; returns the sha256 of each."""
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
    """Names of the data files, asserted to hold every tensor the graph takes from them."""
    found = set()
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            if size >= EXTERNAL_FROM_BYTES:
                raise ExportError(f"{path.name}: {tensor.name} of {size} bytes lies in the graph, not in {DATA_FILE}")
            continue
        place = {item.key: item.value for item in tensor.external_data}
        location, end = place["location"], int(place["offset"]) + int(place["length"])
        data = path.parent / location
        held = data.stat().st_size if DATA_NAME.fullmatch(location) and data.is_file() else 0
        if int(place["length"]) != size or held < end:
            raise ExportError(
                f"{path.name}: {tensor.name} of {size} bytes lies in {location} up to byte {end}; "
                f"expected {DATA_FILE} or a numbered file beside it, which holds {held} bytes"
            )
        found.add(location)
    return found
