"""Plots of a result: confusion matrix, reliability diagram, accuracy per class, top-k curve."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from serve.extras import require_extra
from training.evaluation.metrics import top_k_curve
from training.evaluation.results import EvaluationResult, SplitResult

DOTS_PER_INCH = 150
MAX_NAMED_CLASSES = 60  # up to this number all classes are named
NUM_WORST_CLASSES = 40  # named classes if there are more than `MAX_NAMED_CLASSES`
MAX_K = 50  # of the top-k curve


def draw_result(result: EvaluationResult, folder: Path) -> list[Path]:
    """Plot all splits into a folder, with a subfolder per split if there are several; return the files.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    files = []
    for number, split in enumerate(result.splits, start=1):
        split_folder = folder / f"{number:02d} {_file_name(split.name)}" if len(result.splits) > 1 else folder
        split_folder.mkdir(parents=True, exist_ok=True)
        for name, draw in _PLOTS.items():
            figure = draw(split)
            figure.savefig(split_folder / name, dpi=DOTS_PER_INCH)
            files.append(split_folder / name)
    return files


def _plot_confusion(split: SplitResult) -> Any:
    """Plot the confusion matrix with rows that sum to one; rows without videos are grey.

    The colour is proportional to the square root of the fraction, so that rare confusions are visible.
    """
    names, counts = split.class_names, split.accumulator.confusion().astype(np.float64)
    videos = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, videos, out=np.full_like(counts, np.nan), where=videos > 0)
    is_named = len(names) <= MAX_NAMED_CLASSES
    size = 3.5 + (0.16 * len(names) if is_named else 6.0)
    figure, (axes,) = _make_figure("Confusion", "prediction", "label", inches=(size + 1.0, size))
    image = axes.imshow(np.sqrt(fractions), vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    axes.set_facecolor("0.85")
    ticks = (0, 0.01, 0.1, 0.25, 0.5, 0.75, 1)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="fraction of the class's videos")
    bar.set_ticks(np.sqrt(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks])
    if is_named:
        tick_positions = range(len(names))
        axes.set_xticks(tick_positions, [_axis_label(name) for name in names], rotation=90, fontsize=7)
        axes.set_yticks(tick_positions, [_axis_label(name) for name in names], fontsize=7)
    else:
        axes.set(xlabel="prediction (class index)", ylabel="label (class index)")
    return figure


def _plot_reliability(split: SplitResult) -> Any:
    metrics = split.metrics
    figure, (axes,) = _make_figure("Reliability", "confidence", "accuracy", inches=(5.0, 5.0))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True, color="0.92")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    x, y = [item.confidence for item in metrics.bins], [item.accuracy for item in metrics.bins]
    axes.plot(x, y, color="tab:blue", linewidth=1, label=f"expected calibration error {metrics.calibration_error:.3f}")
    sizes = [12 + 250 * item.count / metrics.num_readable for item in metrics.bins]
    axes.scatter(x, y, s=sizes, color="tab:blue", alpha=0.6, label="area: videos in the bin")
    axes.legend(loc="best")
    return figure


def _plot_class_accuracies(split: SplitResult) -> Any:
    """Plot the accuracy of each class; if there are many classes, a curve of all and bars of the worst."""
    seen = sorted(
        (item for item in split.metrics.classes if item.top1 is not None), key=lambda item: (item.top1, -item.number)
    )
    shown, mean = (
        (seen if len(seen) <= MAX_NAMED_CLASSES else seen[:NUM_WORST_CLASSES]),
        split.metrics.mean_class_accuracy,
    )
    inches, x = (7.0, 1.5 + 0.2 * len(shown)), "fraction of the class's videos"
    if len(shown) == len(seen):
        figure, (axes,) = _make_figure("Top-1 of each class", x, "", inches=inches)
    else:
        title = f"Top-1 of the worst {NUM_WORST_CLASSES} of {len(seen)} classes"
        figure, (above, axes) = _make_figure(title, x, "", inches=(7.0, inches[1] + 3.0), heights=(3.0, inches[1]))
        above.step(np.arange(len(seen)), [item.top1 for item in seen], color="tab:blue", where="mid")
        above.axhline(mean, color="tab:orange", linewidth=1)
        above.set(title=f"Top-1 of all {len(seen)} classes", xlabel="classes, worst first", ylabel=x, ylim=(0, 1.02))
        above.grid(visible=True, color="0.92")
    axes.barh(np.arange(len(shown)), [item.top1 for item in shown], color="tab:blue")
    labels = [f"{_axis_label(split.class_names[item.number])} ({item.count})" for item in shown]
    axes.set_yticks(np.arange(len(shown)), labels, fontsize=7)
    axes.set(xlim=(0, 1), ylim=(-0.7, len(shown) - 0.3))
    axes.axvline(mean, color="tab:orange", linewidth=1, label=f"mean over classes {mean:.3f}")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def _plot_top_k(split: SplitResult) -> Any:
    max_k = min(MAX_K, len(split.class_names))
    accuracies = top_k_curve(split.accumulator.ranks(), max_k)
    figure, (axes,) = _make_figure("Top-k accuracy", "k", "fraction of videos", inches=(6.0, 4.0))
    ks = np.arange(1, max_k + 1)
    marker = "o" if max_k <= MAX_NAMED_CLASSES else None
    axes.plot(ks, accuracies, color="tab:blue", marker=marker, markersize=3, label="model")
    axes.plot(ks, ks / len(split.class_names), color="0.7", linewidth=1, label="chance")
    axes.set(ylim=(0, 1.02), xlim=(0.5, max_k + 0.5))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=True, color="0.92")
    axes.legend(loc="lower right", frameon=False)
    return figure


_PLOTS = {
    "confusion.png": _plot_confusion,
    "reliability.png": _plot_reliability,
    "classes.png": _plot_class_accuracies,
    "top_k.png": _plot_top_k,
}


def _make_figure(
    title: str, x: str, y: str, *, inches: tuple[float, float], heights: tuple[float, ...] = (1.0,)
) -> tuple[Any, list[Any]]:
    """Create a figure with one axes per height, stacked vertically, without a display."""
    require_extra("plots", needed_by="drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    axes = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    axes[-1].set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _axis_label(name: str) -> str:
    """Shorten a name for an axis; escape dollar signs, which would start a formula."""
    shortened = name if len(name) <= 32 else f"{name[:31]}…"
    return shortened.replace("$", r"\$")


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-60:]
