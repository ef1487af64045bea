"""The video graph with q, k and v packed in one matrix, as models keep them, against the graph export writes.

    python -m tests.bench.attention_bench

Full size, fresh weights, one clip of eight frames, on every runtime of this machine; the graphs take turns, medians of
`ROUNDS`. A line of JSON follows. The promise: the same features, and the separate graph faster on the (geometric) mean
over models of each runtime. The controls: the graphs exchanged, and features of another clip.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from export.attention import separate_projections_
from export.exporter import write_plan
from export.graphs import make_graph_plans
from export.onnx_files import WeightFile
from serve.arrays import UInt8Array
from serve.engines.ort import OrtSession
from serve.engines.ov import OpenVinoSession, has_bf16
from serve.engines.parity_check import processor_name
from tests.bench.export_bench import TEXT_B, VISION_B32, fresh
from tests.bench.promises import Promise, settle, spread
from tests.bench.turns import in_turns
from tests.models import tiny_checkpoint, tiny_open_clip
from training.checkpoints.native_format import Checkpoint

ROUNDS, NUM_FRAMES = 7, 8
LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.9995}  # bf16 keeps 8 bits; measured 0.999996 and above
B16 = {**VISION_B32, "patch_size": 16}
MODELS: dict[str, Callable[[], Checkpoint]] = {
    "X-CLIP B/16": lambda: tiny_checkpoint(
        "xclip", num_frames=NUM_FRAMES, vision=B16, text=TEXT_B, mit={"layers": 1, "heads": 8},
        prompts={"layers": 2, "heads": 8},
    ),
    "ViT-B-16": lambda: tiny_open_clip("ViT-B-16", {}, dynamic_length=True, num_frames=NUM_FRAMES),
    "PE-Core-B-16": lambda: tiny_open_clip("PE-Core-B-16", {}, dynamic_length=True, num_frames=NUM_FRAMES),
    "ViT-B-16-SigLIP2": lambda: tiny_open_clip("ViT-B-16-SigLIP2", {}, dynamic_length=False, num_frames=NUM_FRAMES),
}  # fmt: skip


def main() -> None:
    """Print a row for each model and runtime and a line of JSON; exit with 1 where a promise is broken."""
    name = processor_name().splitlines()[0].partition(":")[2].strip()
    found: dict[str, Any] = {"bench": "attention", "processor": name, "cores": os.cpu_count(), "rows": []}
    print(f"{'model':<18}{'runtime':<18}{'packed':>10}{'separate':>10}{'times':>7}   lowest cosine of the two")
    for label, make in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            found["rows"] += list(_rows(label, fresh(make()), Path(folder)))
    print(json.dumps(found))
    rows = found["rows"]
    settle(
        judged(rows),
        {
            "the graphs exchanged": judged([{**row, "ratio": 1 / row["ratio"]} for row in rows]),
            "features of another clip": judged([{**row, "cosine": row["cosine_of_another_clip"]} for row in rows]),
        },
    )


def judged(rows: Sequence[Mapping[str, Any]]) -> list[Promise]:
    """What the rows promise."""
    promises = [
        Promise(
            words=f"{row['model']}, {row['runtime']}: cosine of the two", found=row["cosine"],
            least=LEAST_COSINE["bf16" if row["runtime"].endswith("bf16") else "fp32"],
        )
        for row in rows
    ]  # fmt: skip
    for runtime in dict.fromkeys(row["runtime"] for row in rows):
        ratios = [row["ratio"] for row in rows if row["runtime"] == runtime]
        promises.append(
            Promise(
                words=f"{runtime}: times as fast, mean over models", found=statistics.geometric_mean(ratios), least=1
            )
        )
    return promises


def _rows(label: str, checkpoint: Checkpoint, folder: Path) -> Iterator[dict[str, Any]]:
    graphs = {name: _graph(checkpoint, folder / name) for name in ("packed", "separate")}
    size = checkpoint.preprocess.image_size
    frames = np.random.default_rng(0).integers(0, 256, (1, NUM_FRAMES, 3, size, size), dtype=np.uint8)
    for runtime, load in _runtimes(folder).items():
        runs = {name: load(path) for name, path in graphs.items()}
        features = {name: run(frames) for name, run in runs.items()}
        ways = {name: partial(run, frames) for name, run in runs.items()}
        rounds = in_turns(ways, ROUNDS)
        times = {name: statistics.median(values) for name, values in rounds.items()}
        row = {
            "model": label,
            "runtime": runtime,
            **times,
            "rounds_ms": rounds,
            "ratio": times["packed"] / times["separate"],
            "cosine": _cosine(features["packed"], features["separate"]),
            "cosine_of_another_clip": _cosine(features["packed"], runs["separate"](np.zeros_like(frames))),
        }
        print(
            f"{label:<18}{runtime:<18}{row['packed']:>7.0f} ms{row['separate']:>7.0f} ms{row['ratio']:>7.2f}"
            f"   {row['cosine']:.6f}"
        )
        for name, values in rounds.items():
            print(f"  {name}: {spread(values, 'ms')}")
        yield row


def _graph(checkpoint: Checkpoint, folder: Path) -> Path:
    model = checkpoint.build()
    plans = make_graph_plans(
        model, sampling=checkpoint.sampling, preprocess=checkpoint.preprocess, text=checkpoint.text
    )
    plan = plans["video"]
    if folder.name == "separate":
        separate_projections_(model)
    folder.mkdir()
    with WeightFile(folder) as weight_file:
        write_plan(plan, folder, weight_file=weight_file, halve_weights=False)
    return folder / plan.file


def _runtimes(folder: Path) -> dict[str, Callable[[Path], Callable[[UInt8Array], Any]]]:
    def loader(kind: type[OrtSession | OpenVinoSession], label: str) -> Callable[[Path], Callable[[UInt8Array], Any]]:
        def load(path: Path) -> Callable[[UInt8Array], Any]:
            session = kind(path, label, threads=0, cache_dir=folder / "cache" / path.parent.name)
            return lambda frames: session.run({"frames": frames})["video_features"]

        return load

    found = {"onnxruntime-cpu": loader(OrtSession, "onnxruntime-cpu")}
    for label in ("openvino-f32", *(["openvino-bf16"] if has_bf16() else [])):
        found[label] = loader(OpenVinoSession, label)
    return found


def _cosine(one: Any, other: Any) -> float:
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float(((one * other).sum(-1) / norms).min())


if __name__ == "__main__":
    main()
