"""Random access to samples of shards: workers read each sample at its offset in the tar file.

The order of an epoch depends only on (seed, epoch): shards are shuffled, and their samples go through a shuffle buffer,
which keeps reads local. As for lists, positions of the endless sequence are divided among ranks, so the samples of a
step do not depend on the numbers of workers and ranks.
"""

import io
import itertools
import random
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch.utils.data import Sampler
from webdataset.filters import shuffle
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from serve.arrays import Int64Array
from serve.lists.errors import AnnotationError
from training.data.decoding.process import BadVideoError
from training.data.lists.rows import Entry
from training.data.shards.reading import PackedSample, Shard


class ShardOrder(Sampler[tuple[int, int]]):
    """Sampler of (epoch, number), endless or for some epochs; each epoch has every sample once.

    Rank r of n takes the positions r, r + n, ... from `first` on.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        seed: int,
        buffer: int,
        first: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        num_epochs: int | None = None,
    ) -> None:
        self._starts = np.cumsum([0, *(shard.num_samples for shard in shards)]).tolist()
        self._seed = seed
        self._buffer = buffer
        self._position = first + rank
        self._num_ranks = num_ranks
        self._num_epochs = num_epochs

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first_epoch, skipped = divmod(self._position, self._starts[-1])
        epochs = itertools.count(first_epoch) if self._num_epochs is None else range(first_epoch, self._num_epochs)
        positions = ((epoch, number) for epoch in epochs for number in self._epoch(epoch))
        yield from itertools.islice(positions, skipped, None, self._num_ranks)

    def _epoch(self, epoch: int) -> Iterator[int]:
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._starts) - 1).tolist()
        numbers = (number for shard in order for number in range(self._starts[shard], self._starts[shard + 1]))
        generator = random.Random(f"{self._seed} {epoch}")
        yield from shuffle(self._buffer, initial=self._buffer, rng=generator)(numbers)


class PackedSamples:
    """Samples of shards by number, read at their offsets."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(shard.num_samples for shard in shards)])
        self._places: dict[int, Int64Array] = {}  # shard -> (start, end) of each sample; cache

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, number: int) -> str:
        """Return the shard and the index of a sample, for messages."""
        shard, place = self._address(number)
        return f"{self._shards[shard].path}: sample {place}"

    @contextmanager
    def opened(self, number: int) -> Iterator[Entry]:
        """Open a sample as an entry, whose file exists within the context.

        Raises:
            BadVideoError: the shard does not have the sample, or the sample has no video or label.
        """
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            yield self._sample(number).entry(Path(scratch))

    def _sample(self, number: int) -> PackedSample:
        shard, place = self._address(number)
        path = self._shards[shard].path
        try:
            if shard not in self._places:
                self._places[shard] = sample_places(path)
            places = self._places[shard]
            if place >= len(places):
                raise BadVideoError("the shard is shorter than its index says")
            start, end = places[place].tolist()
            with path.open("rb") as stream:
                stream.seek(start)
                content = io.BytesIO(stream.read(end - start))
            fields = next(group_by_keys(tar_file_expander([{"url": path.name, "stream": content}])), None)
        except (OSError, EOFError, tarfile.TarError) as error:  # a truncated or damaged member
            raise BadVideoError(f"{type(error).__name__}: {error}") from error
        if fields is None:
            raise BadVideoError("the shard has no sample at this offset")
        contents = {name: value for name, value in fields.items() if not name.startswith("__")}
        return PackedSample(name=f"{path.name}:{fields['__key__']}", number=(shard, place), fields=contents)

    def _address(self, number: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])


def sample_places(path: Path) -> Int64Array:
    """Return start and end of each complete sample of a shard, in bytes [N, 2].

    Raises:
        AnnotationError: the shard is compressed, which does not allow random access.
        OSError, TarError: it cannot be read.
    """
    size = path.stat().st_size
    spans: list[tuple[str | None, int, int]] = []
    with path.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise AnnotationError(f"{path} is compressed, but training needs random access: decompress it")
    with tarfile.open(path, "r:") as archive:
        for member in _members(archive):
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if not member.isreg() or member.name.startswith("__") or member.offset_data + member.size > size:
                continue
            key = base_plus_ext(member.name)[0]
            if key is None:
                continue
            if spans and spans[-1][0] == key:
                spans[-1] = (key, spans[-1][1], end)
            else:
                spans.append((key, member.offset, end))
    return np.array([span[1:] for span in spans], np.int64).reshape(-1, 2)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members up to the end, or to where the file is truncated."""
    while True:
        try:
            member = archive.next()
        except tarfile.ReadError:
            return
        if member is None:
            return
        yield member
