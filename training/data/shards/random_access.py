"""Random access to the samples of shards: workers read each sample at its offset in the tar file.

The order of an epoch depends only on (seed, epoch): shards are shuffled, and their samples pass through a shuffle
buffer, so successive reads stay within a few shards. As with lists, the positions of the endless sequence are divided
among ranks, so the samples of a step depend neither on the number of workers nor on the number of ranks.
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
from training.data.shards.reading import Shard, ShardSample


class ShardSampler(Sampler[tuple[int, int]]):
    """Sampler of (epoch, number) for `num_epochs` epochs, or endless; each epoch contains every sample once.

    Rank r of n takes the positions first + r, first + r + n, ... of this sequence.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        seed: int,
        buffer: int,
        first: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_epochs: int | None = None,
    ) -> None:
        self._starts = np.cumsum([0, *(shard.num_samples for shard in shards)]).tolist()
        self._seed = seed
        self._buffer = buffer
        self._position = first + rank
        self._world_size = world_size
        self._num_epochs = num_epochs

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first_epoch, offset = divmod(self._position, self._starts[-1])
        epochs = itertools.count(first_epoch) if self._num_epochs is None else range(first_epoch, self._num_epochs)
        sequence = ((epoch, number) for epoch in epochs for number in self._shuffled_numbers(epoch))
        yield from itertools.islice(sequence, offset, None, self._world_size)

    def _shuffled_numbers(self, epoch: int) -> Iterator[int]:
        """Yield the numbers of all samples in the order of an epoch."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._starts) - 1).tolist()
        numbers = (number for shard in order for number in range(self._starts[shard], self._starts[shard + 1]))
        generator = random.Random(f"{self._seed} {epoch}")
        yield from shuffle(self._buffer, initial=self._buffer, rng=generator)(numbers)


class ShardSamples:
    """Samples of shards, indexed by number over all shards and read at their offsets in the tar files."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(shard.num_samples for shard in shards)])
        self._spans: dict[int, Int64Array] = {}  # cache: shard -> (start, end) of its samples in bytes [N, 2]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, number: int) -> str:
        """Return the shard and the index of a sample, for messages."""
        shard, index = self._locate(number)
        return f"{self._shards[shard].path}: sample {index}"

    @contextmanager
    def open_sample(self, number: int) -> Iterator[Entry]:
        """Open a sample as an entry, whose file exists only within the context.

        Raises:
            BadVideoError: the shard does not have the sample, or the sample has no video or label.
        """
        with tempfile.TemporaryDirectory(prefix="actserve-") as scratch:
            yield self._read_sample(number).entry(Path(scratch))

    def _read_sample(self, number: int) -> ShardSample:
        shard, index = self._locate(number)
        path = self._shards[shard].path
        try:
            if shard not in self._spans:
                self._spans[shard] = sample_spans(path)
            spans = self._spans[shard]
            if index >= len(spans):
                raise BadVideoError("the shard has fewer samples than its index says")
            start, end = spans[index].tolist()
            with path.open("rb") as stream:
                stream.seek(start)
                content = io.BytesIO(stream.read(end - start))
            fields = next(group_by_keys(tar_file_expander([{"url": path.name, "stream": content}])), None)
        except (OSError, EOFError, tarfile.TarError) as error:  # a truncated or damaged member
            raise BadVideoError(f"{type(error).__name__}: {error}") from error
        if fields is None:
            raise BadVideoError("the shard has no sample at this offset")
        contents = {name: value for name, value in fields.items() if not name.startswith("__")}
        return ShardSample(name=f"{path.name}:{fields['__key__']}", number=(shard, index), fields=contents)

    def _locate(self, number: int) -> tuple[int, int]:
        """Return (index of the shard, index of the sample in it)."""
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])


def sample_spans(path: Path) -> Int64Array:
    """Return the start and end of each complete sample in a tar file, in bytes [N, 2].

    Raises:
        AnnotationError: the file is compressed, which does not allow random access.
        OSError, TarError: the file cannot be read.
    """
    size = path.stat().st_size
    spans: list[tuple[str | None, int, int]] = []
    with path.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise AnnotationError(f"{path} is compressed, but training needs random access; decompress it")
    with tarfile.open(path, "r:") as archive:
        for member in _read_members(archive):
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


def _read_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file, up to the end or the position at which it is truncated."""
    while True:
        try:
            member = archive.next()
        except tarfile.ReadError:
            return
        if member is None:
            return
        yield member
