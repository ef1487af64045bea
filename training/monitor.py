"""Report the progress of a run: a progress bar, one JSON line per evaluation, TensorBoard files, and Weights & Biases.

View the TensorBoard files with `tensorboard --logdir runs`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from serve.arrays import UInt8Array
from training.weights_and_biases import LogMetrics

MAX_PREDICTIONS = 8  # shown per evaluation


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A clip, its label and the predicted label."""

    clip: UInt8Array  # [T, 3, S, S]
    label: str
    predicted: str
    probability: float  # probability of the predicted label


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The result of an evaluation: metrics, and arrays for TensorBoard."""

    metrics: dict[str, Any]
    confusion: np.ndarray | None = None  # counts [K, K]; rows are labels, columns are predictions
    predictions: tuple[Prediction, ...] = ()


@dataclass
class Monitor:
    """Reports the progress of a run; does nothing on ranks other than 0."""

    _writer: SummaryWriter | None
    _progress: Progress | None
    _out: Path
    _task: Any = field(default=None)
    _wandb: LogMetrics | None = None

    def step(
        self, step: int, *, losses: Mapping[str, float], learning_rates: Mapping[str, float], clips_per_second: float
    ) -> None:
        """Report losses, the learning rate of each parameter group, and speed."""
        if self._writer is None or self._progress is None:
            return
        caption = format_losses(losses, digits=3)
        self._progress.update(self._task, completed=step, caption=f"{caption} {clips_per_second:.1f} clips/s")
        groups = {"loss": losses, "rate": learning_rates, "speed": {"clips_per_second": clips_per_second}}
        values = {f"{group}/{name}": value for group, each in groups.items() for name, value in each.items()}
        self._log_scalars(step, values)

    def evaluation(self, step: int, report: EvaluationReport) -> None:
        """Write an evaluation as a JSON line to standard output and `evaluations.jsonl`, and to TensorBoard."""
        if self._writer is None:
            return
        line = json.dumps({"step": step, **report.metrics})
        print(line, flush=True)
        with (self._out / "evaluations.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        self._log_scalars(step, flatten_metrics(report.metrics, "evaluation"))
        if report.confusion is not None:
            self._writer.add_image("confusion", _draw_confusion(report.confusion), step, dataformats="HW")
        for number, item in enumerate(report.predictions[:MAX_PREDICTIONS]):
            self._writer.add_image(f"clip/{number}", np.concatenate(list(item.clip), axis=2), step)
            caption = f"{item.label}: predicted {item.predicted} ({item.probability:.2f})"
            self._writer.add_text(f"clip/{number}", caption, step)
        self._writer.flush()

    def _log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Report numbers to TensorBoard and Weights & Biases."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb(step, values)


@contextmanager
def open_monitor(
    out: Path, *, completed_steps: int, total_steps: int, is_main_process: bool, wandb: LogMetrics | None = None
) -> Iterator[Monitor]:
    """Open the monitor of a run with `total_steps` steps, of which `completed_steps` were completed before.

    If a stopped run is resumed, its entries for later steps are removed, because these steps run again.
    """
    if not is_main_process:
        yield Monitor(None, None, out)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[caption]}"),
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    _truncate_after(out / "evaluations.jsonl", completed_steps)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=completed_steps + 1)
    try:
        with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as progress:
            task = progress.add_task("training", total=total_steps, completed=completed_steps, caption="")
            yield Monitor(writer, progress, out, task, wandb)
    finally:
        writer.close()


def flatten_metrics(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Flatten nested metrics to a dict with keys `prefix/name`; items of lists have their index as the name.

    >>> flatten_metrics({"top1": 0.5, "counts": {"top1": 4}, "note": "x", "edges": [0.1, 0.9]}, "evaluation")
    {'evaluation/top1': 0.5, 'evaluation/counts/top1': 4, 'evaluation/edges/0': 0.1, 'evaluation/edges/1': 0.9}
    """
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, (int, float)):
            numbers[f"{prefix}/{name}"] = value
        elif isinstance(value, (Mapping, list)):
            items = value if isinstance(value, Mapping) else {str(index): item for index, item in enumerate(value)}
            numbers |= flatten_metrics(items, f"{prefix}/{name}")
    return numbers


def _truncate_after(path: Path, step: int) -> None:
    """Remove entries after `step` from a file of evaluations."""
    if not path.is_file():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the line was truncated by a crash


def format_losses(losses: Mapping[str, float], *, digits: int) -> str:
    """Format losses as `loss 1.234`, or as `TASK loss 1.234, ...` if there are several tasks."""
    if len(losses) == 1:
        (value,) = losses.values()
        return f"loss {value:.{digits}f}"
    return ", ".join(f"{task} loss {value:.{digits}f}" for task, value in losses.items())


def _draw_confusion(confusion: np.ndarray) -> UInt8Array:
    """Draw a confusion matrix [K, K], normalised per row, as a grey image of at least 256 by 256 pixels."""
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image: UInt8Array = (255 * fractions).astype(np.uint8)
    scale = max(1, -(-256 // len(image)))
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
