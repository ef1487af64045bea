"""Read every entry of the lists the way training does, to find problems before training.

    python -m training check dataset/frames_train.txt dataset/frames_val.txt --classes dataset/classes.csv

The evaluation clip of every entry is decoded. Training clips of some entries are drawn on a contact sheet for visual
inspection. A wrong label is reported only if it is certain: the same content occurs with two labels. The last line of
the output is a JSON document.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serve.independence import GroupCounts, assign_groups, count_groups
from serve.lists.errors import AnnotationError
from training.config import DataConfig
from training.data.checking.contact_sheet import SheetRow, draw_sheet
from training.data.checking.inspection import CheckItem, Inspection, inspect_all, plan_inspection
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule
from training.data.decoding.process import BadVideoError
from training.data.lists.rows import Listing, ListOptions

MAX_EXAMPLES = 5  # per kind of finding in the printed report; the JSON line contains all of them


@dataclass
class CheckReport:
    """Problems that were found, grouped by kind."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # list -> class -> number of entries
    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # kind -> descriptions of entries
    fatal_errors: list[str] = field(default_factory=list)  # reasons why training would fail
    independence: GroupCounts | None = None
    layouts: dict[str, list[str]] = field(default_factory=dict)  # list -> description of how it was interpreted
    num_entries: int = 0

    def add(self, kind: str, description: str) -> None:
        """Add the description of an entry to the findings of a kind."""
        self.findings[kind].append(description)


def check_lists(
    lists: Sequence[Path],
    data: DataConfig,
    *,
    options: ListOptions,
    classes: Path | None,
    samples: int,
    sheet: Path,
    seed: int,
    workers: int,
) -> bool:
    """Check the lists, print a report and a JSON line; return whether training can use the lists."""
    report = CheckReport()
    try:
        plan = plan_inspection(lists, options=options, classes=classes)
    except AnnotationError as error:
        report.fatal_errors.append(str(error))
        return _print_report(report, sheet=None)
    names = plan.names
    _report_layout(plan.listings, report)
    rule = clip_rule(data, names)
    results = inspect_all(plan.units, rule, data, workers=workers)
    items = [item for item, _ in results]
    report.num_entries = len(items)
    _count_classes(lists, items, names, report)
    for item, inspection in results:
        _add_findings(item, inspection, report, num_frames=data.num_frames)
    readable = [item for item, inspection in results if inspection.digest and not inspection.reason]
    _compare_contents(results, report)
    _compare_groups(results, report)
    _compare_classes(names, report)
    _find_fatal_errors(report, data, num_readable=len(readable))
    drawn_sheet = None
    if samples and readable:
        reader = ClipReader(rule, decode_settings(data))
        try:
            draw_sheet(sheet, _sheet_rows(readable, names, reader, samples=samples, seed=seed))
        finally:
            reader.close()
        drawn_sheet = sheet
    return _print_report(report, sheet=drawn_sheet)


def _report_layout(listings: Sequence[Listing], report: CheckReport) -> None:
    """Print how the lists were interpreted, and add this to the report."""
    for listing in listings:
        print("\n".join(listing.layout()), flush=True)
        for note in listing.notes:
            report.add("layout", f"{listing.path}: {note}")
        report.layouts[str(listing.path)] = listing.layout()


def _count_classes(
    lists: Sequence[Path], items: Sequence[CheckItem], names: Sequence[str], report: CheckReport
) -> None:
    non_empty = list(dict.fromkeys(item.listing for item in items))
    empty = [str(path) for path in lists if not any(name.startswith(str(path)) for name in non_empty)]
    for listing in (*non_empty, *empty):
        labels = [item.entry.label for item in items if item.listing == listing and item.entry is not None]
        counts = Counter(labels)
        report.counts[listing] = {name: counts[label] for label, name in enumerate(names)}
        if not labels:
            report.fatal_errors.append(f"{listing} contains no video whose label is in the class list")


def _add_findings(item: CheckItem, inspection: Inspection, report: CheckReport, *, num_frames: int) -> None:
    if inspection.has_unknown_label:
        label = item.name if item.entry is None else item.entry.label
        report.add("label_outside_classes", f"{item.location}: {label}")
    elif inspection.reason:
        report.add("unreadable", f"{item.location}: {item.path}: {inspection.reason}")
    elif inspection.num_frames < num_frames:
        report.add("short", f"{item.location}: {item.path}: {inspection.num_frames} frames for a clip of {num_frames}")


def _compare_contents(results: Sequence[tuple[CheckItem, Inspection]], report: CheckReport) -> None:
    """Find entries with equal content within a list, in several lists, or with different labels."""
    items_by_digest: dict[str, list[CheckItem]] = defaultdict(list)
    for item, inspection in results:
        if inspection.digest:
            items_by_digest[inspection.digest].append(item)
    for copies in items_by_digest.values():
        if len(copies) == 1:
            continue
        description = " = ".join(f"{item.path} ({item.location})" for item in copies)
        labels = {item.entry.label for item in copies if item.entry is not None}
        lists = Counter(item.listing for item in copies)
        if len(labels) > 1:
            report.add("same_content_other_label", description)
        if len(lists) > 1:
            report.add("same_content_in_several_lists", description)
        if max(lists.values()) > 1:
            report.add("duplicate", description)


def _compare_groups(results: Sequence[tuple[CheckItem, Inspection]], report: CheckReport) -> None:
    """Find videos of one source or declared group that occur in several lists (or splits); count independent videos."""
    items = [item for item, _ in results]
    digests = [inspection.digest or None for _, inspection in results]
    groups = assign_groups(
        names=[Path(item.path).name for item in items],
        digests=digests,
        declared=[item.entry.group if item.entry else "" for item in items],
    )
    report.independence = count_groups(groups, digests=digests)
    members: dict[int, list[CheckItem]] = defaultdict(list)
    for item, group in zip(items, groups.tolist(), strict=True):
        members[group].append(item)
    for group_items in members.values():
        lists = sorted({item.listing for item in group_items})
        if len(lists) > 1:
            report.add(
                "same_group_in_several_lists",
                f"{group_items[0].path} and {len(group_items) - 1} more: {', '.join(lists)}",
            )


def _compare_classes(names: Sequence[str], report: CheckReport) -> None:
    """Find classes without videos in some or all of the lists."""
    for listing, counts in report.counts.items():
        other_counts = [other for other_listing, other in report.counts.items() if other_listing != listing]
        for name in names:
            if not counts[name] and any(other[name] for other in other_counts):
                report.add("class_missing_in_list", f"{name}: not in {listing}")
    for name in names:
        if not any(counts[name] for counts in report.counts.values()):
            report.add("class_without_videos", name)


def _find_fatal_errors(report: CheckReport, data: DataConfig, *, num_readable: int) -> None:
    num_unknown, num_unreadable = len(report.findings["label_outside_classes"]), len(report.findings["unreadable"])
    if num_unknown:
        report.fatal_errors.append(f"{num_unknown} labels are not in the class list")
    if report.num_entries and num_unreadable > data.max_bad_share * report.num_entries:
        report.fatal_errors.append(
            f"{num_unreadable} of {report.num_entries} entries cannot be read; "
            f"at most {data.max_bad_share:.1%} may be unreadable"
        )
    if not num_readable:
        report.fatal_errors.append("no entry can be read")


def _sheet_rows(
    readable: Sequence[CheckItem], names: Sequence[str], reader: ClipReader, *, samples: int, seed: int
) -> Iterator[SheetRow]:
    """Yield contact-sheet rows with training clips of some entries, spread evenly over the classes."""
    by_class: dict[int, list[CheckItem]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(readable)).tolist():
        entry = readable[index].entry
        assert entry is not None
        by_class[entry.label].append(readable[index])
    rounds = max(len(items) for items in by_class.values())
    chosen = [items[round_] for round_ in range(rounds) for _, items in sorted(by_class.items()) if round_ < len(items)]
    with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
        for number, item in enumerate(sorted(chosen[:samples], key=lambda item: item.entry.label if item.entry else 0)):
            entry = item.load_entry(Path(scratch))
            try:
                clip, label = reader.training_clip(entry, (seed, 0, number, 0))
            except BadVideoError as error:  # it was readable during the inspection; show the error in its row
                yield SheetRow(title=names[entry.label], subtitle=f"{item.path}: {error}", clip=None)
                continue
            yield SheetRow(title=names[label], subtitle=item.path, clip=clip)


def _print_report(report: CheckReport, *, sheet: Path | None) -> bool:
    """Print the report; return whether training can use the lists."""
    for listing, counts in report.counts.items():
        sizes = [count for count in counts.values() if count]
        print(f"{listing}: {sum(sizes)} videos of {len(sizes)} classes", end="")
        print(f", {min(sizes)} to {max(sizes)} each" if sizes else "")
    if report.independence is not None and report.independence.has_dependent_clips:
        print(
            f"{report.independence.num_independent} of {report.independence.num_clips} videos are independent: "
            "the others are copies, or share their source or group with another video"
        )
    for kind, entries in report.findings.items():
        if entries:
            print(f"{kind.replace('_', ' ')}: {len(entries)}")
            for entry in entries[:MAX_EXAMPLES]:
                print(f"    {entry}")
            if len(entries) > MAX_EXAMPLES:
                print(f"    and {len(entries) - MAX_EXAMPLES} more")
    for reason in report.fatal_errors:
        print(f"training would fail: {reason}")
    if sheet is not None:
        print(f"contact sheet: {sheet}")
    document = {
        "is_fit": not report.fatal_errors,
        "breaking": report.fatal_errors,
        "entries": report.num_entries,
        "independent": report.independence.num_independent if report.independence else None,
        "copies": report.independence.num_copies if report.independence else None,
        "layout": report.layouts,
        "classes": report.counts,
        "findings": {kind: entries for kind, entries in report.findings.items() if entries},
        "contact_sheet": str(sheet) if sheet else None,
    }
    print(json.dumps(document), flush=True)
    return not report.fatal_errors
