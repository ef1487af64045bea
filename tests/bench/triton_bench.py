"""Measure the overhead of a Triton server for one clip: in process, over gRPC, over gRPC with shared memory.

The core runs a replacement of its onnxruntime backend, which copies each tensor once more than the native one; so
compare the two gRPC variants rather than either with the embedded engine. The variants alternate in blocks of shuffled
order, so that other load affects all of them. The first runs of a block are not counted, because threads of the
previous variant still spin. Quartiles show the precision of a difference.

python -m tests.bench.triton_bench
"""

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from serve.models.runtime import ModelRuntime, load_runtime
from serve.settings import ServeSettings, TritonSettings
from tests.triton.core import ROOT, triton_core

BLOCKS, ROUNDS, UNCOUNTED, VIEWS = 8, 10, 3, (1, 8)
WAYS: dict[str, dict[str, Any]] = {
    "in process, onnxruntime": {"engine": "onnxruntime-cpu"},
    "gRPC": {"engine": "triton", "shared_memory": "never"},
    "gRPC and shared memory": {"engine": "triton", "shared_memory": "always"},
}


def main() -> None:
    """Print the table and one JSON line."""
    with tempfile.TemporaryDirectory() as name, triton_core(ROOT / "model_repository", Path(name) / "core") as core:
        rows = asyncio.run(_measure(Path(name), core.grpc))
    base = next(iter(rows.values()))
    for way, times in rows.items():
        cells = ", ".join(
            f"{count} views {median:.1f} ms ({low:.1f} to {high:.1f}, {median / base[count][1]:.2f} times)"
            for count, (low, median, high) in times.items()
        )
        print(f"{way:<26}{cells}")
    figures = {
        way: {str(count): {"quartiles_ms": times, "ratio": times[1] / base[count][1]} for count, times in row.items()}
        for way, row in rows.items()
    }
    print(json.dumps({"bench": "triton", "rounds": BLOCKS * ROUNDS, "ways": figures}))


async def _measure(folder: Path, url: str) -> dict[str, dict[int, list[float]]]:
    """Return quartiles in milliseconds, by variant and number of views per request, for the demo model."""
    async with AsyncExitStack() as stack:
        runtimes = {}
        for way, choice in WAYS.items():
            runtimes[way] = await _load(folder, url, **choice)
            stack.push_async_callback(runtimes[way].close)
        times: dict[str, dict[int, list[float]]] = {way: {count: [] for count in VIEWS} for way in WAYS}
        order = np.random.default_rng(0)
        for _ in range(BLOCKS):
            for way, count in order.permutation([(way, count) for way in WAYS for count in VIEWS]):
                block = [await _once(runtimes[way], int(count)) for _ in range(UNCOUNTED + ROUNDS)]
                times[way][int(count)] += block[UNCOUNTED:]
    return {
        way: {count: np.percentile(found, [25, 50, 75]).tolist() for count, found in row.items()}
        for way, row in times.items()
    }


async def _load(folder: Path, url: str, *, engine: str, shared_memory: str = "auto") -> ModelRuntime:
    triton = TritonSettings(url=url, shared_memory=shared_memory)  # type: ignore[arg-type]
    settings = ServeSettings(cache_dir=folder / "cache", engine=engine, triton=triton)  # type: ignore[arg-type]
    return await load_runtime(settings, "demo")


async def _once(runtime: ModelRuntime, count: int) -> float:
    contract, size = runtime.contract, runtime.contract.preprocess.image_size
    views = np.random.default_rng(0).integers(
        0, 256, (count, contract.sampling.num_segments, 3, size, size), dtype=np.uint8
    )
    started = time.perf_counter()
    await runtime.engine.encode_video(views, deadline=asyncio.get_running_loop().time() + 60)
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
