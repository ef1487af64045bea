"""Every video of a list once, with its test views: what cannot be read keeps its place and its reason."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from serve.files import file_sha256
from serve.independence import independent_groups
from serve.lists.errors import AnnotationError
from serve.video.limits import DecodeSettings
from training.config import DataConfig
from training.data.bad_videos import Failure
from training.data.clips.datasets import num_loading_workers, single_threaded, start_method
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule
from training.data.decoding.pool import processors
from training.data.decoding.process import BadVideoError
from training.data.digests import digest_or_none, near_duplicates
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import classes_without_videos, entries_of, index_labels
from training.data.lists.listing import kind_of, read_listing, rows_of_part
from training.data.lists.rows import Entry, ListOptions
from training.data.shards.reading import PackedSample, Shard, find_shards, read_index, samples_of, shards_of_worker
from training.evaluation.errors import EvaluationError
from training.evaluation.protocol import Protocol

SHOWN = 5  # classes named in a note


class LoadedVideo(NamedTuple):
    """One video, read or not."""

    place: int  # in the list
    path: str  # from the list's root on
    label: int  # -1 where it is not known
    views: Tensor | None  # uint8 [V, T, 3, S, S]
    reason: str = ""  # why there are no views
    digest: str = ""  # of the content; copies count once
    group: str = ""  # that the list declares


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """A list that was read: its videos are entries or shards, its labels numbers within the class names."""

    path: str
    kind: str
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    paths: tuple[str, ...] = ()  # of the entries, from the root on
    shards: tuple[Shard, ...] = ()
    layout: tuple[str, ...] = ()  # how it was understood

    @property
    def num_videos(self) -> int:
        """Of the whole list, readable or not."""
        return len(self.entries) or sum(shard.num_samples for shard in self.shards)

    def sha256(self) -> str | None:
        """Of the list's file; None of folders and shards."""
        return file_sha256(Path(self.path)) if Path(self.path).is_file() and not self.shards else None


def read_list(
    path: str,
    *,
    options: ListOptions | None = None,
    classes: Path | Sequence[str] | None = None,
    split: str = "",
) -> VideoList:
    """Read a list of any kind; of one that names parts, the rows of `split` alone.

    `classes` are the names or a class list; without them those of the list.

    Raises:
        AnnotationError: it cannot be read, names several parts and none is chosen, names no parts and one is, holds no
            video, or its labels do not fit the class names.
    """
    options = options or ListOptions()
    kind = options.kind or kind_of(Path(path), options)
    if kind == "shards":
        if split or options.fold or options.first_label is not None:
            raise AnnotationError("--split, --fold and --first-label are for lists; shards name neither parts nor ids")
        return _packed(path, classes)
    listing = read_listing(Path(path), replace(options, kind=kind))
    read = index_labels(
        rows_of_part(listing, split, option="--split"), listing, classes, first_label=options.first_label
    )
    entries = entries_of(read.rows, read.names)
    start = options.root or (Path(path) if kind == "folder" else Path(path).parent)
    paths = tuple(_shown(entry.path, start) for entry in entries)
    unused = classes_without_videos(read.rows, read.names)
    return VideoList(
        path=path,
        kind=kind,
        class_names=read.names,
        entries=tuple(entries),
        paths=paths,
        layout=(*listing.layout(), *([_unused(unused)] if unused else [])),
    )


def joined_near_duplicates(listed: VideoList, *, workers: int, deadline_seconds: float) -> VideoList:
    """The list with videos that nearly show the same pictures in one group, beside the groups it declares.

    Raises:
        EvaluationError: the list is of shards.
    """
    if listed.shards:
        raise EvaluationError("--near-duplicates compares video files; shards are read once, from end to end")
    settings = DecodeSettings.model_validate({"threads": 1, "deadline_seconds": deadline_seconds})
    pairs = near_duplicates(
        [entry.path for entry in listed.entries], settings=settings, workers=workers or processors()
    )
    groups = independent_groups(declared=[entry.group for entry in listed.entries], pairs=pairs).tolist()
    near = {groups[index] for pair in pairs for index in pair}
    entries = tuple(
        replace(entry, group=f"near duplicates {group}") if group in near else entry
        for entry, group in zip(listed.entries, groups, strict=True)
    )
    return replace(listed, entries=entries, layout=(*listed.layout, f"  {len(pairs)} pairs of near duplicates"))


def _unused(names: Sequence[str]) -> str:
    more = " ..." if len(names) > SHOWN else ""
    return f"  note: {len(names)} classes have no video: {', '.join(names[:SHOWN])}{more}"


class ListedVideos(Dataset[LoadedVideo]):
    """Place in the list -> video."""

    def __init__(self, listed: VideoList, reader: ClipReader, *, num_clips: int, num_crops: int) -> None:
        self._listed = listed
        self._reader = reader
        self._views = {"num_clips": num_clips, "num_crops": num_crops}

    def __len__(self) -> int:
        return len(self._listed.entries)

    def __getitem__(self, index: int) -> LoadedVideo:
        single_threaded()
        entry, path = self._listed.entries[index], self._listed.paths[index]
        try:
            views, _ = self._reader.test_views(entry, **self._views)
        except BadVideoError as error:
            return LoadedVideo(index, path, entry.label, None, str(error), group=entry.group)
        digest = digest_or_none(entry) or ""
        return LoadedVideo(index, path, entry.label, torch.from_numpy(views), digest=digest, group=entry.group)


class PackedVideos(IterableDataset[LoadedVideo]):
    """Every sample of some shards once, each shard read by one worker of one rank."""

    def __init__(
        self,
        shards: Sequence[Shard],
        reader: ClipReader,
        *,
        num_clips: int,
        num_crops: int,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._shards = shards
        self._reader = reader
        self._views = {"num_clips": num_clips, "num_crops": num_crops}
        self._rank = rank
        self._num_ranks = num_ranks

    def __iter__(self) -> Iterator[LoadedVideo]:
        single_threaded()
        mine = shards_of_worker(len(self._shards), rank=self._rank, num_ranks=self._num_ranks)
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            for number in mine:
                yield from self._of_shard(number, Path(scratch))

    def _of_shard(self, number: int, scratch: Path) -> Iterator[LoadedVideo]:
        first = sum(shard.num_samples for shard in self._shards[:number])
        failures: list[Failure] = []
        found = 0
        for found, sample in enumerate(samples_of(self._shards[number], number, failures), start=1):
            yield self._viewed(first + found - 1, sample, scratch)
        for place, failure in enumerate(failures, start=found):  # what the index counts and the shard lacks
            yield LoadedVideo(first + place, _text(failure.name), -1, None, failure.reason)

    def _viewed(self, index: int, sample: PackedSample, scratch: Path) -> LoadedVideo:
        label, path, group = -1, _text(sample.name), sample.group()
        try:
            stored = sample.label()
            label = stored if 0 <= stored < self._reader.rule.num_classes else -1
            entry = sample.entry(scratch)
            views, _ = self._reader.test_views(entry, **self._views)
        except BadVideoError as error:
            return LoadedVideo(index, path, label, None, str(error), group=group)
        digest = digest_or_none(entry) or ""
        return LoadedVideo(index, path, label, torch.from_numpy(views), digest=digest, group=group)


def view_reader(protocol: Protocol, class_names: tuple[str, ...], *, deadline_seconds: float) -> ClipReader:
    """What makes the views of a protocol; it owns a decode process."""
    data = DataConfig(
        image_size=protocol.preprocess.image_size,
        num_frames=protocol.sampling.num_segments,
        deadline_seconds=deadline_seconds,
    )
    rule = replace(clip_rule(data, class_names), sampling=protocol.sampling, preprocess=protocol.preprocess)
    return ClipReader(rule, decode_settings(data))


def loader_of(
    listed: VideoList, reader: ClipReader, protocol: Protocol, *, workers: int, rank: int = 0, num_ranks: int = 1
) -> DataLoader[LoadedVideo]:
    """The videos of a list, of several ranks each its own; every video is in exactly one of them."""
    workers = num_loading_workers(workers)
    views = {"num_clips": protocol.num_clips, "num_crops": protocol.num_crops}
    dataset: Dataset[LoadedVideo]
    sampler: range | None = None
    if listed.shards:
        dataset = PackedVideos(listed.shards, reader, rank=rank, num_ranks=num_ranks, **views)
    else:
        dataset, sampler = ListedVideos(listed, reader, **views), range(rank, listed.num_videos, num_ranks)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        multiprocessing_context=start_method(workers),
        generator=torch.Generator(),  # of its own: the caller's stream does not move
    )


def _packed(pattern: str, classes: Path | Sequence[str] | None) -> VideoList:
    shards = find_shards(pattern)
    if isinstance(classes, Path):
        classes = read_class_names(classes)
    names = tuple(classes or read_index(shards[0].path.parent).get("classes", ()))
    if not names:
        raise AnnotationError("these shards do not name their classes: a CSV `id,name` is needed (--classes)")
    if not sum(shard.num_samples for shard in shards):
        raise AnnotationError(f"{pattern}: the shards hold no sample")
    return VideoList(path=pattern, kind="shards", class_names=names, shards=tuple(shards))


def _as_it_is(video: LoadedVideo) -> LoadedVideo:
    return video


def _shown(path: Path, start: Path) -> str:
    return _text(path.relative_to(start) if path.is_relative_to(start) else path)


def _text(path: Path | str) -> str:
    """A file name that survives JSON, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
