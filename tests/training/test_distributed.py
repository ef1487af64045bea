"""Two processes under torchrun train as one: the same losses, the same weights, every sample counted once."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.running_server import ROOT
from tests.tolerances import tolerance
from training.checkpoints.native_format import load_checkpoint

CONFIG = """
model:
  family: {family}
  model:
    num_frames: 2
    vision: {{kind: clip, image_size: 32, patch_size: 16, width: 32, layers: 2, heads: 2, embed_dim: 16}}
    text: {{kind: clip, context_length: 32, vocab_size: 49408, width: 16, layers: 1, heads: 2, embed_dim: 16}}
    {parts}
data: {{source: folder, train: {folder}, val: {folder}, system: {system}, image_size: 32, num_frames: 2, workers: 0,
       templates: ["{{}}", "a video of {{}}", "look: {{}}"]}}
loss: {loss}
optim: {{groups: {groups}, lr: 1.0e-3, schedule: xclip_cosine, warmup_epochs: 0.2, clip_norm: 1.0}}
run: {{out: {out}, epochs: 2, batch_size: 4, log_every: 1, threads: 1, device: cpu}}
"""
KINDS = {
    "pairs": {
        "family": "actionclip", "parts": "fusion: {kind: Transf, layers: 1, heads: 2}", "groups": "actionclip",
        "system": "actionclip", "loss": "{kind: pairs}", "extra": "micro_batch: 1,",
    },
    "phrases": {
        "family": "xclip", "parts": "mit: {layers: 1, heads: 2}\n    prompts: {layers: 1, heads: 2}", "groups": "xclip",
        "system": "xclip", "loss": "{kind: phrases, smoothing: 0.1}", "extra": "",
    },
}  # fmt: skip


def run(out: Path, class_folders: Path, kind: str, *, processes: int, extra: str = "") -> tuple[list[float], Path]:
    """(loss of each step, folder) of a run; `extra` joins the keys of `run`."""
    path = out.with_suffix(".yaml")
    text = CONFIG.format(out=out, folder=class_folders, **KINDS[kind])
    path.write_text(text.replace("batch_size: 4,", f"batch_size: 4, {extra}"))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
    done = subprocess.run(
        [sys.executable, *launch, "-m", "training", "train", str(path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [float(value) for value in re.findall(r"step \d+/\d+ loss ([0-9.]+)", done.stderr)]
    return losses[::processes], out


def evaluated(out: Path, class_folders: Path, *, processes: int) -> tuple[list[tuple[object, ...]], object]:
    """(path, label and rank of every video, top-1 with its interval) of the command `evaluate`."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
    file = out / f"result-{processes}.json"
    words = ["evaluate", out / "checkpoint.pt", class_folders, "--own-classes", "--device", "cpu", "--out", file]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "training", *map(str, words), "--workers", "0", "--clips", "2"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len([line for line in done.stdout.splitlines() if line.startswith("{")]) == 1, "one process tells"
    (split,) = json.loads(file.read_text())["splits"]
    rows = [(video["path"], video["label"], video["rank"]) for video in split["videos"]]
    return rows, (split["figures"]["top1"], split["intervals"]["top1"])


@pytest.fixture(scope="module", params=KINDS)
def alone(
    request: pytest.FixtureRequest, class_folders: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[float], Path]:
    """(kind, losses, folder) of a run in one process."""
    return request.param, *run(
        tmp_path_factory.mktemp("alone") / request.param, class_folders, request.param, processes=1
    )


def test_two_processes_train_as_one(alone: tuple[str, list[float], Path], class_folders: Path, tmp_path: Path) -> None:
    kind, losses, out = alone
    together, other = run(tmp_path / "two", class_folders, kind, processes=2, extra=KINDS[kind]["extra"])
    assert len(losses) == 6  # two epochs of twelve videos
    assert len(set(losses)) == 6
    assert together == pytest.approx(losses, abs=tolerance(100.0))  # of logits, which move a loss no further
    ours, theirs = (load_checkpoint(folder / "checkpoint.pt").weights for folder in (out, other))
    for name, value in ours.items():  # Adam makes steps of full length out of gradients that are rounding alone
        assert torch.allclose(value, theirs[name], atol=1e-3), name
    assert evaluated(out, class_folders, processes=2) == evaluated(out, class_folders, processes=1)
    figures = [
        [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
        for folder in (out, other)
    ]
    assert figures[0] == figures[1]
    assert [item["videos"] for item in figures[1]] == [12, 12], "every video once, in whichever process"
