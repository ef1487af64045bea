"""Measure the starter model's graph relative to the peak of matrix products, and the time from the start of a server to
its first answer, with a cold and a warm cache.

python -m tests.bench.starter_bench
"""

import json
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import onnx
import openvino
from openvino import opset13 as operations

from serve.contract import ModelContract
from serve.repository import find_contract
from tests.bench.turns import in_turns
from tests.running_server import ROOT, running_server

REPOSITORY = ROOT / "model_repository"
ROUNDS, THREADS, SIDE = 40, 2, 768
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}


def main() -> None:
    """Print the figures and one JSON line."""
    contract = find_contract(REPOSITORY, "starter")
    operations_of_graph = count_operations(contract)
    times = in_turns({"graph": _graph(contract), "product": _product()}, ROUNDS)
    figures: dict[str, float] = {"threads": THREADS, "gflop": round(operations_of_graph / 1e9, 2)}
    for name, pick in (("least", min), ("median", lambda found: sorted(found)[len(found) // 2])):
        graph, product = (pick(times[way]) for way in ("graph", "product"))
        peak = 2 * SIDE**3 / product / 1e6  # GFLOP/s, of a product in float32
        figures[f"graph_ms_{name}"] = round(graph, 1)
        figures[f"peak_gflops_{name}"] = round(peak, 1)
        figures[f"share_of_peak_{name}"] = round(operations_of_graph / graph / 1e6 / peak, 3)
    with tempfile.TemporaryDirectory() as folder:
        for start in ("first", "second", "third"):
            figures[f"{start}_start_seconds"] = round(_start(Path(folder)), 2)
    for name, value in figures.items():
        print(f"{name:<26}{value}")
    print(json.dumps(figures))


def count_operations(contract: ModelContract) -> int:
    """Return the floating-point operations of convolutions for one clip, counting multiplications and additions."""
    model = onnx.load(REPOSITORY / contract.graphs["video"].file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        item.name: [axis.dim_value for axis in item.type.tensor_type.shape.dim] for item in inferred.graph.value_info
    }
    shapes |= {item.name: list(item.dims) for item in inferred.graph.initializer}
    frames = contract.sampling.num_segments
    total = 0
    for node in inferred.graph.node:
        if node.op_type == "Conv":
            height, width = shapes[node.output[0]][-2:]
            total += 2 * frames * height * width * prod(shapes[node.input[1]])
    return total


def _graph(contract: ModelContract) -> Callable[[], object]:
    path = REPOSITORY / contract.graphs["video"].file
    request = openvino.Core().compile_model(str(path), "CPU", SETTINGS).create_infer_request()
    size = contract.preprocess.image_size
    clip = np.random.default_rng(0).integers(0, 256, (1, contract.sampling.num_segments, 3, size, size), dtype=np.uint8)
    return lambda: request.infer([clip])


def _product() -> Callable[[], object]:
    matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    left = operations.parameter([SIDE, SIDE], np.float32)
    product = operations.matmul(left, operations.constant(matrix), False, False)
    request = openvino.Core().compile_model(openvino.Model([product], [left]), "CPU", SETTINGS).create_infer_request()
    return lambda: request.infer([matrix])


def _start(folder: Path) -> float:
    begun = time.perf_counter()
    with running_server(folder, model="starter"):
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
