"""Every entry of some lists read to its test clip: what `training check` judges."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from training.config import DataConfig
from training.data.bad_videos import Failure
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import ClipRule
from training.data.decoding.pool import for_each
from training.data.decoding.process import BadVideoError, DecodeProcess
from training.data.frame_folders import FRAME_TEMPLATE
from training.data.lists.annotations import AnnotationError, read_class_names
from training.data.lists.listings import Entry, Row, kind_of, labelled, names_of, read_rows
from training.data.progress import progress_bar
from training.data.shards.reading import Shard, find_shards, read_index, samples_of

HASHED_BYTES = 2**20  # read at once


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


def units_of(
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


def read_all(
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
        digest = digest_of(entry)
        _, num_frames = reader.test_views(entry)
        return Found(num_frames=num_frames, digest=digest, extra_frames=_extra_frames(entry))
    except BadVideoError as error:
        return Found(reason=str(error))
    except OSError as error:
        return Found(reason=f"{error.strerror or error} ({type(error).__name__})")


def digest_of(entry: Entry) -> str:
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
