"""Training takes clips from every kind of source by name; the demo world is one of them."""

import logging
from itertools import islice
from pathlib import Path

import pytest
import torch

from serve.lists.errors import AnnotationError
from tests.training.conftest import CLASSES
from tests.training.lists import read_rows
from tests.training.test_trainer import DEMO, SMALL
from training import trainer
from training.checkpoints.native_format import load_checkpoint
from training.config import ConfigError, TrainConfig, load_config
from training.data.bad_videos import TooManyBadVideosError
from training.data.clips import datasets as clips_module
from training.data.decoding.pool import num_processors
from training.data.lists.labels import entries_of
from training.data.prepare import FrameOptions, SplitOptions, prepare
from training.data.shards.writing import write_shards
from training.sources.registry import SOURCES, make_source


@pytest.fixture(scope="module")
def data_set(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames, lists, class names and shards of the twelve videos."""
    out = tmp_path_factory.mktemp("set")
    prepare(
        class_folders, out, frame_options=FrameOptions(short_side=40), split_options=SplitOptions(val=0.25), workers=2,
        deadline_seconds=60, retry_failed=False,
    )  # fmt: skip
    rows = ["path,label,split"]
    for part in ("train", "val"):
        entries = entries_of(read_rows("videos", out / f"videos_{part}.txt"), CLASSES)
        write_shards(entries, CLASSES, out / f"shards_{part}", samples_per_shard=3, seed=0)
        rows += [f"{entry.path},{CLASSES[entry.label]},{part}" for entry in entries]
    (out / "list.csv").write_text("\n".join(rows))
    return out


def config(out: Path, *changes: str, steps: int = 2) -> TrainConfig:
    return load_config(DEMO, [*SMALL, f"run.out={out}", f"run.steps={steps}", "run.evaluate_every=2", *changes])


def parts(data_set: Path, class_folders: Path, source: str) -> list[str]:
    paths = {
        "frames": ("frames_train.txt", "frames_val.txt"),
        "videos": ("videos_train.txt", "videos_val.txt"),
        "csv": ("list.csv", "list.csv"),
        "folder": (str(class_folders), str(class_folders)),
        "shards": ("shards_train", "shards_val"),
    }[source]
    changes = [f"data.source={source}", f"data.train={data_set / paths[0]}", f"data.val={data_set / paths[1]}"]
    return [*changes, f"data.classes={data_set / 'classes.csv'}"] if source in ("frames", "videos") else changes


@pytest.mark.parametrize("source", ["frames", "videos", "csv", "folder", "shards"])
@pytest.mark.parametrize("system", ["actionclip", "xclip"])
def test_a_run_trains_and_evaluates_from_every_source(
    source: str, system: str, data_set: Path, class_folders: Path, tmp_path: Path
) -> None:
    changes = parts(data_set, class_folders, source)
    run = config(tmp_path, *changes, f"data.system={system}", "data.templates=['{}', 'a video of {}']")
    checkpoint = load_checkpoint(trainer.train(run))
    assert checkpoint.labels == CLASSES
    assert checkpoint.text.templates == ("{}", "a video of {}")
    assert checkpoint.preprocess.interpolation == {"actionclip": "pillow_bicubic", "xclip": "opencv_bilinear"}[system]
    assert checkpoint.preprocess.short_side == 36
    assert checkpoint.sampling.rule == {"actionclip": "actionclip", "xclip": "centres"}[system]
    (figures,) = checkpoint.provenance["history"]
    assert figures["videos"] == (12 if source == "folder" else 3)
    assert figures["bad_videos"] == figures["bad_training_videos"] == 0
    assert 0 <= figures["top1"] <= figures["top3"] == 1  # of three classes


@pytest.mark.parametrize("source_name", ["videos", "shards"])
def test_a_stopped_run_gets_the_batches_it_would_have_had(
    source_name: str, data_set: Path, class_folders: Path, tmp_path: Path
) -> None:
    changes = [*parts(data_set, class_folders, source_name), "data.system=xclip"]
    run = config(tmp_path, *changes, steps=4)
    source = make_source(run)
    whole = list(islice(source.batches(first_step=0), 4))
    parts_ = [*islice(source.batches(first_step=0), 2), *islice(source.batches(first_step=2), 2)]
    for (clips, labels), (expected, expected_labels) in zip(parts_, whole, strict=True):
        assert torch.equal(clips, expected)
        assert torch.equal(labels, expected_labels)


def test_too_many_bad_videos_stop_training_with_their_names(data_set: Path, tmp_path: Path) -> None:
    lines = (data_set / "videos_train.txt").read_text().splitlines()
    (data_set / "mixed.txt").write_text("\n".join([*lines, *(f"gone {i}.mp4 0" for i in range(4))]))
    changes = ["data.source=videos", f"data.train={data_set / 'mixed.txt'}", f"data.classes={data_set / 'classes.csv'}"]
    run = config(tmp_path, *changes, "data.max_bad_share=0.1", steps=20)
    with pytest.raises(TooManyBadVideosError, match=r"2 of 13 videos .*gone"):
        trainer.train(run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.source=nosuch"], "data.source must be one of demo, order, frames"),
        (["data.source=videos"], "data.train"),
        (["data.train=list.txt"], "data.train: the demo source"),
        (["data.system=nosuch"], "data.system must be one of plain"),
        (["data.jitter=never"], "data.jitter"),
        (["data.system=xclip", "data.randaugment=[2, 9]"], "data.randaugment"),
        (["data.templates=['no place']"], "data.templates"),
        (["data.max_bad_share=1.5"], "data.max_bad_share"),
        (["data.mean=[0.5]"], "data.mean"),
        (["data.nosuch=1"], "unknown key nosuch"),
    ],
)
def test_a_wrong_source_is_named(changes: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        trainer.train(config(tmp_path, *changes))


def test_a_list_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nosuch\.txt"):
        make_source(config(tmp_path, "data.source=videos", "data.train=nosuch.txt"))


@pytest.mark.parametrize("available", [1, 2])
@pytest.mark.parametrize("source", ["demo", "videos", "shards"])
def test_no_more_loading_processes_than_processors_are_used(
    source: str, available: int, data_set: Path, class_folders: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """torch warns of more, and a warning is an error here."""
    monkeypatch.setattr(clips_module, "num_processors", lambda: min(available, num_processors()))
    changes = [] if source == "demo" else parts(data_set, class_folders, source)
    with caplog.at_level(logging.INFO):
        next(make_source(config(tmp_path, *changes, "data.workers=5")).batches(first_step=0))
    assert f"5 loading processes were requested, {min(available, num_processors())} are used" in caplog.text


def test_the_trainer_knows_no_source_by_name() -> None:
    text = Path(trainer.__file__).read_text(encoding="utf-8")
    assert "training.demo" not in text
    published = {"ucf101", "hmdb51", "kinetics", "ssv2", "ntu"}
    assert set(SOURCES) == {"demo", "order", "frames", "videos", "csv", "folder", "feedback", "shards"} | published
