"""Read every entry of lists as training does, to find faults in advance.

    python -m training check dataset/frames_train.txt dataset/frames_val.txt --classes dataset/classes.csv

Every entry is decoded to its test clip; some are cropped and augmented as in training and drawn on a contact sheet for
visual inspection. Mislabelling is reported only if it is certain: the same content under two labels. The last line is a
JSON document.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serve.independence import Independence, assign_groups, count_independent
from serve.lists.errors import AnnotationError
from training.config import DataConfig
from training.data.checking.contact_sheet import SheetRow, draw_sheet
from training.data.checking.inspection import CheckItem, Inspection, read_all, units_of
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule
from training.data.decoding.process import BadVideoError
from training.data.lists.rows import Listing, ListOptions

EXAMPLES_SHOWN = 5  # examples of each finding in the printed report; the JSON line holds them all


@dataclass
class CheckReport:
    """Findings by kind, with their entries; `breaking` has those that make training fail."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # list -> class -> entries
    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    breaking: list[str] = field(default_factory=list)
    independence: Independence | None = None
    layouts: dict[str, list[str]] = field(default_factory=dict)  # list -> its interpretation
    num_entries: int = 0

    def add(self, kind: str, what: str) -> None:
        """Add an entry to a finding."""
        self.findings[kind].append(what)


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
    """Check the lists, print a report and a JSON line; return whether training can use them."""
    report = CheckReport()
    try:
        found_units = units_of(lists, options=options, classes=classes)
    except AnnotationError as error:
        report.breaking.append(str(error))
        return _print_report(report, sheet=None)
    names = found_units.names
    _report_layout(found_units.listings, report)
    rule = clip_rule(data, names)
    read = read_all(found_units.units, rule, data, workers=workers)
    items = [item for item, _ in read]
    report.num_entries = len(items)
    _count_classes(lists, items, names, report)
    for item, found in read:
        _add_findings(item, found, report, num_frames=data.num_frames)
    readable = [item for item, found in read if found.digest and not found.reason]
    _compare_contents(read, report)
    _compare_groups(read, report)
    _compare_classes(names, report)
    _find_breaking(report, data, num_read=len(readable))
    drawn = None
    if samples and readable:
        reader = ClipReader(rule, decode_settings(data))
        try:
            draw_sheet(sheet, _sheet_rows(readable, names, reader, samples=samples, seed=seed))
        finally:
            reader.close()
        drawn = sheet
    return _print_report(report, sheet=drawn)


def _report_layout(listings: Sequence[Listing], report: CheckReport) -> None:
    """Print how the lists were interpreted."""
    for listing in listings:
        print("\n".join(listing.layout()), flush=True)
        for note in listing.notes:
            report.add("layout", f"{listing.path}: {note}")
        report.layouts[str(listing.path)] = listing.layout()


def _count_classes(
    lists: Sequence[Path], items: Sequence[CheckItem], names: Sequence[str], report: CheckReport
) -> None:
    found = list(dict.fromkeys(item.listing for item in items))
    empty = [str(path) for path in lists if not any(each.startswith(str(path)) for each in found)]
    for listing in (*found, *empty):
        here = [item.entry.label for item in items if item.listing == listing and item.entry is not None]
        counts = Counter(here)
        report.counts[listing] = {name: counts[number] for number, name in enumerate(names)}
        if not here:
            report.breaking.append(f"{listing} holds no video with a class")


def _add_findings(item: CheckItem, found: Inspection, report: CheckReport, *, num_frames: int) -> None:
    if found.is_outside:
        label = item.name if item.entry is None else item.entry.label
        report.add("label_outside_classes", f"{item.place}: {label}")
    elif found.reason:
        report.add("unreadable", f"{item.place}: {item.path}: {found.reason}")
    elif found.num_frames < num_frames:
        report.add("short", f"{item.place}: {item.path}: {found.num_frames} frames for a clip of {num_frames}")


def _compare_contents(read: Sequence[tuple[CheckItem, Inspection]], report: CheckReport) -> None:
    """Find equal content: in one list, in several lists, under several labels."""
    alike: dict[str, list[CheckItem]] = defaultdict(list)
    for item, found in read:
        if found.digest:
            alike[found.digest].append(item)
    for group in alike.values():
        if len(group) == 1:
            continue
        places = " = ".join(f"{item.path} ({item.place})" for item in group)
        labels = {item.entry.label for item in group if item.entry is not None}
        lists = Counter(item.listing for item in group)
        if len(labels) > 1:
            report.add("same_content_other_label", places)
        if len(lists) > 1:
            report.add("same_content_in_several_lists", places)
        if max(lists.values()) > 1:
            report.add("duplicate", places)


def _compare_groups(read: Sequence[tuple[CheckItem, Inspection]], report: CheckReport) -> None:
    """Find videos of one source or group in several lists or parts; count independent videos."""
    items = [item for item, _ in read]
    digests = [found.digest or None for _, found in read]
    groups = assign_groups(
        names=[Path(item.path).name for item in items],
        digests=digests,
        declared=[item.entry.group if item.entry else "" for item in items],
    )
    report.independence = count_independent(groups, digests=digests)
    members: dict[int, list[CheckItem]] = defaultdict(list)
    for item, group in zip(items, groups.tolist(), strict=True):
        members[group].append(item)
    for alike in members.values():
        lists = sorted({item.listing for item in alike})
        if len(lists) > 1:
            report.add("same_group_in_several_lists", f"{alike[0].path} and {len(alike) - 1} more: {', '.join(lists)}")


def _compare_classes(names: Sequence[str], report: CheckReport) -> None:
    for here, counts in report.counts.items():
        others = [other for place, other in report.counts.items() if place != here]
        for name in names:
            if not counts[name] and any(other[name] for other in others):
                report.add("class_missing_in_list", f"{name}: not in {here}")
    for name in names:
        if not any(counts[name] for counts in report.counts.values()):
            report.add("class_without_videos", name)


def _find_breaking(report: CheckReport, data: DataConfig, *, num_read: int) -> None:
    outside, bad = len(report.findings["label_outside_classes"]), len(report.findings["unreadable"])
    if outside:
        report.breaking.append(f"{outside} labels lie outside the class list")
    if report.num_entries and bad > data.max_bad_share * report.num_entries:
        report.breaking.append(
            f"{bad} of {report.num_entries} entries cannot be read, allowed are {data.max_bad_share:.1%}"
        )
    if not num_read:
        report.breaking.append("no entry can be read")


def _sheet_rows(
    readable: Sequence[CheckItem], names: Sequence[str], reader: ClipReader, *, samples: int, seed: int
) -> Iterator[SheetRow]:
    """Return training clips of some entries, spread evenly over the classes."""
    by_class: dict[int, list[CheckItem]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(readable)).tolist():
        entry = readable[index].entry
        assert entry is not None
        by_class[entry.label].append(readable[index])
    turns = max(len(group) for group in by_class.values())
    chosen = [group[turn] for turn in range(turns) for _, group in sorted(by_class.items()) if turn < len(group)]
    with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
        for number, item in enumerate(sorted(chosen[:samples], key=lambda item: item.entry.label if item.entry else 0)):
            entry = item.content(Path(scratch))
            try:
                clip, label = reader.training_clip(entry, (seed, 0, number, 0))
            except BadVideoError as error:  # readable before; report it in the row
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
        print(f"{report.independence.num_independent} of {report.independence.num_clips} videos are independent")
    for kind, entries in report.findings.items():
        if entries:
            print(f"{kind.replace('_', ' ')}: {len(entries)}")
            for entry in entries[:EXAMPLES_SHOWN]:
                print(f"    {entry}")
            if len(entries) > EXAMPLES_SHOWN:
                print(f"    and {len(entries) - EXAMPLES_SHOWN} more")
    for reason in report.breaking:
        print(f"training would fail: {reason}")
    if sheet is not None:
        print(f"contact sheet: {sheet}")
    document = {
        "is_fit": not report.breaking,
        "breaking": report.breaking,
        "entries": report.num_entries,
        "independent": report.independence.num_independent if report.independence else None,
        "copies": report.independence.num_copies if report.independence else None,
        "layout": report.layouts,
        "classes": report.counts,
        "findings": {kind: entries for kind, entries in report.findings.items() if entries},
        "contact_sheet": str(sheet) if sheet else None,
    }
    print(json.dumps(document), flush=True)
    return not report.breaking
