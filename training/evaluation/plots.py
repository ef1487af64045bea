"""Plots of a result: confusion matrix, reliability diagram, top-1 of each class, top-k curve."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from serve.extras import require_extra
from training.evaluation.metrics import top_k_curve
from training.evaluation.results import Result, SplitResult

DOTS_PER_INCH = 150
NAMED_CLASSES = 60  # up to this number all classes are named
WORST = 40  # number of named classes beyond that
MOST_RANKS = 50  # largest k of the top-k curve


def draw_result(result: Result, folder: Path) -> list[Path]:
    """Plot all splits into a folder, several into subfolders; return the files.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    drawn = []
    for number, split in enumerate(result.splits, start=1):
        place = folder / f"{number:02d} {_file_name(split.name)}" if len(result.splits) > 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        for name, draw in _DRAWN.items():
            figure = draw(split)
            figure.savefig(place / name, dpi=DOTS_PER_INCH)
            drawn.append(place / name)
    return drawn


def _confusion(split: SplitResult) -> Any:
    """Plot the confusion matrix with rows that sum to one; rows without videos are grey. Colours follow the square
    root of the share, so that rare confusions are visible.
    """
    names, counts = split.class_names, split.accumulator.confusion().astype(np.float64)
    videos = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, videos, out=np.full_like(counts, np.nan), where=videos > 0)
    is_named = len(names) <= NAMED_CLASSES
    side = 3.5 + (0.16 * len(names) if is_named else 6.0)
    figure, (axes,) = _figure("Confusion", "taken for", "shows", inches=(side + 1.0, side))
    image = axes.imshow(np.sqrt(shares), vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    axes.set_facecolor("0.85")
    ticks = (0, 0.01, 0.1, 0.25, 0.5, 0.75, 1)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="share of the class's videos")
    bar.set_ticks(np.sqrt(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks])
    if is_named:
        places = range(len(names))
        axes.set_xticks(places, [_short(name) for name in names], rotation=90, fontsize=7)
        axes.set_yticks(places, [_short(name) for name in names], fontsize=7)
    else:
        axes.set(xlabel="prediction (class number)", ylabel="label (class number)")
    return figure


def _reliability(split: SplitResult) -> Any:
    figures = split.figures
    figure, (axes,) = _figure("Reliability", "probability of the best class", "share that is right", inches=(5.0, 5.0))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True, color="0.92")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    x, y = [item.confidence for item in figures.bins], [item.accuracy for item in figures.bins]
    axes.plot(x, y, color="tab:blue", linewidth=1, label=f"expected calibration error {figures.calibration_error:.3f}")
    sizes = [12 + 250 * item.count / figures.num_readable for item in figures.bins]
    axes.scatter(x, y, s=sizes, color="tab:blue", alpha=0.6, label="area: videos in the bin")
    axes.legend(loc="best")
    return figure


def _classes(split: SplitResult) -> Any:
    """Plot top-1 of each class by name; for many classes a curve, and the worst ones by name."""
    seen = sorted(
        (item for item in split.figures.classes if item.top1 is not None), key=lambda item: (item.top1, -item.number)
    )
    shown, mean = (seen if len(seen) <= NAMED_CLASSES else seen[:WORST]), split.figures.mean_class_accuracy
    inches, x = (7.0, 1.5 + 0.2 * len(shown)), "share of the class's videos"
    if len(shown) == len(seen):
        figure, (axes,) = _figure("Top-1 of each class", x, "", inches=inches)
    else:
        title = f"Top-1 of the worst {WORST} of {len(seen)} classes"
        figure, (above, axes) = _figure(title, x, "", inches=(7.0, inches[1] + 3.0), heights=(3.0, inches[1]))
        above.step(np.arange(len(seen)), [item.top1 for item in seen], color="tab:blue", where="mid")
        above.axhline(mean, color="tab:orange", linewidth=1)
        above.set(title=f"Top-1 of all {len(seen)} classes", xlabel="classes, worst first", ylabel=x, ylim=(0, 1.02))
        above.grid(visible=True, color="0.92")
    axes.barh(np.arange(len(shown)), [item.top1 for item in shown], color="tab:blue")
    labels = [f"{_short(split.class_names[item.number])} ({item.count})" for item in shown]
    axes.set_yticks(np.arange(len(shown)), labels, fontsize=7)
    axes.set(xlim=(0, 1), ylim=(-0.7, len(shown) - 0.3))
    axes.axvline(mean, color="tab:orange", linewidth=1, label=f"mean over classes {mean:.3f}")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def _top_k(split: SplitResult) -> Any:
    most = min(MOST_RANKS, len(split.class_names))
    shares = top_k_curve(split.accumulator.ranks(), most)
    figure, (axes,) = _figure("Label among the k best", "k", "share of videos", inches=(6.0, 4.0))
    ks = np.arange(1, most + 1)
    axes.plot(ks, shares, color="tab:blue", marker="o" if most <= NAMED_CLASSES else None, markersize=3, label="model")
    axes.plot(ks, ks / len(split.class_names), color="0.7", linewidth=1, label="chance")
    axes.set(ylim=(0, 1.02), xlim=(0.5, most + 0.5))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=True, color="0.92")
    axes.legend(loc="lower right", frameon=False)
    return figure


_DRAWN = {
    "confusion.png": _confusion,
    "reliability.png": _reliability,
    "classes.png": _classes,
    "top_k.png": _top_k,
}


def _figure(
    title: str, x: str, y: str, *, inches: tuple[float, float], heights: tuple[float, ...] = (1.0,)
) -> tuple[Any, list[Any]]:
    """Create a figure with axes below each other, without a display."""
    require_extra("plots", needed_by="drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    axes = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    axes[-1].set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _short(name: str) -> str:
    """Shorten a name for an axis; escape dollar signs, which begin formulas."""
    cut = name if len(name) <= 32 else f"{name[:31]}…"
    return cut.replace("$", r"\$")


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-60:]
