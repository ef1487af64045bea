"""PyTorch datasets and a sampler for labelled videos; a sample has a clip, its label, and the entries that failed.

A sample depends only on (seed, epoch, index), not on the number of workers. The sampler yields (epoch, index) and can
start at any position, so that a run can be resumed.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from training.data.bad_videos import Failure, TooManyBadVideosError
from training.data.clips.reader import ClipReader
from training.data.decoding.pool import num_processors
from training.data.decoding.process import BadVideoError
from training.data.digests import digest_or_none
from training.data.lists.rows import Entry

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 20  # entries that are tried per sample


def num_loading_workers(requested: int) -> int:
    """Return the number of loading processes: as requested, but at most the number of available processors."""
    available = num_processors()
    if requested > available:
        logger.info("%d loading processes were requested, %d are used: the number of processors", requested, available)
    return min(requested, available)


def start_method(workers: int) -> str | None:
    """Return the start method for the workers of a DataLoader; forking a process with threads may deadlock."""
    return "forkserver" if workers else None


class ClipOrigin(NamedTuple):
    """The facts that decide which clips depend on each other, see `serve.independence`."""

    name: str = ""  # of the file, or of the sample of a shard
    digest: str = ""  # SHA-256 of the content; empty in training, which needs none
    group: str = ""  # as declared in its list


class Batch(NamedTuple):
    """A batch of samples."""

    clips: Tensor  # uint8 [B, T, 3, S, S]; [B, V, T, 3, S, S] in evaluation
    labels: Tensor  # int64 [B]
    failures: tuple[Failure, ...]  # entries that could not be read
    origins: tuple[ClipOrigin, ...]  # [B]


class Sample(NamedTuple):
    """One labelled clip."""

    clip: Tensor | None  # uint8 [T, 3, S, S]; [V, T, 3, S, S] in evaluation; None if the entry cannot be read
    label: int
    failures: tuple[Failure, ...] = ()  # entries that could not be read
    origin: ClipOrigin = ClipOrigin()


class Samples(Protocol):
    """Indexed access to the entries of a dataset."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """Return the name of a sample for messages."""
        ...

    def open_sample(self, number: int) -> AbstractContextManager[Entry]:
        """Return a context manager that yields the sample as an entry; its files exist only within the context.

        Raises:
            BadVideoError: the sample is missing.
        """
        ...


class ListSamples:
    """Samples from the entries of a list."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, number: int) -> str:
        """Return the path of an entry."""
        return str(self._entries[number].path)

    def open_sample(self, number: int) -> AbstractContextManager[Entry]:
        """Return a context manager that yields the entry."""
        return nullcontext(self._entries[number])


class TrainingClips(Dataset[Sample]):
    """Dataset of training clips, indexed by (epoch, number).

    A sample that cannot be read is replaced by another one, which depends on (seed, epoch, number, attempt). A worker
    does not read an unreadable sample again.
    """

    def __init__(self, entries: Sequence[Entry] | Samples, reader: ClipReader, *, seed: int) -> None:
        self._samples = ListSamples(entries) if isinstance(entries, Sequence) else entries
        self._reader = reader
        self._seed = seed
        self._failures: dict[int, Failure] = {}  # index of an unreadable sample -> failure

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return the clip at index `number` in an epoch; `key` is (epoch, number).

        Raises:
            TooManyBadVideosError: the sample and all its substitutes cannot be read.
        """
        limit_worker_threads()
        epoch, number = key
        failures: list[Failure] = []
        for attempt in range(MAX_ATTEMPTS):
            chosen = number if attempt == 0 else self._substitute(epoch, number, attempt)
            if chosen not in self._failures:
                try:
                    with self._samples.open_sample(chosen) as entry:
                        clip, label = self._reader.training_clip(entry, (self._seed, epoch, number, attempt))
                    return Sample(torch.from_numpy(clip), label, tuple(failures))
                except BadVideoError as error:
                    self._failures[chosen] = Failure(self._samples.name(chosen), str(error))
            failures.append(self._failures[chosen])
        first_reasons = "; ".join(f"{name}: {reason}" for name, reason in failures[:3])
        raise TooManyBadVideosError(f"{MAX_ATTEMPTS} videos in a row cannot be used; the first are {first_reasons}")

    def _substitute(self, epoch: int, number: int, attempt: int) -> int:
        words = np.random.SeedSequence((self._seed, epoch, number, attempt, 1)).generate_state(1)
        return int(words[0]) % len(self._samples)


class TestClips(Dataset[Sample]):
    """Dataset of evaluation views, indexed by number; an unreadable sample has no clip and is not replaced."""

    __test__ = False  # not a pytest class

    def __init__(
        self, entries: Sequence[Entry] | Samples, reader: ClipReader, *, num_clips: int = 1, num_crops: int = 1
    ) -> None:
        self._samples = ListSamples(entries) if isinstance(entries, Sequence) else entries
        self._reader = reader
        self._view_options = {"num_clips": num_clips, "num_crops": num_crops}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Sample:
        limit_worker_threads()
        label = 0  # used if the sample cannot be opened
        try:
            with self._samples.open_sample(number) as entry:
                label = entry.label
                views, _ = self._reader.test_views(entry, **self._view_options)
                origin = ClipOrigin(self._samples.name(number), digest_or_none(entry) or "", entry.group)
        except BadVideoError as error:
            return Sample(None, label, (Failure(self._samples.name(number), str(error)),))
        return Sample(torch.from_numpy(views), label, origin=origin)


class EpochSampler(Sampler[tuple[int, int]]):
    """Endless sampler of (epoch, index): each epoch contains every entry once, in a new random order.

    Rank r of n takes the positions first + r, first + r + n, ... of this sequence. A batch may span two epochs, so no
    sample is dropped at the end of an epoch.
    """

    def __init__(self, num_entries: int, *, seed: int, first: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self._num_entries = num_entries
        self._seed = seed
        self._first = first
        self._rank = rank
        self._num_ranks = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self._first + self._rank
        epoch = -1
        while True:
            if position // self._num_entries != epoch:
                epoch = position // self._num_entries
                order = np.random.default_rng((self._seed, epoch)).permutation(self._num_entries)
            yield epoch, int(order[position % self._num_entries])
            position += self._num_ranks


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples into a batch; a sample without a clip contributes only its failures."""
    readable = [sample for sample in samples if sample.clip is not None]
    clips = torch.stack([sample.clip for sample in readable]) if readable else torch.empty(0)  # type: ignore[misc]
    labels = torch.tensor([sample.label for sample in readable], dtype=torch.int64)
    failures = tuple(failure for sample in samples for failure in sample.failures)
    return Batch(clips, labels, failures, tuple(sample.origin for sample in readable))


def limit_worker_threads() -> None:
    """Limit OpenCV to one thread in a worker of a DataLoader."""
    if get_worker_info() is not None:
        cv2.setNumThreads(1)
