"""The starter model's graph on one clip, as a share of what a product of large matrices reaches on the same processor;
the time of a server from its command until it is ready, with a cold and a warm cache.

The promise: at most `MOST_MS` for a clip and `LEAST_SHARE` of the product's arithmetic, and a server that is ready
within `MOST_SECONDS` from the second start on. The controls: a graph that runs three times, and a server that waits
that long.

python -m tests.bench.starter_bench
"""

import json
import statistics
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
from tests.bench.promises import Promise, settle, spread
from tests.bench.turns import in_turns
from tests.running_server import ROOT, running_server

REPOSITORY = ROOT / "model_repository"
ROUNDS, THREADS, SIDE, WARM_STARTS = 40, 2, 768, 5
MOST_MS, LEAST_SHARE, MOST_SECONDS = 60.0, 0.3, 3.0
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
        figures["first_start_seconds"] = round(_start(Path(folder)), 2)
        warm = [_start(Path(folder)) for _ in range(WARM_STARTS)]
    figures["warm_start_seconds_median"] = round(statistics.median(warm), 2)
    for name, value in figures.items():
        print(f"{name:<26}{value}")
    for way, values in times.items():
        print(f"{way}: {spread(values, 'ms')}")
    print(f"starts with a warm cache: {spread(warm, 's')}")
    print(json.dumps(figures))
    milliseconds, share = figures["graph_ms_median"], figures["share_of_peak_median"]
    seconds = statistics.median(warm)
    settle(
        judged(milliseconds, share, seconds),
        {
            "a graph that runs three times": judged(3 * milliseconds, share / 3, seconds),
            "a server that waits": judged(milliseconds, share, seconds + MOST_SECONDS),
        },
    )


def judged(milliseconds: float, share: float, seconds: float) -> list[Promise]:
    """What the time of a clip, the share of the product's arithmetic and the starts with a warm cache promise."""
    return [
        Promise(words="milliseconds of a clip", found=milliseconds, most=MOST_MS),
        Promise(words="share of the arithmetic of a large product", found=share, least=LEAST_SHARE),
        Promise(words="seconds until ready with a warm cache", found=seconds, most=MOST_SECONDS),
    ]


def count_operations(contract: ModelContract) -> int:
    """Floating-point operations of convolutions for one clip, two for each multiplication and addition."""
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
