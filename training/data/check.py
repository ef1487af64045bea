"""Reads every entry of some lists as training would, before an hour is lost.

    python -m training check dataset/frames_train.txt dataset/frames_val.txt --classes dataset/classes.csv

Every entry is decoded to its test clip; some are cut and augmented as in training and drawn on a sheet, where a wrong
label shows to the eye. The only mislabelling that is claimed is one that can be proven: the same content under two
labels. The last line is one JSON document.
"""

import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from training.config import DataConfig
from training.data.annotations import FRAME_TEMPLATE, AnnotationError, read_class_names
from training.data.bad_videos import Failure
from training.data.contact_sheet import SheetRow, draw_sheet
from training.data.decode_process import BadVideoError, DecodeProcess
from training.data.listings import Entry, Row, kind_of, labelled, names_of, read_rows
from training.data.many import for_each
from training.data.progress import progress_bar
from training.data.reading import ClipReader, decode_settings
from training.data.shards import Shard, find_shards, read_index, samples_of
from training.data.systems import ClipRule, clip_rule

TOLD = 5  # examples of each finding in the printed report; the JSON line holds them all
HASHED_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of one list."""

    listing: str
    place: str  # where it stands
    path: str
    entry: Entry | None  # None where its label is no class
    name: str | None = None  # what the list calls its class
    shard: tuple[Shard, int] | None = None  # where its content lies: a shard and the place in it

    def content(self, scratch: Path) -> Entry:
        """The entry with its content at hand; that of a shard is read once more."""
        assert self.entry is not None
        if self.shard is None:
            return self.entry
        shard, place = self.shard
        return next(islice(samples_of(shard, 0, []), place, None)).entry(scratch)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What reading one entry showed."""

    reason: str = ""  # why it cannot be read
    is_outside: bool = False  # its label is no class
    num_frames: int = 0
    extra_frames: int = 0  # pictures of a folder beyond those its list counts
    digest: str = ""  # of the content


@dataclass
class Report:
    """Findings by kind, each with the entries it is about; which of them break training is `breaking`."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # list -> class -> entries
    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    breaking: list[str] = field(default_factory=list)
    num_entries: int = 0

    def add(self, kind: str, what: str) -> None:
        """Note one entry."""
        self.findings[kind].append(what)


def check_lists(
    lists: Sequence[Path],
    data: DataConfig,
    *,
    kind: str,
    classes: Path | None,
    root: Path | None,
    samples: int,
    sheet: Path,
    seed: int,
    workers: int,
) -> bool:
    """Check the lists, print a report and a JSON line; whether they are fit to train on."""
    report = Report()
    try:
        names, units = _units(lists, kind=kind, classes=classes, root=root)
    except AnnotationError as error:
        report.breaking.append(str(error))
        return _told(report, sheet=None)
    rule = clip_rule(data, tuple(names))
    read = _read_all(units, rule, data, workers=workers)
    items = [item for item, _ in read]
    report.num_entries = len(items)
    _count_classes(lists, items, names, report)
    for item, found in read:
        _judge(item, found, report, num_frames=data.num_frames)
    readable = [item for item, found in read if found.digest and not found.reason]
    _compare_contents(read, report)
    _compare_classes(names, report)
    _decide(report, data, num_read=len(readable))
    drawn = None
    if samples and readable:
        reader = ClipReader(rule, decode_settings(data))
        try:
            draw_sheet(sheet, _sheet_rows(readable, names, reader, samples=samples, seed=seed))
        finally:
            reader.close()
        drawn = sheet
    return _told(report, sheet=drawn)


def _units(
    lists: Sequence[Path], *, kind: str, classes: Path | None, root: Path | None
) -> tuple[list[str], list["Item | tuple[str, Shard]"]]:
    """(class names, what is read one by one: entries of lists, and shards)."""
    rows: dict[str, list[Row]] = {}
    shards: list[tuple[str, Shard]] = []
    names: list[str] = read_class_names(classes) if classes is not None else []
    for path in lists:
        kind_here = kind or kind_of(path, root=root)
        if kind_here == "shards":
            shards += [(str(path), shard) for shard in find_shards(str(path))]
            names = names or list(read_index(shards[-1][1].path.parent).get("classes", ()))
        else:
            rows[str(path)] = read_rows(kind_here, path, root=root)
    names = names or names_of([row for group in rows.values() for row in group])
    if not names:
        raise AnnotationError("lists of numbers need the class names: --classes, a CSV `id,name`")
    return names, [*(_item(name, row) for name, group in rows.items() for row in labelled(group, names)), *shards]


def _item(listing: str, row: Row) -> Item:
    entry = None if row.label is None else Entry(path=row.path, label=row.label, num_frames=row.num_frames)
    return Item(listing=listing, place=row.place, path=str(row.path), entry=entry, name=row.name)


def _count_classes(lists: Sequence[Path], items: Sequence[Item], names: Sequence[str], report: Report) -> None:
    for listing in map(str, lists):
        here = [item.entry.label for item in items if item.listing == listing and item.entry is not None]
        counts = Counter(here)
        report.counts[listing] = {name: counts[number] for number, name in enumerate(names)}
        if not here:
            report.breaking.append(f"{listing} holds no video with a class")


def _read_all(
    units: Sequence["Item | tuple[str, Shard]"], rule: ClipRule, data: DataConfig, *, workers: int
) -> list[tuple[Item, Found]]:
    """Every entry, in the order of the lists, and what reading it showed."""
    settings = decode_settings(data)
    read: dict[int, list[tuple[Item, Found]]] = {}

    def job(decoder: DecodeProcess, number: int) -> list[tuple[Item, Found]]:
        reader = ClipReader(rule, settings, decoder=decoder)
        unit = units[number]
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            if isinstance(unit, Item):
                return [(unit, _found(unit.entry, reader))]
            return list(_read_shard(*unit, reader, Path(scratch)))

    with progress_bar("reading", total=len(units)) as bar:
        for number, found in for_each(range(len(units)), job, settings=settings, workers=workers):
            read[number] = found
            bar.advance(is_failure=any(each.reason for _, each in found))
    return [pair for number in range(len(units)) for pair in read[number]]


def _read_shard(listing: str, shard: Shard, reader: ClipReader, scratch: Path) -> Iterator[tuple[Item, Found]]:
    failures: list[Failure] = []
    for sample in samples_of(shard, 0, failures):
        item = Item(listing=listing, place=sample.name, path=sample.name, entry=None, shard=(shard, sample.number[1]))
        try:
            entry = sample.entry(scratch)
        except BadVideoError as error:
            yield item, Found(reason=str(error))
            continue
        yield replace(item, entry=Entry(path=Path(sample.name), label=entry.label)), _found(entry, reader)
    for failure in failures:
        yield Item(listing=listing, place=failure.name, path=failure.name, entry=None), Found(reason=failure.reason)


def _found(entry: Entry | None, reader: ClipReader) -> Found:
    """Read an entry to its test clip; one whose label is no class is not read."""
    num_classes = reader.rule.num_classes
    if entry is None or not entry.label < num_classes:
        return Found(is_outside=True)
    try:
        digest = _digest(entry)
        _, num_frames = reader.test_views(entry)
        return Found(num_frames=num_frames, digest=digest, extra_frames=_extra_frames(entry))
    except BadVideoError as error:
        return Found(reason=str(error))
    except OSError as error:
        return Found(reason=f"{error.strerror or error} ({type(error).__name__})")


def _digest(entry: Entry) -> str:
    """SHA-256 of a video file, or of all pictures of a folder."""
    total = hashlib.sha256()
    if entry.packed:
        for picture in entry.packed:
            total.update(picture)
        return total.hexdigest()
    paths = [entry.path]
    if entry.num_frames is not None:
        paths = [entry.path / FRAME_TEMPLATE.format(number) for number in range(1, entry.num_frames + 1)]
    for path in paths:
        if not path.exists():
            raise BadVideoError(f"{path.name} is missing")
        if not path.is_file():
            raise BadVideoError(f"{path.name} is no file")
        with path.open("rb") as stream:
            while block := stream.read(HASHED_BYTES):
                total.update(block)
    return total.hexdigest()


def _extra_frames(entry: Entry) -> int:
    if entry.num_frames is None or entry.packed:
        return 0
    return max(0, sum(1 for _ in entry.path.glob("img_*.jpg")) - entry.num_frames)


def _judge(item: Item, found: Found, report: Report, *, num_frames: int) -> None:
    if found.is_outside:
        label = item.name if item.entry is None else item.entry.label
        report.add("label_outside_classes", f"{item.place}: {label}")
    elif found.reason:
        report.add("unreadable", f"{item.place}: {item.path}: {found.reason}")
    elif found.num_frames < num_frames:
        report.add("short", f"{item.place}: {item.path}: {found.num_frames} frames for a clip of {num_frames}")
    if found.extra_frames:
        report.add("more_frames_than_listed", f"{item.place}: {item.path}: {found.extra_frames} more")


def _compare_contents(read: Sequence[tuple[Item, Found]], report: Report) -> None:
    """The same content twice: in one list, in several, under several labels."""
    alike: dict[str, list[Item]] = defaultdict(list)
    for item, found in read:
        if found.digest:
            alike[found.digest].append(item)
    for group in alike.values():
        if len(group) == 1:
            continue
        told = " = ".join(f"{item.path} ({item.place})" for item in group)
        labels = {item.entry.label for item in group if item.entry is not None}
        lists = Counter(item.listing for item in group)
        if len(labels) > 1:
            report.add("same_content_other_label", told)
        if len(lists) > 1:
            report.add("same_content_in_several_lists", told)
        if max(lists.values()) > 1:
            report.add("duplicate", told)


def _compare_classes(names: Sequence[str], report: Report) -> None:
    for here, counts in report.counts.items():
        others = [other for place, other in report.counts.items() if place != here]
        for name in names:
            if not counts[name] and any(other[name] for other in others):
                report.add("class_missing_in_list", f"{name}: not in {here}")
    for name in names:
        if not any(counts[name] for counts in report.counts.values()):
            report.add("class_without_videos", name)


def _decide(report: Report, data: DataConfig, *, num_read: int) -> None:
    outside, bad = len(report.findings["label_outside_classes"]), len(report.findings["unreadable"])
    if outside:
        report.breaking.append(f"{outside} labels lie outside the class list")
    if report.num_entries and bad > data.max_bad_share * report.num_entries:
        report.breaking.append(
            f"{bad} of {report.num_entries} entries cannot be read, {data.max_bad_share:.1%} are allowed"
        )
    if not num_read:
        report.breaking.append("no entry can be read")


def _sheet_rows(
    readable: Sequence[Item], names: Sequence[str], reader: ClipReader, *, samples: int, seed: int
) -> Iterator[SheetRow]:
    """Training clips of some entries, spread over the classes as evenly as they go."""
    by_class: dict[int, list[Item]] = defaultdict(list)
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
            except BadVideoError as error:  # read a moment ago; said rather than left out
                yield SheetRow(title=names[entry.label], subtitle=f"{item.path}: {error}", clip=None)
                continue
            yield SheetRow(title=names[label], subtitle=item.path, clip=clip)


def _told(report: Report, *, sheet: Path | None) -> bool:
    """Print the report; whether nothing in it breaks training."""
    for listing, counts in report.counts.items():
        sizes = [count for count in counts.values() if count]
        print(f"{listing}: {sum(sizes)} videos of {len(sizes)} classes", end="")
        print(f", {min(sizes)} to {max(sizes)} each" if sizes else "")
    for kind, entries in report.findings.items():
        if entries:
            print(f"{kind.replace('_', ' ')}: {len(entries)}")
            for entry in entries[:TOLD]:
                print(f"    {entry}")
            if len(entries) > TOLD:
                print(f"    and {len(entries) - TOLD} more")
    for reason in report.breaking:
        print(f"training would break: {reason}")
    if sheet is not None:
        print(f"contact sheet: {sheet}")
    document = {
        "is_fit": not report.breaking,
        "breaking": report.breaking,
        "entries": report.num_entries,
        "classes": report.counts,
        "findings": {kind: entries for kind, entries in report.findings.items() if entries},
        "contact_sheet": str(sheet) if sheet else None,
    }
    print(json.dumps(document), flush=True)
    return not report.breaking
