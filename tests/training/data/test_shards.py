"""Shards: an epoch is every sample once, over ranks and workers; what is broken is reported and replaced."""

import gzip
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from serve.lists.errors import AnnotationError
from tests.training.conftest import CLASSES, more_workers_than_processors
from training.data.clips.datasets import Batch, Sample, TestClips, TrainingClips, collate, start_method
from training.data.clips.reader import ClipReader
from training.data.lists.rows import Entry
from training.data.shards.random_access import ShardSampler, ShardSamples, sample_spans
from training.data.shards.reading import Shard, find_shards, read_samples
from training.data.shards.writing import write_shards

Reader = Callable[..., ClipReader]


@pytest.fixture(scope="module")
def folder(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos in six shards."""
    out = tmp_path_factory.mktemp("set") / "my shards {0}"
    index = write_shards(entries, CLASSES, out, samples_per_shard=2, seed=0)
    assert index["samples"] == 12
    return out


class Numbered(ClipReader):
    """Makes of each sample a clip that holds nothing but its place, so that samples can be counted."""

    def training_clip(self, entry: Entry, seed: tuple[int, ...]) -> tuple:  # type: ignore[type-arg]
        return torch.tensor(seed[1:]).numpy(), entry.label


@pytest.fixture
def numbered(make_reader: Reader) -> ClipReader:
    reader = make_reader()
    return Numbered(reader.rule, reader._settings)


def test_the_same_entries_give_the_same_shards(entries: list[Entry], folder: Path, tmp_path: Path) -> None:
    write_shards(entries, CLASSES, tmp_path / "again", samples_per_shard=2, seed=0)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    with pytest.raises(AnnotationError, match="not empty"):
        write_shards(entries, CLASSES, folder, samples_per_shard=2, seed=0)


def test_a_sample_is_the_video_itself(entries: list[Entry], folder: Path, tmp_path: Path) -> None:
    contents = set()
    for number, shard in enumerate(find_shards(str(folder))):
        for sample in read_samples(shard, number, []):
            entry = sample.entry(tmp_path)
            contents.add((entry.path.read_bytes(), entry.label))
    assert contents == {(entry.path.read_bytes(), entry.label) for entry in entries}


def batches(folder: Path, reader: ClipReader, *, workers: int, first: int = 0, **options: int) -> DataLoader[Batch]:
    """Batches of three samples, each a clip that holds (epoch, number of the sample, attempt)."""
    shards = find_shards(str(folder))
    return DataLoader(
        TrainingClips(ShardSamples(shards), reader, seed=5),
        sampler=ShardSampler(shards, seed=5, buffer=4, first=first, **options),
        batch_size=3,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context=start_method(workers),
    )


@more_workers_than_processors
@pytest.mark.parametrize(("world_size", "workers"), [(1, 3), (2, 2), (3, 1), (4, 0)])
def test_an_epoch_is_every_sample_once(folder: Path, numbered: ClipReader, world_size: int, workers: int) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    for rank in range(world_size):
        options = {"rank": rank, "world_size": world_size, "num_epochs": 2}
        for batch in batches(folder, numbered, workers=workers, **options):
            seen.update(tuple(place) for place in batch.clips.tolist())
    assert seen == {(epoch, number, 0): 1 for epoch in (0, 1) for number in range(12)}


@more_workers_than_processors
@pytest.mark.parametrize("workers", range(5))
def test_a_run_goes_on_with_any_number_of_workers(folder: Path, numbered: ClipReader, workers: int) -> None:
    """Any number of workers gives the same two epochs of twelve samples, from the start and after three steps of three.

    So a run that stops with one number of workers and goes on with another sees each sample once in each epoch.
    """

    def places(loader: DataLoader[Batch]) -> list[list[int]]:
        return [place for batch in loader for place in batch.clips.tolist()]

    whole = places(batches(folder, numbered, workers=0, num_epochs=2))
    assert Counter(tuple(place) for place in whole) == {(e, number, 0): 1 for e in (0, 1) for number in range(12)}
    assert [number for _, number, _ in whole[:12]] != [number for _, number, _ in whole[12:]]
    assert places(batches(folder, numbered, workers=workers, num_epochs=2)) == whole
    assert places(batches(folder, numbered, workers=workers, num_epochs=2, first=9)) == whole[9:]


def test_a_step_sees_the_same_samples_whatever_the_number_of_ranks(folder: Path) -> None:
    shards = find_shards(str(folder))

    def positions(**options: int) -> list[tuple[int, int]]:
        return list(islice(ShardSampler(shards, seed=5, buffer=4, **options), 24 // options.get("world_size", 1)))

    alone = positions(first=6)
    assert [positions(first=6, rank=rank, world_size=4) for rank in range(4)] == [alone[rank::4] for rank in range(4)]
    assert alone[0] == positions()[6]
    assert [epoch for epoch, _ in positions(first=30)[:7]] == [2] * 6 + [3], "a run goes on within its third epoch"


def test_clips_are_those_of_the_list(entries: list[Entry], folder: Path, make_reader: Reader) -> None:
    reader, packed = make_reader(), {label: [] for label in range(len(CLASSES))}
    samples = TestClips(ShardSamples(find_shards(str(folder))), reader)
    for sample in map(samples.__getitem__, range(len(samples))):
        packed[sample.label].append(sample.clip)
    listed = TestClips(entries, reader)
    for index, entry in enumerate(entries):
        assert any(torch.equal(listed[index].clip, clip) for clip in packed[entry.label])  # type: ignore[arg-type]


def test_folders_of_frames_become_pictures_in_a_shard(tmp_path: Path, make_reader: Reader) -> None:
    from PIL import Image

    frames = tmp_path / "a folder"
    frames.mkdir()
    for number in range(1, 13):
        Image.new("RGB", (40, 32), (10 * number, 0, 0)).save(frames / f"img_{number:05d}.jpg", quality=95)
    entry = Entry(path=frames, label=2, num_frames=12)
    write_shards([entry], CLASSES, tmp_path / "out", samples_per_shard=8, seed=0)
    sample = TestClips(ShardSamples(find_shards(str(tmp_path / "out"))), make_reader())[0]
    direct = TestClips([entry], make_reader())[0]
    assert torch.equal(sample.clip, direct.clip)  # type: ignore[arg-type]
    assert sample.label == 2


def test_broken_samples_and_shards_are_reported_and_replaced(
    entries: list[Entry], tmp_path: Path, make_reader: Reader
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video" * 99)
    mixed = [*entries[:3], Entry(path=tmp_path / "bad.mp4", label=0)]
    write_shards(
        [*mixed, Entry(path=tmp_path / "gone.mp4", label=0)], CLASSES, tmp_path / "a", samples_per_shard=8, seed=0
    )
    (shard,) = find_shards(str(tmp_path / "a"))
    assert shard.num_samples == 4
    clips = TrainingClips(ShardSamples([shard]), make_reader(), seed=0)
    samples = [clips[0, number] for number in range(4)]
    assert all(isinstance(sample, Sample) and sample.clip is not None for sample in samples)
    assert len({failure.name for sample in samples for failure in sample.failures}) == 1
    data = shard.path.read_bytes()
    shard.path.chmod(0o644)
    shard.path.write_bytes(data[: len(data) // 2])
    failures: list = []
    found = list(read_samples(shard, 0, failures))
    assert len(found) + len(failures) >= 4
    assert failures
    whole = Shard(path=tmp_path / "gone.tar", num_samples=3)
    failures.clear()
    assert not list(read_samples(whole, 0, failures))
    assert len(failures) == 3
    assert "FileNotFoundError" in failures[0].reason


def test_a_shard_that_is_cut_off_gives_its_whole_samples(
    entries: list[Entry], tmp_path: Path, make_reader: Reader
) -> None:
    write_shards(entries[:4], CLASSES, tmp_path / "a", samples_per_shard=4, seed=0)
    (shard,) = find_shards(str(tmp_path / "a"))
    whole = sample_spans(shard.path)
    assert len(whole) == 4
    data = shard.path.read_bytes()
    views = TestClips(ShardSamples([shard]), make_reader())
    before = [views[number].clip for number in range(4)]
    shard.path.chmod(0o644)
    shard.path.write_bytes(data[: int(whole[2, 0]) + 700])  # within the third sample
    cut = TestClips(ShardSamples([shard]), make_reader())
    found = [cut[number] for number in range(4)]
    assert [sample.clip is not None for sample in found] == [True, True, False, False]
    assert all(torch.equal(one.clip, other) for one, other in zip(found[:2], before[:2], strict=True))  # type: ignore[arg-type]
    assert all(sample.failures for sample in found[2:])
    shard.path.write_bytes(gzip.compress(data))
    with pytest.raises(AnnotationError, match="is compressed"):
        sample_spans(shard.path)


def test_shards_of_other_makers_are_counted(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert [shard.num_samples for shard in find_shards(str(tmp_path / "shard-{000000..000002}.tar"))] == [2, 2, 2]
    assert len(find_shards(str(tmp_path / "shard-*.tar"))) == 6
    (tmp_path / "shard-000000.tar").write_bytes(b"no archive")
    with pytest.raises(AnnotationError, match="cannot be read as a shard"):
        find_shards(str(tmp_path))
    with pytest.raises(AnnotationError, match="no shard"):
        find_shards(str(tmp_path / "nosuch-*.tar"))
