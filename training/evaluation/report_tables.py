"""Format results and comparisons as text tables."""

from collections.abc import Iterator, Sequence

from training.evaluation.comparison import ClassChange, Comparison
from training.evaluation.results import METRIC_NAMES, EvaluationResult, SplitResult

MAX_CLASSES = 20
MAX_REASONS = 5
MAX_CHANGES = 10  # in each direction


def result_table(result: EvaluationResult) -> Iterator[str]:
    """Yield the lines of a result: checkpoint and protocol, metrics with intervals, and classes from the worst."""
    checkpoint, protocol = result.checkpoint, result.protocol
    scoring = protocol["scoring"]
    step = "" if checkpoint.step is None else f", step {checkpoint.step}"
    shots = "".join(f", {name} {value}" for name, value in checkpoint.few_shot.items())
    yield f"{checkpoint.file} ({checkpoint.family}, sha256 {checkpoint.sha256[:12]}{step}{shots})"
    yield (
        f"{protocol['num_clips']} clips x {protocol['num_crops']} crops, {scoring['view_rule']} over views, "
        f"{scoring['ensembling']} over {len(protocol['text']['templates'])} templates"
    )
    for split in result.splits:
        yield ""
        yield from _split_lines(split)
    statistics = result.over_splits()
    if statistics:
        yield ""
        yield f"over {len(result.splits)} splits: mean and standard deviation"
        k = min(split.metrics.top5_k for split in result.splits)
        for name, (mean, deviation) in statistics.items():
            yield f"  {_title(name, k):<32}{mean:>9.4f}{deviation:>9.4f}"


def comparison_table(
    comparisons: Sequence[Comparison], *, first: str, second: str, is_same_protocol: bool
) -> Iterator[str]:
    """Yield the lines of a comparison."""
    yield f"first   {first}"
    yield f"second  {second}"
    if not is_same_protocol:
        yield "the protocols differ (views, templates or scoring rules)"
    for item in comparisons:
        yield ""
        yield f"{item.name}: {item.num_videos} videos compared, {item.num_independent} independent" + (
            f", {item.num_unreadable} not compared (unreadable in one or both results)" if item.num_unreadable else ""
        )
        yield f"  {'':<24}{'first':>9}{'second':>9}{'difference':>12}   95 % interval"
        for name, each in item.figures.items():
            low, high = each.interval
            yield (
                f"  {_title(name, item.top5_k):<24}{each.first:>9.4f}{each.second:>9.4f}{each.difference:>+12.4f}"
                f"   {low:+.4f} to {high:+.4f}"
            )
        yield f"  gained {item.gained}, lost {item.lost} videos; McNemar's exact p {item.mcnemar_p:.4g}"
        yield from _class_change_lines(item.classes)


def _split_lines(split: SplitResult) -> Iterator[str]:
    metrics = split.metrics
    copies = f" ({metrics.num_copies} are copies)" if metrics.num_copies else ""
    yield (
        f"{split.name}: {metrics.num_videos} videos, {metrics.num_independent} independent of each other{copies}, "
        f"{len(split.class_names)} classes"
    )
    if metrics.num_classes_seen < len(split.class_names):
        yield f"  {len(split.class_names) - metrics.num_classes_seen} classes have no readable video"
    if split.class_overlap is not None:
        yield f"  classes seen in training: {len(split.class_overlap.overlap)}"
    if metrics.num_unreadable:
        yield f"  unreadable: {metrics.num_unreadable}"
        yield from (f"    {item.path}: {item.reason}" for item in split.accumulator.unreadable[:MAX_REASONS])
        if metrics.num_unreadable > MAX_REASONS:
            yield f"    and {metrics.num_unreadable - MAX_REASONS} more"
    yield f"  {'':<32}{'value':>9}   95 % interval"
    for name in METRIC_NAMES:
        value = getattr(metrics, name)
        if value is not None:
            interval = split.intervals.get(name)
            range_text = f"   {interval.low:.4f} to {interval.high:.4f}" if interval else ""
            yield f"  {_title(name, metrics.top5_k):<32}{value:>9.4f}{range_text}"
    yield from _class_lines(split)


def _class_lines(split: SplitResult) -> Iterator[str]:
    seen = sorted(
        (item for item in split.metrics.classes if item.top1 is not None), key=lambda item: (item.top1, item.number)
    )
    yield f"  {'class':<44}{'videos':>9}{'top-1':>9}   most often confused with"
    for item in seen[:MAX_CLASSES]:
        other = "" if item.confused_with is None else f"{split.class_names[item.confused_with]} ({item.confused_count})"
        yield f"  {_shorten(split.class_names[item.number]):<44}{item.count:>9}{item.top1:>9.4f}   {other}"
    if len(seen) > MAX_CLASSES:
        yield f"  and {len(seen) - MAX_CLASSES} classes with higher accuracy"


def _class_change_lines(classes: Sequence[ClassChange]) -> Iterator[str]:
    changed = [item for item in classes if item.first != item.second]
    shown = changed if len(changed) <= 2 * MAX_CHANGES else [*changed[:MAX_CHANGES], *changed[-MAX_CHANGES:]]
    if shown:
        yield f"  {'class':<44}{'videos':>8}{'first':>9}{'second':>9}{'gained':>8}{'lost':>6}"
    for item in shown:
        yield (
            f"  {_shorten(item.name):<44}{item.count:>8}"
            f"{item.first:>9.4f}{item.second:>9.4f}{item.gained:>8}{item.lost:>6}"
        )
    if len(changed) > len(shown):
        yield f"  and {len(changed) - len(shown)} classes in between"


def _title(name: str, k: int) -> str:
    return {
        "top1": "top-1",
        "top5": f"top-{k}",
        "top1_all": "top-1, unreadable as errors",
    }.get(name, name.replace("_", " "))


def _shorten(name: str) -> str:
    return name if len(name) <= 43 else f"{name[:42]}…"
