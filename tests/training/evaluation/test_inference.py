"""A pass over a list: the views serving would make, every video once, in whichever process."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from serve.lists.errors import AnnotationError
from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest
from tests.synthetic_video import make_picture, make_video
from tests.tolerances import tolerance
from tests.training.conftest import CLASSES
from training.data.lists.rows import Entry, ListOptions
from training.data.prompts import tokenizer_of
from training.data.shards.writing import write_shards
from training.demo.captions import combinations
from training.demo.videos import write_videos
from training.evaluation.accumulator import MetricAccumulator
from training.evaluation.checkpoints import read_for_evaluation
from training.evaluation.errors import EvaluationError
from training.evaluation.inference import LoaderOptions, evaluate_list
from training.evaluation.protocol import Protocol, make_protocol
from training.evaluation.videos import VideoList, group_near_duplicates, read_list
from training.evaluation.zero_shot import ClassSubset
from training.models.base import VideoTextModel

pytestmark = pytest.mark.numeric

PROBABILITIES = tolerance(100.0) / 2  # move by half of what logits move, 100 being CLIP's largest scale
PACE = LoaderOptions(workers=0, batch_size=5)


def run(path: Path, listed: VideoList, **options: object) -> tuple[VideoTextModel, Protocol, list[MetricAccumulator]]:
    checkpoint, _ = read_for_evaluation(path)
    views = {name: options.pop(name) for name in ("num_clips", "num_crops") if name in options}
    protocol = make_protocol(checkpoint, **views)  # type: ignore[arg-type]
    model = checkpoint.build()
    tokenizer = tokenizer_of(protocol.text, None, key="--tokenizer")
    return model, protocol, evaluate_list(model, protocol, listed, tokenizer=tokenizer, loader_options=PACE, **options)  # type: ignore[arg-type]


@torch.no_grad()
def test_rows_hold_what_the_views_of_serving_give(checkpoints: Path, video_list: Path) -> None:
    listed = read_list(str(video_list), classes=video_list.parent / "classes.csv")
    model, protocol, (accumulator,) = run(checkpoints / "xclip.pt", listed, num_clips=2, num_crops=3)
    request = ViewRequest(sampling=protocol.sampling, preprocess=protocol.preprocess, num_clips=2, num_crops=3)
    tokenizer = tokenizer_of(protocol.text, None, key="--tokenizer")
    texts = torch.cat([model.encode_text(torch.tensor(tokenizer.encode([name]))) for name in CLASSES])
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (protocol.preprocess.mean, protocol.preprocess.std))
    assert [row.index for row in accumulator.readable] == [0, 1, 2, 3, 4, *range(6, 13)]
    for row in accumulator.readable:
        views = torch.from_numpy(load_views(video_list.parent / row.path, request, settings=DecodeSettings()).views)
        video = model.encode_video((views / 255 - mean) / std)
        sums = model.head(video.video_features, video.patch_features, texts).softmax(dim=-1).sum(dim=0)
        assert row.label_probability == pytest.approx(float(sums[row.label]) / 6, abs=PROBABILITIES)
        assert row.top[0] == int(sums.argmax())
    (lost,) = accumulator.unreadable
    assert (lost.index, lost.path, lost.label) == (5, "broken.mp4", 1)
    assert accumulator.compute().num_videos == 13


@pytest.fixture(scope="module")
def accumulators(checkpoints: Path, video_list: Path, shards: Path) -> dict[str, tuple[VideoList, MetricAccumulator]]:
    """What one process makes of the list and of the shards."""
    lists = {
        "list": read_list(str(video_list), classes=video_list.parent / "classes.csv"),
        "shards": read_list(str(shards)),
    }
    return {name: (each, run(checkpoints / "actionclip.pt", each)[2][0]) for name, each in lists.items()}


@pytest.mark.parametrize("source", ["list", "shards"])
def test_two_ranks_together_are_one(
    source: str, checkpoints: Path, accumulators: dict[str, tuple[VideoList, MetricAccumulator]]
) -> None:
    listed, whole = accumulators[source]
    (first,), (second,) = (run(checkpoints / "actionclip.pt", listed, rank=rank, world_size=2)[2] for rank in range(2))
    assert 0 < len(first.readable) < len(whole.readable)
    first.merge(second)
    assert [(row.index, row.path, row.label) for row in first.readable] == [
        (row.index, row.path, row.label) for row in whole.readable
    ]
    assert first.compute().top1 == whole.compute().top1
    np.testing.assert_allclose(
        [row.label_probability for row in first.readable],
        [row.label_probability for row in whole.readable],
        atol=PROBABILITIES,
    )


def test_shards_and_lists_hold_the_same_videos(accumulators: dict[str, tuple[VideoList, MetricAccumulator]]) -> None:
    packed, _ = accumulators["shards"]
    assert packed.class_names == CLASSES and packed.num_videos == 12
    found = {
        name: sorted((row.label, row.label_probability) for row in accumulator.readable)
        for name, (_, accumulator) in accumulators.items()
    }
    np.testing.assert_allclose(found["list"], found["shards"], atol=PROBABILITIES)
    assert all(":" in row.path for row in accumulators["shards"][1].readable)


def test_a_shard_that_lost_its_end_is_reported_sample_by_sample(
    checkpoints: Path, shards: Path, tmp_path: Path
) -> None:
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = min(tmp_path.glob("*.tar"))
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    _, _, (accumulator,) = run(checkpoints / "actionclip.pt", read_list(str(tmp_path)))
    figures = accumulator.compute()
    assert figures.num_videos == 12 and figures.num_unreadable > 0
    assert sorted(row.index for row in (*accumulator.readable, *accumulator.unreadable)) == list(range(12))
    assert all(item.reason for item in accumulator.unreadable)


def test_a_subset_of_classes_is_classified_among_itself_alone(checkpoints: Path, video_list: Path) -> None:
    listed = read_list(str(video_list), classes=video_list.parent / "classes.csv")
    subsets = [ClassSubset(name="a", classes=(0, 2)), ClassSubset(name="b", classes=(1, 2))]
    _, _, (other, accumulator) = run(checkpoints / "xclip.pt", listed, subsets=subsets)
    lines = [line for line in video_list.read_text().splitlines() if line[-1] in "12"]
    only, classes = video_list.parent / "only two.txt", video_list.parent / "two classes.csv"
    only.write_text("\n".join(f"{line[:-1]}{int(line[-1]) - 1}" for line in lines))
    classes.write_text("id,name\n" + "\n".join(f"{k},{name}" for k, name in enumerate(CLASSES[1:])))
    _, _, (alone,) = run(checkpoints / "xclip.pt", read_list(str(only), classes=classes))
    assert [(row.path, row.label) for row in accumulator.readable] == [(row.path, row.label) for row in alone.readable]
    np.testing.assert_allclose(
        [row.label_probability for row in accumulator.readable],
        [row.label_probability for row in alone.readable],
        atol=PROBABILITIES,
    )
    assert (len(accumulator.unreadable), len(alone.unreadable), len(other.unreadable)) == (1, 1, 0)


def test_the_demo_worlds_index_is_a_list(tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", count=2, split="heldout", seed=0, size=64)
    listed = read_list(str(tmp_path / "clips" / "index.csv"), classes=[item.label for item in combinations()])
    assert listed.num_videos == 2 and len(listed.class_names) == len(combinations())


def test_lists_without_names_or_with_other_numbers_are_refused(video_list: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="class names"):
        read_list(str(video_list))
    (tmp_path / "few.csv").write_text("id,name\n0,waving\n")
    with pytest.raises(AnnotationError, match="9 labels are not in the class list of 1 classes"):
        read_list(str(video_list), classes=tmp_path / "few.csv")


def test_folders_of_pictures_are_read_and_gaps_are_reported(checkpoints: Path, tmp_path: Path) -> None:
    for folder, count in (("a clip", 6), ("b clip", 6), ("c clip", 2)):
        (tmp_path / folder).mkdir()
        for number in range(1, count + 1):
            make_picture(tmp_path / folder / f"img_{number:05d}.jpg")
    (tmp_path / "list.txt").write_text("a clip 6 0\nb clip 6 1\nc clip 6 2\n")
    listed = read_list(str(tmp_path / "list.txt"), options=ListOptions(kind="frames"), classes=CLASSES)
    _, _, (accumulator,) = run(checkpoints / "actionclip.pt", listed, num_crops=3)
    assert [row.path for row in accumulator.readable] == ["a clip", "b clip"]
    assert [(item.path, item.label) for item in accumulator.unreadable] == [("c clip", 2)]
    assert "img_" in accumulator.unreadable[0].reason and "missing" in accumulator.unreadable[0].reason


def test_of_a_list_with_splits_one_is_chosen_and_all_classes_stay(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.mp4,bowing,train\nb.mp4,waving,val\nc.mp4,jumping,val\n")
    with pytest.raises(AnnotationError, match="has the splits train, val; choose one with --split"):
        read_list(str(tmp_path / "list.csv"))
    chosen = read_list(str(tmp_path / "list.csv"), split="val")
    assert chosen.paths == ("b.mp4", "c.mp4")
    assert chosen.class_names == ("bowing", "jumping", "waving")
    assert [entry.label for entry in chosen.entries] == [2, 1]
    with pytest.raises(AnnotationError, match="has the splits train, val, but --split is 'test'"):
        read_list(str(tmp_path / "list.csv"), split="test")


def test_copies_count_once_in_intervals(checkpoints: Path, video_list: Path, tmp_path: Path) -> None:
    first, other = (video_list.parent / line.rsplit(" ", 1)[0] for line in video_list.read_text().splitlines()[:2])
    for number in range(6):
        shutil.copy(first, tmp_path / f"{number}.mp4")
    shutil.copy(other, tmp_path / "other.mp4")
    (tmp_path / "list.txt").write_text("".join(f"{number}.mp4 0\n" for number in range(6)) + "other.mp4 0\n")
    _, _, (copies,) = run(checkpoints / "actionclip.pt", read_list(str(tmp_path / "list.txt"), classes=CLASSES))
    figures, top1 = copies.compute(), copies.intervals()["top1"]
    assert (figures.num_readable, figures.num_independent, figures.num_copies) == (7, 2, 5)
    assert top1.high - top1.low > 0.5, "two independent videos tell little"


def test_recoded_copies_count_once_where_pictures_are_compared(shards: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scenes = [cv2.resize(random.integers(0, 256, (6, 8, 3), dtype=np.uint8), (96, 72)) for _ in range(2)]
    for name, scene, width, height, codec in (
        ("a.mp4", 0, 96, 72, "libx264"), ("b.mp4", 1, 96, 72, "libx264"), ("again.avi", 0, 64, 48, "mpeg4"),
    ):  # fmt: skip
        frames = (cv2.resize(np.roll(scenes[scene], 2 * i, axis=1), (width, height)) for i in range(12))
        make_video(tmp_path / name, num_frames=12, width=width, height=height, codec=codec, frames=frames)
    (tmp_path / "list.csv").write_text("path,label,group\na.mp4,x,ann\nb.mp4,y,\nagain.avi,x,bob\n")
    listed = read_list(str(tmp_path / "list.csv"))
    joined = group_near_duplicates(listed, workers=1, deadline_seconds=60)
    assert [entry.group for entry in listed.entries] == ["ann", "", "bob"]
    assert joined.entries[0].group == joined.entries[2].group != joined.entries[1].group == ""
    with pytest.raises(EvaluationError, match="shards"):
        group_near_duplicates(read_list(str(shards)), workers=1, deadline_seconds=60)


def test_samples_of_shards_keep_their_groups(checkpoints: Path, entries: list[Entry], tmp_path: Path) -> None:
    """Three takes of a group that their names tell of, a group of two that a list declared, and one of its own."""
    named = []
    for number, entry in enumerate(entries[:3]):
        named.append(Entry(path=tmp_path / f"v_Bow_g01_c{number:02d}.mp4", label=0))
        shutil.copy(entry.path, named[-1].path)
    declared = [Entry(path=entry.path, label=0, group="film 7") for entry in entries[3:5]]
    write_shards([*named, *declared, entries[5]], CLASSES, tmp_path / "set", samples_per_shard=2, seed=1)
    _, _, (packed,) = run(checkpoints / "actionclip.pt", read_list(str(tmp_path / "set")))
    assert (packed.compute().num_readable, packed.compute().num_independent) == (6, 3)


def test_a_part_of_a_list_that_names_none_is_refused(video_list: Path) -> None:
    with pytest.raises(AnnotationError, match="has no splits"):
        read_list(str(video_list), classes=video_list.parent / "classes.csv", split="test")
