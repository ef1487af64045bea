"""Results and comparisons as tables for people."""

from collections.abc import Iterator, Sequence

from training.evaluation.comparison import ClassChange, Comparison
from training.evaluation.results import FIGURES, Result, SplitResult

CLASSES_SHOWN = 20
REASONS_SHOWN = 5
CHANGES_SHOWN = 10


def result_table(result: Result) -> Iterator[str]:
    """Lines that tell of a result: how it was made, figures with intervals, classes from the worst on."""
    made, protocol = result.checkpoint, result.protocol
    scoring = protocol["scoring"]
    step = "" if made.step is None else f", step {made.step}"
    shots = "".join(f", {name} {value}" for name, value in made.few_shot.items())
    yield f"{made.file} ({made.family}, sha256 {made.sha256[:12]}{step}{shots})"
    yield (
        f"{protocol['num_clips']} clips x {protocol['num_crops']} crops, {scoring['view_rule']} over views, "
        f"{scoring['ensembling']} over {len(protocol['text']['templates'])} templates"
    )
    for split in result.splits:
        yield ""
        yield from _split_table(split)
    spread = result.over_splits()
    if spread:
        yield ""
        yield f"over {len(result.splits)} splits: mean and standard deviation"
        k = min(split.figures.top5_k for split in result.splits)
        for name, (mean, deviation) in spread.items():
            yield f"  {_named(name, k):<32}{mean:>9.4f}{deviation:>9.4f}"


def comparison_table(
    compared: Sequence[Comparison], *, first: str, second: str, is_same_protocol: bool
) -> Iterator[str]:
    """Lines that tell of a comparison."""
    yield f"first   {first}"
    yield f"second  {second}"
    if not is_same_protocol:
        yield "their protocols differ: views, prompts or rules"
    for item in compared:
        yield ""
        yield f"{item.name}: {item.num_videos} videos in pairs, {item.num_independent} independent" + (
            f", {item.num_unreadable} left out that one or both could not read" if item.num_unreadable else ""
        )
        yield f"  {'':<24}{'first':>9}{'second':>9}{'difference':>12}   95 % interval"
        for name, each in item.figures.items():
            low, high = each.interval
            yield (
                f"  {_named(name, item.top5_k):<24}{each.first:>9.4f}{each.second:>9.4f}{each.difference:>+12.4f}"
                f"   {low:+.4f} to {high:+.4f}"
            )
        yield f"  gained {item.gained}, lost {item.lost} videos; McNemar's exact p {item.mcnemar_p:.4g}"
        yield from _changes(item.classes)


def _split_table(split: SplitResult) -> Iterator[str]:
    figures = split.figures
    copies = f" ({figures.num_copies} are copies)" if figures.num_copies else ""
    yield (
        f"{split.name}: {figures.num_videos} videos, {figures.num_independent} independent of each other{copies}, "
        f"{len(split.class_names)} classes"
    )
    if figures.num_classes_seen < len(split.class_names):
        yield f"  {len(split.class_names) - figures.num_classes_seen} classes have no readable video"
    if split.zero_shot is not None:
        yield f"  classes of training among them: {len(split.zero_shot.overlap)}"
    if figures.num_unreadable:
        yield f"  unreadable: {figures.num_unreadable}"
        yield from (f"    {item.path}: {item.reason}" for item in split.accumulator.unreadable[:REASONS_SHOWN])
        if figures.num_unreadable > REASONS_SHOWN:
            yield f"    and {figures.num_unreadable - REASONS_SHOWN} more"
    yield f"  {'':<32}{'value':>9}   95 % interval"
    for name in FIGURES:
        value = getattr(figures, name)
        if value is not None:
            interval = split.intervals.get(name)
            range_text = f"   {interval.low:.4f} to {interval.high:.4f}" if interval else ""
            yield f"  {_named(name, figures.top5_k):<32}{value:>9.4f}{range_text}"
    yield from _classes(split)


def _classes(split: SplitResult) -> Iterator[str]:
    seen = sorted(
        (item for item in split.figures.classes if item.top1 is not None), key=lambda item: (item.top1, item.number)
    )
    yield f"  {'class':<44}{'videos':>9}{'top-1':>9}   most often taken for"
    for item in seen[:CLASSES_SHOWN]:
        other = "" if item.confused_with is None else f"{split.class_names[item.confused_with]} ({item.confused_count})"
        yield f"  {_cut(split.class_names[item.number]):<44}{item.count:>9}{item.top1:>9.4f}   {other}"
    if len(seen) > CLASSES_SHOWN:
        yield f"  and {len(seen) - CLASSES_SHOWN} better ones"


def _changes(classes: Sequence[ClassChange]) -> Iterator[str]:
    changed = [item for item in classes if item.first != item.second]
    shown = changed if len(changed) <= 2 * CHANGES_SHOWN else [*changed[:CHANGES_SHOWN], *changed[-CHANGES_SHOWN:]]
    if shown:
        yield f"  {'class':<44}{'videos':>8}{'first':>9}{'second':>9}{'gained':>8}{'lost':>6}"
    for item in shown:
        yield (
            f"  {_cut(item.name):<44}{item.count:>8}{item.first:>9.4f}{item.second:>9.4f}{item.gained:>8}{item.lost:>6}"
        )
    if len(changed) > len(shown):
        yield f"  and {len(changed) - len(shown)} classes in between"


def _named(name: str, k: int) -> str:
    return {
        "top1": "top-1",
        "top5": f"top-{k}",
        "top1_all": "top-1, unreadable ones missed",
    }.get(name, name.replace("_", " "))


def _cut(name: str) -> str:
    return name if len(name) <= 43 else f"{name[:42]}…"
