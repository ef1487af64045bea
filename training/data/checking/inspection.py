"""Read every entry of lists to its test clip, for `training check`."""

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
from training.data.lists.labels import index_labels_together, labelled
from training.data.lists.listing import kind_of, read_listing
from training.data.lists.rows import Entry, Listing, ListOptions, ListRow
from training.data.progress import progress_bar
from training.data.shards.reading import Shard, find_shards, read_index, samples_of


@dataclass(frozen=True, kw_only=True)
class CheckItem:
    """One entry of one list."""

    listing: str  # and its part, if it names parts
    place: str  # position, for messages
    path: str
    entry: Entry | None  # None if its label is not a class
    name: str | None = None  # class name in the list
    shard: tuple[Shard, int] | None = None  # shard and index of its content

    def content(self, scratch: Path) -> Entry:
        """Return the entry with its content; read it from the shard again if needed."""
        assert self.entry is not None
        if self.shard is None:
            return self.entry
        shard, place = self.shard
        return next(islice(samples_of(shard, 0, []), place, None)).entry(scratch)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Result of reading one entry."""

    reason: str = ""  # why it cannot be read
    is_outside: bool = False  # its label is not a class
    num_frames: int = 0
    digest: str = ""  # of the content


@dataclass(frozen=True, kw_only=True)
class InspectionPlan:
    """The units of reading: entries of lists, and shards."""

    names: tuple[str, ...]
    units: list["CheckItem | tuple[str, Shard]"]
    listings: tuple[Listing, ...]


def units_of(lists: Sequence[Path], *, options: ListOptions, classes: Path | None) -> InspectionPlan:
    """Read the lists with one class list.

    Raises:
        AnnotationError: a list is not supported, or there are no class names.
    """
    listings: list[Listing] = []
    shards: list[tuple[str, Shard]] = []
    of_shards: tuple[str, ...] = ()
    for path in lists:
        if (options.kind or kind_of(path, options)) == "shards":
            shards += [(str(path), shard) for shard in find_shards(str(path))]
            of_shards = of_shards or tuple(read_index(shards[-1][1].path.parent).get("classes", ()))
        else:
            listings.append(read_listing(path, options))
    read = index_labels_together(listings, classes or of_shards or None, first_label=options.first_label)
    names = read[0].names if read else tuple(read_class_names(classes)) if classes else of_shards
    if not names:
        raise AnnotationError("these shards have no class names; give --classes, e.g. a CSV `id,name`")
    items = [
        _item(f"{listing.path} ({row.split})" if row.split else str(listing.path), row)
        for listing, each in zip(listings, read, strict=True)
        for row in labelled(each.rows, names)
    ]
    return InspectionPlan(names=names, units=[*items, *shards], listings=tuple(listings))


def _item(listing: str, row: ListRow) -> CheckItem:
    entry = None
    if row.label is not None:
        entry = Entry(path=row.path, label=row.label, num_frames=row.num_frames, group=row.group)
    return CheckItem(listing=listing, place=row.place, path=str(row.path), entry=entry, name=row.name)


def read_all(
    units: Sequence["CheckItem | tuple[str, Shard]"], rule: ClipRule, data: DataConfig, *, workers: int
) -> list[tuple[CheckItem, Inspection]]:
    """Read all entries; return them with results in the order of the lists."""
    settings = decode_settings(data)
    read: dict[int, list[tuple[CheckItem, Inspection]]] = {}

    def job(decoder: DecodeProcess, number: int) -> list[tuple[CheckItem, Inspection]]:
        reader = ClipReader(rule, settings, decoder=decoder)
        unit = units[number]
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            if isinstance(unit, CheckItem):
                return [(unit, _inspect(unit.entry, reader))]
            return list(_read_shard(*unit, reader, Path(scratch)))

    with progress_bar("reading", total=len(units)) as bar:
        for number, found in for_each(range(len(units)), job, settings=settings, workers=workers):
            read[number] = found
            bar.advance(is_failure=any(each.reason for _, each in found))
    return [pair for number in range(len(units)) for pair in read[number]]


def _read_shard(
    listing: str, shard: Shard, reader: ClipReader, scratch: Path
) -> Iterator[tuple[CheckItem, Inspection]]:
    failures: list[Failure] = []
    for sample in samples_of(shard, 0, failures):
        item = CheckItem(
            listing=listing, place=sample.name, path=sample.name, entry=None, shard=(shard, sample.number[1])
        )
        try:
            entry = sample.entry(scratch)
        except BadVideoError as error:
            yield item, Inspection(reason=str(error))
            continue
        yield replace(item, entry=Entry(path=Path(sample.name), label=entry.label)), _inspect(entry, reader)
    for failure in failures:
        yield (
            CheckItem(listing=listing, place=failure.name, path=failure.name, entry=None),
            Inspection(reason=failure.reason),
        )


def _inspect(entry: Entry | None, reader: ClipReader) -> Inspection:
    """Read an entry to its test clip, unless its label is not a class."""
    num_classes = reader.rule.num_classes
    if entry is None or not entry.label < num_classes:
        return Inspection(is_outside=True)
    try:
        digest = digest_of(entry)
        _, num_frames = reader.test_views(entry)
        return Inspection(num_frames=num_frames, digest=digest)
    except BadVideoError as error:
        return Inspection(reason=str(error))
    except OSError as error:
        return Inspection(reason=f"{error.strerror or error} ({type(error).__name__})")
