"""Samples depend on seed, epoch and index alone; what cannot be read is replaced, counted and never hangs a worker."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest
from tests.synthetic_video import index_of
from tests.training.conftest import more_workers_than_processors
from training.data.augmentation.rngs import Rngs
from training.data.bad_videos import BadVideos, Failure, TooManyBadVideosError
from training.data.clips.datasets import Batch, EpochSampler, TestClips, TrainingClips, collate, start_method
from training.data.clips.reader import ClipReader
from training.data.lists.rows import Entry

Reader = Callable[..., ClipReader]


def batches(clips: TrainingClips, *, workers: int, count: int, **order: int) -> list[Batch]:
    loader = DataLoader(
        clips, batch_size=5, sampler=EpochSampler(len(clips), seed=0, **order), num_workers=workers, collate_fn=collate,
        multiprocessing_context=start_method(workers),
    )  # fmt: skip
    return list(islice(loader, count))


@more_workers_than_processors
@pytest.mark.parametrize("system", ["actionclip", "xclip"])
def test_the_number_of_workers_changes_nothing(system: str, entries: list[Entry], make_reader: Reader) -> None:
    clips = TrainingClips(entries, make_reader(system), seed=7)
    alone = batches(clips, workers=0, count=5)
    assert alone[0].clips.shape == (5, 4, 3, 32, 32)
    assert alone[0].clips.dtype == torch.uint8
    for workers in (1, 3):
        for one, other in zip(alone, batches(clips, workers=workers, count=5), strict=True):
            assert torch.equal(one.clips, other.clips)
            assert torch.equal(one.labels, other.labels)


def test_epochs_differ_and_a_run_goes_on_where_it_stopped(entries: list[Entry], make_reader: Reader) -> None:
    clips = TrainingClips(entries, make_reader(), seed=0)
    assert not torch.equal(clips[0, 3].clip, clips[1, 3].clip)  # type: ignore[arg-type]
    assert torch.equal(clips[1, 3].clip, clips[1, 3].clip)  # type: ignore[arg-type]
    whole = batches(clips, workers=0, count=4)
    rest = batches(clips, workers=0, count=2, first=10)
    assert torch.equal(whole[2].clips, rest[0].clips)
    assert torch.equal(whole[3].clips, rest[1].clips)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_an_epoch_holds_every_entry_once_over_all_ranks(world_size: int) -> None:
    taken = [
        key
        for rank in range(world_size)
        for key in islice(EpochSampler(12, seed=0, rank=rank, world_size=world_size), 12)  # world_size epochs together
    ]
    assert sorted(taken) == [(epoch, index) for epoch in range(world_size) for index in range(12)]


def test_frames_are_those_the_sampler_drew(entries: list[Entry], make_reader: Reader) -> None:
    rule, drawn = make_reader().rule, []

    def indices(num_frames: int, num_segments: int, rngs: Rngs) -> np.ndarray:
        drawn.append(rule.training_indices(num_frames, num_segments, rngs))
        return drawn[-1]

    def uncut(frames: list[np.ndarray], label: int, rngs: Rngs) -> tuple[np.ndarray, int]:
        return np.stack(frames), label

    reader = ClipReader(replace(rule, training_indices=indices, augment=uncut), DecodeSettings(threads=1))
    clip, label = reader.training_clip(entries[0], (0, 0, 0, 0))
    assert [index_of(frame) for frame in clip] == drawn[-1].tolist()
    assert label == 0
    reader.close()


def test_test_views_are_those_of_serving(entries: list[Entry], make_reader: Reader) -> None:
    for system in ("actionclip", "xclip"):
        reader = make_reader(system)
        request = ViewRequest(
            sampling=reader.rule.sampling, preprocess=reader.rule.preprocess, num_clips=2, num_crops=3
        )
        expected = load_views(entries[0].path, request, settings=DecodeSettings())
        found, num_frames = reader.test_views(entries[0], num_clips=2, num_crops=3)
        np.testing.assert_array_equal(found, expected.views)
        assert num_frames == expected.metadata.num_frames


@more_workers_than_processors
def test_a_bad_video_is_replaced_logged_once_and_counted(
    entries: list[Entry], make_reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    mixed = [*entries, Entry(path=tmp_path / "broken.mp4", label=0), Entry(path=tmp_path / "gone.mp4", label=1)]
    made = {
        workers: batches(TrainingClips(mixed, make_reader(), seed=0), workers=workers, count=6) for workers in (0, 2)
    }
    ledger = BadVideos(num_entries=len(mixed), max_share=0.5)
    with caplog.at_level(logging.WARNING):
        for one, other in zip(made[0], made[2], strict=True):
            assert len(one.clips) == 5
            assert torch.equal(one.clips, other.clips)
            ledger.add(one.failures)
            ledger.add(other.failures)
    assert {Path(name).name for name in ledger.reasons} == {"broken.mp4", "gone.mp4"}
    assert sorted(record.getMessage().count("cannot be used") for record in caplog.records) == [1, 1]


def test_too_many_bad_videos_stop_the_run() -> None:
    ledger = BadVideos(num_entries=20, max_share=0.1)
    ledger.add([Failure("a", "broken"), Failure("a", "broken"), Failure("b", "broken")])
    with pytest.raises(TooManyBadVideosError, match=r"3 of 20 videos cannot be used; at most 10.0% .* a: broken"):
        ledger.add([Failure("c", "broken")])


def test_a_set_of_bad_videos_is_an_error_and_no_endless_search(make_reader: Reader, tmp_path: Path) -> None:
    clips = TrainingClips([Entry(path=tmp_path / "gone.mp4", label=0)], make_reader(), seed=0)
    with pytest.raises(TooManyBadVideosError, match="No such file"):
        batches(clips, workers=1, count=1)


def test_a_video_that_hangs_its_decoder_costs_one_deadline(
    entries: list[Entry], make_reader: Reader, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    writer = os.open(tmp_path / "pipe.mp4", os.O_RDWR)  # writes nothing, so the reader waits
    clips = TrainingClips(
        [Entry(path=tmp_path / "pipe.mp4", label=0), *entries[:4]], make_reader(deadline_seconds=3.0), seed=0
    )
    failures = {failure for batch in batches(clips, workers=1, count=3) for failure in batch.failures}
    os.close(writer)
    assert [Path(failure.name).name for failure in failures] == ["pipe.mp4"]


def test_testing_counts_no_entry_twice(entries: list[Entry], make_reader: Reader, tmp_path: Path) -> None:
    clips = TestClips([*entries[:3], Entry(path=tmp_path / "gone.mp4", label=1)], make_reader())
    (batch,) = DataLoader(clips, batch_size=8, collate_fn=collate)
    assert batch.clips.shape == (3, 1, 4, 3, 32, 32)
    assert [Path(failure.name).name for failure in batch.failures] == ["gone.mp4"]


def test_a_label_outside_the_class_list_is_a_bad_entry(entries: list[Entry], make_reader: Reader) -> None:
    with pytest.raises(TooManyBadVideosError, match="label 9 is not in the class list"):
        TrainingClips([Entry(path=entries[0].path, label=9)], make_reader(), seed=0)[0, 0]
