"""Plots: of a calibration, the reliability diagram and known against unknown clips; of a timeline, its segments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serve.extras import require_extra
from serve.files import atomic_write
from serve.timeline.answers import TimelineSegment

INCHES, DOTS_PER_INCH = (5.0, 5.0), 150
TIMELINE_WIDTH, ROW_HEIGHT = 12.0, 0.3  # inches


def draw_calibration(answer: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the answer of `:calibrate` into a folder; return the written files.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"reliability.png": _reliability(answer), "open_set.png": _open_set(answer)}
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=DOTS_PER_INCH)
    return [folder / name for name in drawn]


def draw_timeline(segments: Sequence[TimelineSegment], path: Path, *, duration_seconds: float) -> None:
    """Draw the segments of a video as bars over time, a row for each label, darker for higher scores.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    require_extra("plots", needed_by="drawing")
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(segment.label for segment in segments))
    figure = Figure(figsize=(TIMELINE_WIDTH, 1.0 + ROW_HEIGHT * max(1, len(labels))), layout="constrained")
    axes = figure.subplots()
    for row, label in enumerate(labels):
        own = [segment for segment in segments if segment.label == label]
        spans = [(segment.start_seconds, segment.end_seconds - segment.start_seconds) for segment in own]
        shades = [(0.12, 0.47, 0.71, 0.3 + 0.7 * min(1.0, max(0.0, segment.score))) for segment in own]
        axes.broken_barh(spans, (row - 0.4, 0.8), facecolors=shades)
    axes.set(xlim=(0, max(duration_seconds, 1e-3)), ylim=(max(1, len(labels)) - 0.5, -0.5), xlabel="seconds")
    axes.set_yticks(range(len(labels)), [label.replace("$", r"\$") for label in labels])
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=DOTS_PER_INCH, format="png")


def _reliability(answer: Mapping[str, Any]) -> Any:
    found, fit = answer["calibration"], answer["acceptance"]["fitted"]
    figure, axes = _square("Reliability", "score of the best label", "share that is right")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for key, name, colour in (("before", "before", "tab:orange"), ("after", "after", "tab:blue")):
        bins: Sequence[Mapping[str, float]] = found[f"reliability_{key}"]
        error = fit[f"calibration_error_{key}"]
        if bins:
            axes.plot(
                [item["confidence"] for item in bins], [item["accuracy"] for item in bins],
                color=colour, linewidth=1, label=f"{name}, error {error:.3f}",
            )  # fmt: skip
            axes.scatter(
                [item["confidence"] for item in bins], [item["accuracy"] for item in bins],
                s=[10 + 200 * item["count"] / fit["num_known"] for item in bins], color=colour, alpha=0.6,
            )  # fmt: skip
    axes.legend(loc="upper left", frameon=False)
    return figure


def _open_set(answer: Mapping[str, Any]) -> Any:
    found, fit = answer["calibration"], answer["acceptance"]["fitted"]
    figure, axes = _square("Known or none of these", "share of unknown clips accepted", "share of known clips accepted")
    low, high = fit["false_accept_interval"]
    axes.axvspan(low, high, color="tab:green", alpha=0.15, label="95 % interval of the false-accept rate")
    axes.axvline(fit["false_accept_rate"], color="tab:green", linewidth=1)
    if found["curve"]:
        wrong, right = zip(*found["curve"], strict=True)
        figures = f"AUROC {fit['auroc']:.3f}, FPR at 95 % {fit['fpr_at_95_tpr']:.3f}"
        axes.step(wrong, right, where="post", color="tab:blue", label=figures)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _square(title: str, x: str, y: str) -> tuple[Any, Any]:
    """Return a figure and axes from 0 to 1, drawn without a display."""
    require_extra("plots", needed_by="drawing")
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(visible=True, color="0.92")
    return figure, axes
