"""Plots of calibrations (reliability diagram, accepted known and unknown clips) and of the segments of timelines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serve.extras import require_extra
from serve.files import atomic_write
from serve.timeline.responses import TimelineSegment

FIGURE_INCHES, DOTS_PER_INCH = (5.0, 5.0), 150
TIMELINE_WIDTH_INCHES, ROW_HEIGHT_INCHES = 12.0, 0.3


def draw_calibration(response: Mapping[str, Any], folder: Path) -> list[Path]:
    """Plot the response of `:calibrate` into files in `folder`; return their paths.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"reliability.png": _draw_reliability(response), "open_set.png": _draw_open_set(response)}
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=DOTS_PER_INCH)
    return [folder / name for name in figures]


def draw_timeline(segments: Sequence[TimelineSegment], path: Path, *, duration_seconds: float) -> None:
    """Plot the segments of a video as bars over time, one row per label; darker bars have higher scores.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    require_extra("plots", needed_by="drawing")
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(segment.label for segment in segments))
    figure = Figure(
        figsize=(TIMELINE_WIDTH_INCHES, 1.0 + ROW_HEIGHT_INCHES * max(1, len(labels))), layout="constrained"
    )
    axes = figure.subplots()
    for row, label in enumerate(labels):
        label_segments = [segment for segment in segments if segment.label == label]
        spans = [(segment.start_seconds, segment.end_seconds - segment.start_seconds) for segment in label_segments]
        shades = [(0.12, 0.47, 0.71, 0.3 + 0.7 * min(1.0, max(0.0, segment.score))) for segment in label_segments]
        axes.broken_barh(spans, (row - 0.4, 0.8), facecolors=shades)
    axes.set(xlim=(0, max(duration_seconds, 1e-3)), ylim=(max(1, len(labels)) - 0.5, -0.5), xlabel="seconds")
    axes.set_yticks(range(len(labels)), [label.replace("$", r"\$") for label in labels])
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=DOTS_PER_INCH, format="png")


def _draw_reliability(response: Mapping[str, Any]) -> Any:
    calibration, fit = response["calibration"], response["acceptance"]["fitted"]
    figure, axes = _square_figure("Reliability", "score of the best label", "accuracy")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for key, colour in (("before", "tab:orange"), ("after", "tab:blue")):
        bins: Sequence[Mapping[str, float]] = calibration[f"reliability_{key}"]
        error = fit[f"calibration_error_{key}"]
        if bins:
            axes.plot(
                [item["confidence"] for item in bins], [item["accuracy"] for item in bins],
                color=colour, linewidth=1, label=f"{key} calibration, error {error:.3f}",
            )  # fmt: skip
            axes.scatter(
                [item["confidence"] for item in bins], [item["accuracy"] for item in bins],
                s=[10 + 200 * item["count"] / fit["num_known"] for item in bins], color=colour, alpha=0.6,
            )  # fmt: skip
    axes.legend(loc="upper left", frameon=False)
    return figure


def _draw_open_set(response: Mapping[str, Any]) -> Any:
    calibration, fit = response["calibration"], response["acceptance"]["fitted"]
    figure, axes = _square_figure(
        "Open-set recognition", "fraction of unknown clips accepted", "fraction of known clips accepted"
    )
    low, high = fit["false_accept_interval"]
    axes.axvspan(low, high, color="tab:green", alpha=0.15, label="95 % interval of the false-accept rate")
    axes.axvline(fit["false_accept_rate"], color="tab:green", linewidth=1)
    if calibration["curve"]:
        false_accept_rates, true_accept_rates = zip(*calibration["curve"], strict=True)
        text = f"AUROC {fit['auroc']:.3f}, FPR at 95 % {fit['fpr_at_95_tpr']:.3f}"
        axes.step(false_accept_rates, true_accept_rates, where="post", color="tab:blue", label=text)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _square_figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    """Create a square figure with axes from 0 to 1; no display is needed."""
    require_extra("plots", needed_by="drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=FIGURE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True, color="0.92")
    return figure, axes
