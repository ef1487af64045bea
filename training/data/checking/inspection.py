"""Decode the evaluation clip of every entry of the lists, for `training check`."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.config import DataConfig
from training.data.bad_videos import Failure
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import ClipRule
from training.data.decoding.pool import for_each
from training.data.decoding.process import BadVideoError, DecodeProcess
from training.data.digests import digest_of
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import index_labels_together, label_rows
from training.data.lists.listing import detect_kind, read_listing
from training.data.lists.rows import Entry, Listing, ListOptions, ListRow
from training.data.progress import progress_bar
from training.data.shards.reading import Shard, find_shards, read_index, read_samples


@dataclass(frozen=True, kw_only=True)
class CheckItem:
    """One entry of one list."""

    listing: str  # path of the list, followed by the split if the list has splits
    location: str  # position in the list, for messages
    path: str
    entry: Entry | None  # None if the label is not in the class list
    name: str | None = None  # class name in the list
    shard: tuple[Shard, int] | None = None  # shard that contains the video, and the index of the sample in it

    def load_entry(self, scratch: Path) -> Entry:
        """Return an entry that can be read; a video of a shard is written to the folder `scratch` first."""
        assert self.entry is not None
        if self.shard is None:
            return self.entry
        shard, index = self.shard
        return next(islice(read_samples(shard, 0, []), index, None)).entry(scratch)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result of reading one entry."""

    reason: str = ""  # why the entry cannot be read; empty if it can be read
    has_unknown_label: bool = False  # the label is not in the class list
    num_frames: int = 0  # number of frames of the video
    digest: str = ""  # SHA-256 of the content


@dataclass(frozen=True, kw_only=True)
class InspectionPlan:
    """What has to be read, and the class names."""

    names: tuple[str, ...]
    units: list["CheckItem | tuple[str, Shard]"]  # an entry of a list, or (path as given, shard)
    listings: tuple[Listing, ...]


def plan_inspection(lists: Sequence[Path], *, options: ListOptions, classes: Path | None) -> InspectionPlan:
    """Read the lists, which share one class list; entries of shards are not read yet.

    Raises:
        AnnotationError: a list is not supported, or there are no class names.
    """
    listings: list[Listing] = []
    shards: list[tuple[str, Shard]] = []
    shard_classes: tuple[str, ...] = ()
    for path in lists:
        if (options.kind or detect_kind(path, options)) == "shards":
            shards += [(str(path), shard) for shard in find_shards(str(path))]
            shard_classes = shard_classes or tuple(read_index(shards[-1][1].path.parent).get("classes", ()))
        else:
            listings.append(read_listing(path, options))
    indexed = index_labels_together(listings, classes or shard_classes or None, first_label=options.first_label)
    names = indexed[0].names if indexed else tuple(read_class_names(classes)) if classes else shard_classes
    if not names:
        raise AnnotationError("these shards have no class names; give --classes, e.g. a CSV `id,name`")
    items = [
        _make_item(f"{listing.path} ({row.split})" if row.split else str(listing.path), row)
        for listing, indexed_rows in zip(listings, indexed, strict=True)
        for row in label_rows(indexed_rows.rows, names)
    ]
    return InspectionPlan(names=names, units=[*items, *shards], listings=tuple(listings))


def _make_item(listing: str, row: ListRow) -> CheckItem:
    entry = None
    if row.label is not None:
        entry = Entry(path=row.path, label=row.label, num_frames=row.num_frames, group=row.group)
    return CheckItem(listing=listing, location=row.location, path=str(row.path), entry=entry, name=row.name)


def inspect_all(
    units: Sequence["CheckItem | tuple[str, Shard]"], rule: ClipRule, data: DataConfig, *, workers: int
) -> list[tuple[CheckItem, Inspection]]:
    """Read all entries in `workers` decode processes; return (entry, result) pairs in the order of the lists."""
    settings = decode_settings(data)
    results: dict[int, list[tuple[CheckItem, Inspection]]] = {}

    def job(decoder: DecodeProcess, number: int) -> list[tuple[CheckItem, Inspection]]:
        reader = ClipReader(rule, settings, decoder=decoder)
        unit = units[number]
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            if isinstance(unit, CheckItem):
                return [(unit, _inspect(unit.entry, reader))]
            return list(_read_shard(*unit, reader, Path(scratch)))

    with progress_bar("reading", total=len(units)) as bar:
        for number, pairs in for_each(range(len(units)), job, settings=settings, workers=workers):
            results[number] = pairs
            bar.advance(is_failure=any(inspection.reason for _, inspection in pairs))
    return [pair for number in range(len(units)) for pair in results[number]]


def _read_shard(
    listing: str, shard: Shard, reader: ClipReader, scratch: Path
) -> Iterator[tuple[CheckItem, Inspection]]:
    failures: list[Failure] = []
    for sample in read_samples(shard, 0, failures):
        item = CheckItem(
            listing=listing, location=sample.name, path=sample.name, entry=None, shard=(shard, sample.number[1])
        )
        try:
            entry = sample.entry(scratch)
        except BadVideoError as error:
            yield item, Inspection(reason=str(error))
            continue
        yield replace(item, entry=Entry(path=Path(sample.name), label=entry.label)), _inspect(entry, reader)
    for failure in failures:
        yield (
            CheckItem(listing=listing, location=failure.name, path=failure.name, entry=None),
            Inspection(reason=failure.reason),
        )


def _inspect(entry: Entry | None, reader: ClipReader) -> Inspection:
    """Decode the evaluation clip of an entry and hash the content, unless the label is not in the class list."""
    num_classes = reader.rule.num_classes
    if entry is None or not entry.label < num_classes:
        return Inspection(has_unknown_label=True)
    try:
        digest = digest_of(entry)
        _, num_frames = reader.test_views(entry)
        return Inspection(num_frames=num_frames, digest=digest)
    except BadVideoError as error:
        return Inspection(reason=str(error))
    except OSError as error:
        return Inspection(reason=f"{error.strerror or error} ({type(error).__name__})")
