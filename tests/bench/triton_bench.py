"""What a Triton server costs one clip: in this process, over gRPC, over gRPC with shared memory.

The core runs a stand-in for its onnxruntime backend, which copies every tensor once more than the native one; read the
difference between the two ways to it rather than the distance to the embedded engine.

python -m tests.bench.triton_bench
"""

import asyncio
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from serve.models.runtime import load_runtime
from serve.settings import ServeSettings, TritonSettings
from tests.triton.core import ROOT, triton_core

ROUNDS, VIEWS = 40, (1, 8)
WAYS = {
    "in process, onnxruntime": {"engine": "onnxruntime-cpu"},
    "gRPC": {"engine": "triton", "shared_memory": "never"},
    "gRPC and shared memory": {"engine": "triton", "shared_memory": "always"},
}


def main() -> None:
    """Print the table and one JSON line."""
    with tempfile.TemporaryDirectory() as name, triton_core(ROOT / "model_repository", Path(name) / "core") as core:
        rows = {way: asyncio.run(_times(Path(name), core.grpc, **choice)) for way, choice in WAYS.items()}
    base = rows["in process, onnxruntime"]
    for way, times in rows.items():
        told = ", ".join(
            f"{views} views {value:.1f} ms ({value / base[views]:.2f} times)" for views, value in times.items()
        )
        print(f"{way:<26}{told}")
    print(json.dumps({"bench": "triton", "milliseconds": rows}))


async def _times(folder: Path, url: str, *, engine: str, shared_memory: str = "auto") -> dict[int, float]:
    """Median milliseconds by number of views of one request, the demo model."""
    triton = TritonSettings(url=url, shared_memory=shared_memory)  # type: ignore[arg-type]
    settings = ServeSettings(cache_dir=folder / "cache", engine=engine, triton=triton)  # type: ignore[arg-type]
    runtime = await load_runtime(settings, "demo")
    contract, loop, found = runtime.contract, asyncio.get_running_loop(), {}
    for count in VIEWS:
        size = contract.preprocess.image_size
        views = np.random.default_rng(0).integers(
            0, 256, (count, contract.sampling.num_segments, 3, size, size), dtype=np.uint8
        )
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            await runtime.engine.encode_video(views, deadline=loop.time() + 60)
            times.append(1000 * (time.perf_counter() - started))
        found[count] = float(np.median(times))
    await runtime.close()
    return found


if __name__ == "__main__":
    main()
