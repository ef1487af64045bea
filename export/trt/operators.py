"""The ONNX operators and data types that TensorRT 10 supports, and restrictions that are relevant for exported graphs.

The table follows `docs/operators.md` of onnx-tensorrt for TensorRT 10.15 (opsets 9 to 24), with the names of data types
used there; unsupported operators are omitted. UINT8 is supported only for inputs and outputs of the network that are
connected to a Cast.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import onnx

SOURCE = "onnx-tensorrt docs/operators.md, TensorRT 10.15"
OPSETS = range(9, 25)

# each entry: data types, then the operators that support them
TABLE = """
FP32 FP16 BF16:
    Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh CumSum
    Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization GRU
    HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax
    LRN LSTM LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization ParametricSoftplus PRelu QuantizeLinear
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize RMSNormalization RNN RotaryEmbedding
    Round ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample
FP32 FP16 BF16 INT32 INT64:
    Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Min Mod Mul Neg Pad
    Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK
FP32 FP16 BF16 INT32 INT64 BOOL:
    Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape ReverseSequence Shape
    Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
FP32 FP16:
    BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign
BOOL: And Not Or Xor
FP32 FP16 BF16 INT32 INT64 UINT8 BOOL: Cast CastLike
FP32 FP16 BF16 FP8 FP4 INT4 INT32 INT64 BOOL: Constant ConstantOfShape
FP32 FP16 BF16 INT8 FP8: Attention
FP32 FP16 BF16 INT8 INT32 INT64: Gelu
FP32 FP16 BF16 FP8 INT32 INT64: Mean
FP32 FP16 BF16 INT32: TensorScatter
INT8 FP8 FP4 INT4: DequantizeLinear
FP32: STFT
"""


def _parse_table(table: str) -> dict[str, frozenset[str]]:
    rows = table.replace("\n    ", " ").strip().splitlines()
    pairs = [row.split(":") for row in rows]
    return {name: frozenset(types.split()) for types, names in pairs for name in names.split()}


SUPPORTED: Mapping[str, frozenset[str]] = _parse_table(TABLE)

# further restrictions in that document that are relevant for exported models
CONSTANT_AXES_OPERATORS = frozenset(name for name in SUPPORTED if name.startswith("Reduce")) | {"Squeeze", "Unsqueeze"}
SINGLE_OUTPUT_OPERATORS = frozenset({"LayerNormalization", "MaxPool"})
ZERO_ATTRIBUTES = {"LSTM": ("layout", "input_forget")}

TYPE_NAMES = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.BOOL: "BOOL",
}


def count_operators(model: onnx.ModelProto) -> Counter[str]:
    """Return the number of uses of each operator in a model."""
    return Counter(node.op_type for node in model.graph.node)


def find_unsupported(model: onnx.ModelProto) -> list[str]:
    """Return descriptions of everything in a graph that TensorRT does not support; external weights are not needed."""
    unsupported = [
        f"opset {item.version} of {item.domain or 'the standard domain'}"
        for item in model.opset_import
        if item.domain or item.version not in OPSETS
    ]
    types = _value_types(model)
    constants = {item.name for item in model.graph.initializer}
    constants.update(node.output[0] for node in model.graph.node if node.op_type == "Constant")
    for node in model.graph.node:
        unsupported += [f"{node.op_type} ({node.name}): {reason}" for reason in _node_problems(node, types, constants)]
    return unsupported


def _node_problems(node: onnx.NodeProto, types: dict[str, str], constants: set[str]) -> Iterator[str]:
    if node.domain or node.op_type not in SUPPORTED:
        yield "the operator is not supported"
        return
    for name in (*node.input, *(node.output if node.op_type == "Cast" else ())):
        if name and types[name] not in SUPPORTED[node.op_type]:
            yield f"{name} must be one of {', '.join(sorted(SUPPORTED[node.op_type]))}, got {types[name]}"
    if node.op_type in CONSTANT_AXES_OPERATORS and len(node.input) > 1 and node.input[1] not in constants:
        yield "axes must be constant, but they are computed"
    if node.op_type in SINGLE_OUTPUT_OPERATORS and any(node.output[1:]):
        yield "only the first output is supported, but others are used"
    for attribute in node.attribute:
        if attribute.name in ZERO_ATTRIBUTES.get(node.op_type, ()) and attribute.i != 0:
            yield f"{attribute.name} must be 0, got {attribute.i}"


def _value_types(model: onnx.ModelProto) -> dict[str, str]:
    """Return the data type of each value, keyed by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    numbers = {item.name: item.type.tensor_type.elem_type for item in values}
    numbers.update((item.name, item.data_type) for item in graph.initializer)
    return {
        name: TYPE_NAMES.get(number, onnx.TensorProto.DataType.Name(number).lower()) for name, number in numbers.items()
    }
