"""Lists of videos as datasets of torch: a sample is a clip, its label, and the entries that failed on the way.

What a sample looks like depends on (seed, epoch, index) alone, so the number of workers changes nothing. The sampler
says which (epoch, index) comes next and can begin anywhere, which is all a resumed run needs.
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
from training.data.decoding.pool import processors
from training.data.decoding.process import BadVideoError
from training.data.lists.rows import Entry

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 20  # entries tried for one sample


def loading_workers(asked: int) -> int:
    """Loading processes to use: those asked for, but no more than the processors this process may run on."""
    available = processors()
    if asked > available:
        logger.info(
            "%d loading processes were asked for, %d are used: as many as there are processors", asked, available
        )
    return min(asked, available)


def workers_start(workers: int) -> str | None:
    """How a DataLoader's worker processes begin: not as forks of a process whose libraries run threads, which may wait
    for each other's locks for ever; None without workers."""
    return "forkserver" if workers else None


class Batch(NamedTuple):
    """Samples side by side."""

    clips: Tensor  # uint8 [B, T, 3, S, S]; [B, V, T, 3, S, S] when testing
    labels: Tensor  # int64 [B]
    failures: tuple[Failure, ...]  # entries that could not be read while these were made


class Sample(NamedTuple):
    """One clip."""

    clip: Tensor | None  # uint8 [T, 3, S, S]; [V, T, 3, S, S] when testing, None where the entry cannot be read
    label: int
    failures: tuple[Failure, ...] = ()


class Samples(Protocol):
    """What a dataset is made of."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """How messages name a sample."""
        ...

    def opened(self, number: int) -> AbstractContextManager[Entry]:
        """A sample as an entry, whose files exist as long as the context lasts.

        Raises:
            BadVideoError: there is no such sample.
        """
        ...


class ListedSamples:
    """The entries of a list."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, number: int) -> str:
        """The path."""
        return str(self._entries[number].path)

    def opened(self, number: int) -> AbstractContextManager[Entry]:
        """The entry itself."""
        return nullcontext(self._entries[number])


class TrainingClips(Dataset[Sample]):
    """(epoch, number) -> training clip.

    A sample that cannot be read is replaced by another one, drawn from (seed, epoch, number, attempt); a worker does
    not try it a second time.
    """

    def __init__(self, entries: Sequence[Entry] | Samples, reader: ClipReader, *, seed: int) -> None:
        self._samples = ListedSamples(entries) if isinstance(entries, Sequence) else entries
        self._reader = reader
        self._seed = seed
        self._bad: dict[int, Failure] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The clip of an epoch and a number.

        Raises:
            TooManyBadVideosError: no sample out of many could be read.
        """
        single_threaded()
        epoch, number = key
        failures: list[Failure] = []
        for attempt in range(MOST_ATTEMPTS):
            chosen = number if attempt == 0 else self._substitute(epoch, number, attempt)
            if chosen not in self._bad:
                try:
                    with self._samples.opened(chosen) as entry:
                        clip, label = self._reader.training_clip(entry, (self._seed, epoch, number, attempt))
                    return Sample(torch.from_numpy(clip), label, tuple(failures))
                except BadVideoError as error:
                    self._bad[chosen] = Failure(self._samples.name(chosen), str(error))
            failures.append(self._bad[chosen])
        first_reasons = "; ".join(f"{name}: {reason}" for name, reason in failures[:3])
        raise TooManyBadVideosError(f"{MOST_ATTEMPTS} videos in a row cannot be used; the first: {first_reasons}")

    def _substitute(self, epoch: int, number: int, attempt: int) -> int:
        words = np.random.SeedSequence((self._seed, epoch, number, attempt, 1)).generate_state(1)
        return int(words[0]) % len(self._samples)


class TestClips(Dataset[Sample]):
    """number -> test views; a sample that cannot be read gives one without clip, so that none is counted twice."""

    __test__ = False  # no test class, whatever its name

    def __init__(
        self, entries: Sequence[Entry] | Samples, reader: ClipReader, *, num_clips: int = 1, num_crops: int = 1
    ) -> None:
        self._samples = ListedSamples(entries) if isinstance(entries, Sequence) else entries
        self._reader = reader
        self._views = {"num_clips": num_clips, "num_crops": num_crops}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Sample:
        single_threaded()
        label = 0  # of a sample that cannot be opened
        try:
            with self._samples.opened(number) as entry:
                label = entry.label
                views, _ = self._reader.test_views(entry, **self._views)
        except BadVideoError as error:
            return Sample(None, label, (Failure(self._samples.name(number), str(error)),))
        return Sample(torch.from_numpy(views), label)


class Epochs(Sampler[tuple[int, int]]):
    """(epoch, index) without end: each epoch every entry once, in an order of its own.

    Of the endless row of samples, rank r of n takes the positions r, r + n, ... from `first` on; epochs follow each
    other without a gap, so no sample is left out at their ends.
    """

    def __init__(self, num_entries: int, *, seed: int, first: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        self._num_entries = num_entries
        self._seed = seed
        self._first = first
        self._rank = rank
        self._num_ranks = num_ranks

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
    """Samples -> batch; those without clip leave only their failures."""
    whole = [sample for sample in samples if sample.clip is not None]
    clips = torch.stack([sample.clip for sample in whole]) if whole else torch.empty(0)  # type: ignore[misc]
    labels = torch.tensor([sample.label for sample in whole], dtype=torch.int64)
    return Batch(clips, labels, tuple(failure for sample in samples for failure in sample.failures))


def single_threaded() -> None:
    """In a worker, leave the processors to the other workers."""
    if get_worker_info() is not None:
        cv2.setNumThreads(1)
