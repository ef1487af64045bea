"""Load the test views of every video of a list; an unreadable video is returned with the reason."""

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
from serve.independence import assign_groups
from serve.lists.errors import AnnotationError
from serve.video.limits import DecodeSettings
from training.config import DataConfig
from training.data.bad_videos import Failure
from training.data.clips.datasets import limit_worker_threads, num_loading_workers, start_method
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule
from training.data.decoding.pool import num_processors
from training.data.decoding.process import BadVideoError
from training.data.digests import digest_or_none, find_near_duplicates
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import classes_without_videos, entries_of, index_labels
from training.data.lists.listing import detect_kind, read_listing, rows_of_split
from training.data.lists.rows import Entry, ListOptions
from training.data.shards.reading import Shard, ShardSample, find_shards, read_index, read_samples, shards_of_worker
from training.evaluation.errors import EvaluationError
from training.evaluation.protocol import Protocol

MAX_LISTED = 5  # classes named in a note


class LoadedVideo(NamedTuple):
    """One video, read or not."""

    list_index: int
    path: str  # relative to the root of the list
    label: int  # -1 if unknown
    views: Tensor | None  # uint8 [V, T, 3, S, S]
    reason: str = ""  # why the video is unreadable
    digest: str = ""  # SHA-256 of the content
    group: str = ""  # declared in the list


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """A list whose videos are entries or shards, with the class names that its labels refer to."""

    path: str
    kind: str
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    paths: tuple[str, ...] = ()  # of the entries, relative to the root of the list
    shards: tuple[Shard, ...] = ()
    layout: tuple[str, ...] = ()  # lines that describe how the list was interpreted

    @property
    def num_videos(self) -> int:
        """Number of readable and unreadable videos."""
        return len(self.entries) or sum(shard.num_samples for shard in self.shards)

    def sha256(self) -> str | None:
        """Return the SHA-256 of the list file; None for folders and shards."""
        return file_sha256(Path(self.path)) if Path(self.path).is_file() and not self.shards else None


def read_list(
    path: str,
    *,
    options: ListOptions | None = None,
    classes: Path | Sequence[str] | None = None,
    split: str = "",
) -> VideoList:
    """Read a list of any kind; if the list names splits, only the rows of `split`.

    `classes` are the class names or a class list; by default they are taken from the list.

    Raises:
        AnnotationError: the list cannot be read, contains no video, or has labels that are not in the class names; or
            it names several splits and none is selected, or it names none and one is selected.
    """
    options = options or ListOptions()
    kind = options.kind or detect_kind(Path(path), options)
    if kind == "shards":
        if split or options.fold or options.first_label is not None:
            raise AnnotationError("--split, --fold and --first-label cannot be used with shards")
        return _read_shards(path, classes)
    listing = read_listing(Path(path), replace(options, kind=kind))
    read = index_labels(
        rows_of_split(listing, split, option="--split"), listing, classes, first_label=options.first_label
    )
    entries = entries_of(read.rows, read.names)
    start = options.root or (Path(path) if kind == "folder" else Path(path).parent)
    paths = tuple(_relative_name(entry.path, start) for entry in entries)
    unused_classes = classes_without_videos(read.rows, read.names)
    return VideoList(
        path=path,
        kind=kind,
        class_names=read.names,
        entries=tuple(entries),
        paths=paths,
        layout=(*listing.layout(), *([_unused_note(unused_classes)] if unused_classes else [])),
    )


def group_near_duplicates(video_list: VideoList, *, workers: int, deadline_seconds: float) -> VideoList:
    """Return the list with near duplicates in one group, in addition to the declared groups.

    Raises:
        EvaluationError: the list consists of shards.
    """
    if video_list.shards:
        raise EvaluationError("--near-duplicates requires video files, but the list consists of shards")
    settings = DecodeSettings.model_validate({"threads": 1, "deadline_seconds": deadline_seconds})
    pairs = find_near_duplicates(
        [entry.path for entry in video_list.entries], settings=settings, workers=workers or num_processors()
    )
    groups = assign_groups(declared=[entry.group for entry in video_list.entries], pairs=pairs).tolist()
    near = {groups[index] for pair in pairs for index in pair}
    entries = tuple(
        replace(entry, group=f"near duplicates {group}") if group in near else entry
        for entry, group in zip(video_list.entries, groups, strict=True)
    )
    return replace(video_list, entries=entries, layout=(*video_list.layout, f"  {len(pairs)} pairs of near duplicates"))


def _unused_note(names: Sequence[str]) -> str:
    more = " ..." if len(names) > MAX_LISTED else ""
    return f"  note: {len(names)} classes have no video: {', '.join(names[:MAX_LISTED])}{more}"


class ListedVideos(Dataset[LoadedVideo]):
    """The videos of a list of files, by index."""

    def __init__(self, video_list: VideoList, reader: ClipReader, *, num_clips: int, num_crops: int) -> None:
        self._listed = video_list
        self._reader = reader
        self._views = {"num_clips": num_clips, "num_crops": num_crops}

    def __len__(self) -> int:
        return len(self._listed.entries)

    def __getitem__(self, index: int) -> LoadedVideo:
        limit_worker_threads()
        entry, path = self._listed.entries[index], self._listed.paths[index]
        try:
            views, _ = self._reader.test_views(entry, **self._views)
        except BadVideoError as error:
            return LoadedVideo(index, path, entry.label, None, str(error), group=entry.group)
        digest = digest_or_none(entry) or ""
        return LoadedVideo(index, path, entry.label, torch.from_numpy(views), digest=digest, group=entry.group)


class PackedVideos(IterableDataset[LoadedVideo]):
    """The samples of shards; each shard is read by one worker of one rank."""

    def __init__(
        self,
        shards: Sequence[Shard],
        reader: ClipReader,
        *,
        num_clips: int,
        num_crops: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._shards = shards
        self._reader = reader
        self._views = {"num_clips": num_clips, "num_crops": num_crops}
        self._rank = rank
        self._num_ranks = world_size

    def __iter__(self) -> Iterator[LoadedVideo]:
        limit_worker_threads()
        shard_numbers = shards_of_worker(len(self._shards), rank=self._rank, world_size=self._num_ranks)
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            for number in shard_numbers:
                yield from self._read_shard(number, Path(scratch))

    def _read_shard(self, number: int, scratch: Path) -> Iterator[LoadedVideo]:
        first = sum(shard.num_samples for shard in self._shards[:number])
        failures: list[Failure] = []
        num_read = 0
        for num_read, sample in enumerate(read_samples(self._shards[number], number, failures), start=1):
            yield self._load(first + num_read - 1, sample, scratch)
        # failures are samples of the index that are missing in the shard
        for offset, failure in enumerate(failures, start=num_read):
            yield LoadedVideo(first + offset, _printable(failure.name), -1, None, failure.reason)

    def _load(self, index: int, sample: ShardSample, scratch: Path) -> LoadedVideo:
        label, path, group = -1, _printable(sample.name), sample.group()
        try:
            stored = sample.label()
            label = stored if 0 <= stored < self._reader.rule.num_classes else -1
            entry = sample.entry(scratch)
            views, _ = self._reader.test_views(entry, **self._views)
        except BadVideoError as error:
            return LoadedVideo(index, path, label, None, str(error), group=group)
        digest = digest_or_none(entry) or ""
        return LoadedVideo(index, path, label, torch.from_numpy(views), digest=digest, group=group)


def make_view_reader(protocol: Protocol, class_names: tuple[str, ...], *, deadline_seconds: float) -> ClipReader:
    """Create the reader of the views of a protocol; the caller closes it, because it owns a decode process."""
    data = DataConfig(
        image_size=protocol.preprocess.image_size,
        num_frames=protocol.sampling.num_segments,
        deadline_seconds=deadline_seconds,
    )
    rule = replace(clip_rule(data, class_names), sampling=protocol.sampling, preprocess=protocol.preprocess)
    return ClipReader(rule, decode_settings(data))


def make_loader(
    video_list: VideoList, reader: ClipReader, protocol: Protocol, *, workers: int, rank: int = 0, world_size: int = 1
) -> DataLoader[LoadedVideo]:
    """Create the loader of a list; with several ranks, each video is loaded by exactly one rank."""
    workers = num_loading_workers(workers)
    views = {"num_clips": protocol.num_clips, "num_crops": protocol.num_crops}
    dataset: Dataset[LoadedVideo]
    sampler: range | None = None
    if video_list.shards:
        dataset = PackedVideos(video_list.shards, reader, rank=rank, world_size=world_size, **views)
    else:
        dataset, sampler = ListedVideos(video_list, reader, **views), range(rank, video_list.num_videos, world_size)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_identity,  # type: ignore[arg-type]
        multiprocessing_context=start_method(workers),
        generator=torch.Generator(),  # leaves the global random generator unchanged
    )


def _read_shards(pattern: str, classes: Path | Sequence[str] | None) -> VideoList:
    shards = find_shards(pattern)
    if isinstance(classes, Path):
        classes = read_class_names(classes)
    names = tuple(classes or read_index(shards[0].path.parent).get("classes", ()))
    if not names:
        raise AnnotationError("the shards do not contain class names; give a CSV file `id,name` with --classes")
    if not sum(shard.num_samples for shard in shards):
        raise AnnotationError(f"{pattern}: the shards contain no samples")
    return VideoList(path=pattern, kind="shards", class_names=names, shards=tuple(shards))


def _identity(video: LoadedVideo) -> LoadedVideo:
    return video


def _relative_name(path: Path, start: Path) -> str:
    return _printable(path.relative_to(start) if path.is_relative_to(start) else path)


def _printable(path: Path | str) -> str:
    """Return a file name as valid Unicode text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
