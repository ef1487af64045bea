"""How fast recipes train, and how much of the machine's arithmetic they use (MFU).

    python -m tests.bench.train_bench [RECIPE...] [--set a.b=c]

Full-size models with fresh weights take real steps of the trainer (forward, loss, backward, clip, step) on random
clips, so loading takes no part; `loader_bench` measures that. Arithmetic is counted as it is run, matrix products,
convolutions and attention; the peak is the fastest of a few large matrix products here in the same precision, and
beside it the maker's figure where the device is known. On a GPU: ActionCLIP and X-CLIP, ViT-B/16, T = 8, in bf16;
without one ActionCLIP alone, two clips a step in fp32. Prints a table and one JSON line. The promise: a share of the
fastest matrix product, `LEAST`. The control: steps three times as long.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.promises import Promise, settle, spread
from tests.running_server import ROOT
from training.config import TrainConfig, load_config
from training.data.prompts import TemplatedPhrases
from training.devices import autocast_context, select_device
from training.distributed import RankInfo
from training.models.base import VideoTextModel
from training.monitor import EvaluationReport
from training.prompting import make_text_contract
from training.run_state import start_or_resume
from training.trainer import make_context, take_step

CONFIGS = ROOT / "training" / "configs"
ON_GPU = ("actionclip/k400_vit-b-16_8.yaml", "xclip/k400_vit-b-16_8.yaml")
WITHOUT_GPU = ON_GPU[:1]
GPU_BATCH, CPU_BATCH = 64, 2
WARM_UP, STEPS = 1, 5
LEAST = {"cpu": 0.5, "cuda": 0.25}  # measured: 0.68 and 0.83 on two processors; on a GPU not measured
MAKERS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0}  # TFLOP/s, dense bf16


class RandomClips:
    """Clips of noise against the class names of Kinetics-400."""

    weights: Mapping[str, float] = {"label": 1.0}
    num_entries: int | None = None
    labels = tuple((ROOT / "serve" / "vocabularies" / "kinetics400.txt").read_text(encoding="utf-8").splitlines())

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.templates = config.data.templates
        self.tasks = {"label": (slice(0, len(self.labels)), torch.arange(len(self.labels)))}
        self._phrases = TemplatedPhrases(self.labels, self.templates, text=make_text_contract(config), seed=0)

    def tokens(self, step: int) -> Tensor:
        """Tokens [K, L] of all class names."""
        return self._phrases.tokens(step)

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Tokens [b, L] of the class name of each clip."""
        return self._phrases.sample_tokens(indices, step)

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batch without end."""
        data, size = self._config.data, self._config.run.batch_size
        clips = torch.randint(256, (size, data.num_frames, 3, data.image_size, data.image_size), dtype=torch.uint8)
        while True:
            yield clips, torch.arange(size) % len(self.labels)

    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Nothing: noise shows nothing."""
        return EvaluationReport(metrics={})

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """Not to be used."""
        return "Trained on noise.\n"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One recipe."""

    recipe: str
    precision: str
    batch_size: int
    seconds_per_step: float  # median
    rounds_seconds: tuple[float, ...]  # of each step
    clips_per_second: float
    images_per_second: float
    tflop_per_step: float
    tflops: float
    share_of_matmul: float  # of the fastest matrix product here
    share_of_maker: float | None  # of the figure the device is sold with


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("recipes", nargs="*", help="files under training/configs")
    options.add_argument("--set", dest="changes", action="append", default=[], help="a.b=c")
    asked = options.parse_args()
    device = select_device("auto", key="device")
    is_gpu = device.type == "cuda"
    usual = [f"run.batch_size={GPU_BATCH if is_gpu else CPU_BATCH}", "run.micro_batch=0", "model.start=''"]
    usual += [f"run.precision={'bf16' if is_gpu else 'fp32'}"]
    speeds = [
        measured(name, [*usual, *asked.changes], device)
        for name in asked.recipes or (ON_GPU if is_gpu else WITHOUT_GPU)
    ]
    name = (
        torch.cuda.get_device_name(device)
        if is_gpu
        else f"{platform.processor() or 'CPU'}, {torch.get_num_threads()} threads"
    )
    print(f"{name}; a step is forward, loss, backward and update; medians of {STEPS}")
    print(
        f"{'recipe':<34}{'batch':>6}{'s/step':>9}{'clips/s':>9}{'images/s':>10}{'TFLOP/s':>9}"
        f"{'of matmul':>11}{'of maker':>10}"
    )
    for item in speeds:
        maker = "" if item.share_of_maker is None else f"{item.share_of_maker:.2f}"
        print(
            f"{item.recipe:<34}{item.batch_size:>6}{item.seconds_per_step:>9.3f}{item.clips_per_second:>9.1f}"
            f"{item.images_per_second:>10.1f}{item.tflops:>9.2f}{item.share_of_matmul:>11.2f}{maker:>10}"
        )
        print(f"{item.recipe}: a step takes {spread(item.rounds_seconds, 's')}")
    print(
        json.dumps(
            {"bench": "train", "device": name, "torch": torch.__version__, "recipes": [vars(item) for item in speeds]}
        )
    )
    shares = {item.recipe: item.share_of_matmul for item in speeds}
    control = {recipe: share / 3 for recipe, share in shares.items()}
    settle(judged(shares, device.type), {"steps three times as long": judged(control, device.type)})


def judged(shares: Mapping[str, float], device: str) -> list[Promise]:
    """What the shares of the fastest matrix product promise."""
    return [
        Promise(words=f"{recipe}: share of the fastest matrix product", found=share, least=LEAST[device])
        for recipe, share in shares.items()
    ]


def measured(recipe: str, changes: Sequence[str], device: torch.device) -> Speed:
    """The speed of a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(CONFIGS / recipe, [*changes, f"run.out={folder}"])
        source = RandomClips(config)
        place = RankInfo(rank=0, world_size=1, device=device)
        torch.manual_seed(0)
        state = start_or_resume(config, place)
        precision = autocast_context(config.run.precision, device, key="run.precision")
        length = WARM_UP + STEPS, float(WARM_UP + STEPS)
        context = make_context(config, source, state, place, precision=precision, length=length)
        clips, indices = next(source.batches(first_step=0))

        def step() -> None:
            take_step(state, context, clips, indices)
            state.step += 1

        with FlopCounterMode(display=False) as counter:
            step()  # the warm-up too
        rounds = tuple(timed(step, device) for _ in range(STEPS))
    seconds = statistics.median(rounds)
    tflop = counter.get_total_flops() / 1e12
    peak = matmul_tflops(device, torch.bfloat16 if config.run.precision == "bf16" else torch.float32)
    size, tflops = config.run.batch_size, tflop / seconds
    maker = next(
        (
            value
            for name, value in MAKERS.items()
            if device.type == "cuda" and name in torch.cuda.get_device_name(device)
        ),
        None,
    )
    return Speed(
        recipe=recipe,
        precision=config.run.precision,
        batch_size=size,
        seconds_per_step=round(seconds, 4),
        rounds_seconds=tuple(round(value, 4) for value in rounds),
        clips_per_second=round(size / seconds, 2),
        images_per_second=round(size * config.data.num_frames / seconds, 1),
        tflop_per_step=round(tflop, 3),
        tflops=round(tflops, 3),
        share_of_matmul=round(tflops / peak, 3),
        share_of_maker=None if maker is None or config.run.precision != "bf16" else round(tflops / maker, 3),
    )


def matmul_tflops(device: torch.device, kind: torch.dtype) -> float:
    """TFLOP/s of the fastest of a few large matrix products."""
    side = 8192 if device.type == "cuda" else 2048
    one = torch.randn(side, side, device=device, dtype=kind)
    out = torch.empty_like(one)
    seconds = min(timed(lambda: torch.mm(one, one, out=out), device) for _ in range(10))
    return float(2 * side**3 / seconds / 1e12)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of some work, to its end on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
