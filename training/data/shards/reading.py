"""Sets of videos as WebDataset shards: tar files that are read from end to end, for disks and networks that seek badly.

A sample is a video file, or the pictures of a folder (`00001.jpg` ...), with its label (`cls`) and where it came from
(`json`). `shards.json` beside the tar files counts them; shards of other makers are counted once when they are opened.
Within an epoch every shard goes to one worker of one rank, so no sample is lost or doubled.
"""

import glob
import itertools
import json
import random
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import braceexpand
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import shuffle
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from serve.lists.errors import AnnotationError
from training.data.bad_videos import Failure, TooManyBadVideosError
from training.data.clips.datasets import MOST_ATTEMPTS, Sample, single_threaded
from training.data.clips.reader import ClipReader, Seed
from training.data.decoding.process import BadVideoError
from training.data.lists.rows import Entry
from training.data.lists.video_files import SUFFIXES

INDEX = "shards.json"
OTHER_VIDEO = "video"  # field of a video whose file name has no suffix that is known
_PICTURE = re.compile(r"\d+\.(jpg|jpeg|png|bmp|webp)")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file and how many samples it holds."""

    path: Path
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """A sample as it lies in a shard."""

    name: str  # shard and key
    number: tuple[int, int]  # shard, place in it
    fields: dict[str, Any]

    def label(self) -> int:
        """The number in the field `cls`.

        Raises:
            BadVideoError: there is none.
        """
        try:
            return int(self.fields["cls"])
        except (KeyError, ValueError) as error:
            raise BadVideoError("the sample holds no label: a field `cls` with a number") from error

    def entry(self, scratch: Path) -> Entry:
        """What a reader takes; a video is written to `scratch` first.

        Raises:
            BadVideoError: it holds no label, or no video.
        """
        label = self.label()
        pictures = [self.fields[name] for name in sorted(self.fields) if _PICTURE.fullmatch(name)]
        if pictures:
            return Entry(path=Path(self.name), label=label, num_frames=len(pictures), packed=pictures)
        video = next((name for name in self.fields if f".{name}" in SUFFIXES or name == OTHER_VIDEO), None)
        if video is None:
            raise BadVideoError(f"the sample holds no video: {', '.join(sorted(self.fields)) or 'nothing'}")
        path = scratch / f"sample.{video}"
        path.write_bytes(self.fields[video])
        return Entry(path=path, label=label)


def find_shards(pattern: str) -> list[Shard]:
    """The shards of a folder, or of a pattern with braces and stars, in order of their names.

    Raises:
        AnnotationError: there is none.
    """
    if Path(pattern).is_dir():
        paths = sorted(Path(pattern).glob("*.tar"))
    else:
        expanded = [pattern] if Path(pattern).exists() else list(braceexpand.braceexpand(pattern))
        paths = sorted({Path(name) for part in expanded for name in (glob.glob(part) if "*" in part else [part])})  # noqa: PTH207
    if not paths:
        raise AnnotationError(f"{pattern}: no shard is called so")
    counts: dict[Path, int] = {}
    for folder in {path.parent for path in paths}:
        counts |= {folder / item["name"]: item["samples"] for item in read_index(folder).get("shards", ())}
    return [Shard(path=path, num_samples=counts[path] if path in counts else _count(path)) for path in paths]


def read_index(folder: Path) -> dict[str, Any]:
    """What `shards.json` of a folder says; empty without one.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{folder / INDEX} cannot be read: {error}") from error
    return found


def shards_of_worker(num_shards: int, *, rank: int, num_ranks: int) -> range:
    """The shards this loading process reads when every one is read once: those of its rank, in turn."""
    worker = get_worker_info()
    place, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
    return range(num_shards)[rank::num_ranks][place::num_workers]


def samples_of(shard: Shard, number: int, failures: list[Failure]) -> Iterator[PackedSample]:
    """The samples of one shard; what the shard should hold and does not is added to `failures`."""
    faults: list[str] = []

    def note(error: Exception) -> bool:
        faults.append(f"{type(error).__name__}: {error.args[0] if error.args else ''}")
        return True

    def source() -> Iterator[dict[str, Any]]:
        try:
            with shard.path.open("rb") as stream:
                yield {"url": shard.path.name, "stream": stream}
        except OSError as error:
            note(error)

    found = 0
    for fields in group_by_keys(tar_file_expander(source(), handler=note), handler=note):
        if found < shard.num_samples:
            key = fields["__key__"]
            contents = {name: value for name, value in fields.items() if not name.startswith("__")}
            yield PackedSample(name=f"{shard.path.name}:{key}", number=(number, found), fields=contents)
        found += 1
    for place in range(found, shard.num_samples):
        reason = faults[0] if faults else "the shard is shorter than its index says"
        failures.append(Failure(f"{shard.path}: sample {place}", reason))


class PackedClips(IterableDataset[Sample]):
    """Training clips out of shards, without end or for some epochs.

    In each epoch the shards change order by (seed, epoch), go to ranks and then to workers in turn, and samples are
    drawn from a buffer. A clip depends on (seed, epoch, shard, place) alone; which comes next also on the numbers of
    ranks and workers. A sample that cannot be read is replaced by the next one that can, drawn once more.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        reader: ClipReader,
        *,
        seed: int,
        buffer: int,
        batch_size: int = 1,
        first_step: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        num_epochs: int | None = None,
    ) -> None:
        self._shards = shards
        self._reader = reader
        self._seed = seed
        self._buffer = buffer
        self._batch_size = batch_size
        self._first_step = first_step  # batches of this rank that an earlier run has had
        self._rank = rank
        self._num_ranks = num_ranks
        self._num_epochs = num_epochs

    def __iter__(self) -> Iterator[Sample]:
        single_threaded()
        worker = get_worker_info()
        place, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        place = (place + self._first_step) % num_workers  # batches come from the workers in turn
        skipped = len(range(place, self._first_step, num_workers)) * self._batch_size
        failures: list[Failure] = []
        epochs = itertools.count() if self._num_epochs is None else range(self._num_epochs)
        samples = ((epoch, sample) for epoch in epochs for sample in self._epoch(epoch, place, num_workers, failures))
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            yield from self._clips(itertools.islice(samples, skipped, None), Path(scratch), failures)

    def _epoch(self, epoch: int, place: int, num_workers: int, failures: list[Failure]) -> Iterator[PackedSample]:
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._shards)).tolist()
        mine = order[self._rank :: self._num_ranks][place::num_workers]
        stream = (sample for number in mine for sample in samples_of(self._shards[number], number, failures))
        generator = random.Random(f"{self._seed} {epoch} {self._rank} {place}")
        yield from shuffle(self._buffer, initial=self._buffer, rng=generator)(stream)

    def _clips(
        self, samples: Iterator[tuple[int, PackedSample]], scratch: Path, failures: list[Failure]
    ) -> Iterator[Sample]:
        waiting: list[Seed] = []  # of samples that failed and need a replacement
        last: tuple[int, PackedSample] | None = None
        for epoch, sample in samples:
            seed = (self._seed, epoch, *sample.number)
            clip = self._attempt(sample, seed, scratch, failures)
            if clip is None:
                waiting.append(seed)
                if len(waiting) >= MOST_ATTEMPTS:
                    raise _none_readable(failures)
                continue
            yield clip
            last = (epoch, sample)
            yield from self._replacements(sample, waiting, scratch, failures)
        if waiting and last is None:
            raise _none_readable(failures)
        if last is not None:
            yield from self._replacements(last[1], waiting, scratch, failures)

    def _replacements(
        self, sample: PackedSample, waiting: list[Seed], scratch: Path, failures: list[Failure]
    ) -> Iterator[Sample]:
        while waiting:
            clip = self._attempt(sample, (*waiting.pop(), 1), scratch, failures)
            if clip is not None:
                yield clip

    def _attempt(self, sample: PackedSample, seed: Seed, scratch: Path, failures: list[Failure]) -> Sample | None:
        try:
            clip, label = self._reader.training_clip(sample.entry(scratch), seed)
        except BadVideoError as error:
            failures.append(Failure(sample.name, str(error)))
            return None
        told = tuple(failures)
        failures.clear()
        return Sample(torch.from_numpy(clip), label, told)


class PackedTestClips(IterableDataset[Sample]):
    """Test views of every sample of some shards once, each shard by one worker of one rank."""

    def __init__(self, shards: Sequence[Shard], reader: ClipReader, *, rank: int = 0, num_ranks: int = 1) -> None:
        self._shards = shards
        self._reader = reader
        self._rank = rank
        self._num_ranks = num_ranks

    def __iter__(self) -> Iterator[Sample]:
        single_threaded()
        mine = shards_of_worker(len(self._shards), rank=self._rank, num_ranks=self._num_ranks)
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            for number in mine:
                failures: list[Failure] = []
                for sample in samples_of(self._shards[number], number, failures):
                    yield self._sample(sample, Path(scratch))
                yield from (Sample(None, 0, (failure,)) for failure in failures)

    def _sample(self, sample: PackedSample, scratch: Path) -> Sample:
        try:
            entry = sample.entry(scratch)
            views, _ = self._reader.test_views(entry)
        except BadVideoError as error:
            return Sample(None, 0, (Failure(sample.name, str(error)),))
        return Sample(torch.from_numpy(views), entry.label)


def _count(path: Path) -> int:
    """Distinct keys of a shard that has no index."""
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive if member.isreg() and not member.name.startswith("__")]
    except (OSError, tarfile.TarError) as error:
        raise AnnotationError(f"{path} cannot be read as a shard: {error}") from error
    keys = [base_plus_ext(name)[0] for name in names]
    return sum(1 for key, _ in itertools.groupby(keys) if key is not None)


def _none_readable(failures: Sequence[Failure]) -> TooManyBadVideosError:
    told = "; ".join(f"{name}: {reason}" for name, reason in failures[:3])
    return TooManyBadVideosError(f"{MOST_ATTEMPTS} samples in a row, or all, cannot be used; the first: {told}")
