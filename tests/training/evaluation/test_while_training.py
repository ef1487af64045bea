"""What a run reports while it trains is what `evaluate` reports of its checkpoint."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from serve.contract import Family
from tests.models import FRAMES, SIZE, tiny_checkpoint
from tests.training.conftest import CLASSES
from training.checkpoints.native_format import Checkpoint
from training.config import DataConfig, LossConfig, ModelConfig, RunConfig, TrainConfig
from training.data.clips.rules import make_preprocess_contract, make_sampling_contract
from training.data.lists.rows import Entry
from training.data.prompts import tokenizer_of
from training.data.shards.writing import write_shards
from training.evaluation.inference import LoaderOptions, evaluate_list
from training.evaluation.protocol import make_protocol
from training.evaluation.videos import read_list
from training.prompting import make_scoring_contract, make_text_contract
from training.sources.labelled import LabelledSource

CASES: dict[str, tuple[Family, str, dict[str, Any], str, float]] = {
    "sigmoid with a bias": ("clip", "plain", {"logit_bias": -3.0, "logit_scale": 3.0}, "sigmoid", 0.0),
    "sigmoid, another scale": ("clip", "plain", {"logit_bias": -1.0}, "sigmoid", 30.0),
    "softmax": ("clip", "plain", {}, "phrases", 0.0),
    "softmax with a bias": ("clip", "plain", {"logit_bias": -1.0}, "phrases", 30.0),
    "actionclip": ("actionclip", "actionclip", {"fusion": {"kind": "Transf"}}, "pairs", 100.0),
    "xclip": ("xclip", "xclip", {}, "phrases", 0.0),
    "xclip, another scale": ("xclip", "xclip", {}, "phrases", 100.0),
}


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_figures_of_training_are_those_of_evaluate(case: str, video_list: Path) -> None:
    """Calibration error above all: it depends on the function, the scale and the bias of the contract."""
    family, system, parts, kind, scale = CASES[case]
    small = tiny_checkpoint(family, **parts)
    data = DataConfig(
        source="videos",
        train=str(video_list),
        val=str(video_list),
        classes=str(video_list.parent / "classes.csv"),
        system=system,
        image_size=SIZE,
        num_frames=FRAMES,
        templates=("a video of {}", "{}", "somebody is {}"),
        max_bad_share=0.5,
        workers=0,
    )
    config = TrainConfig(
        model=ModelConfig(family=family, model=small.model_config),
        data=data,
        loss=LossConfig(kind=kind, evaluation_scale=scale),
        run=RunConfig(out="unused", steps=1),
    )
    model = small.build()
    while_training = LabelledSource(config).measure(model).metrics
    checkpoint = Checkpoint(
        family=family,
        model_config=small.model_config,
        weights=small.weights,
        sampling=make_sampling_contract(data),
        preprocess=make_preprocess_contract(data),
        text=make_text_contract(config),
        scoring=make_scoring_contract(config, model),
    )
    assert checkpoint.scoring.activation == ("sigmoid" if kind == "sigmoid" else "softmax")
    protocol = make_protocol(checkpoint)
    (accumulator,) = evaluate_list(
        checkpoint.build(),
        protocol,
        read_list(str(video_list), classes=video_list.parent / "classes.csv"),
        tokenizer=tokenizer_of(protocol.text, None, key="--tokenizer"),
        loader_options=LoaderOptions(workers=0, batch_size=5),
    )
    figures = accumulator.compute()
    assert while_training["videos"] == figures.num_readable
    assert figures.top5_k == 3, "the key says the k that was computed"
    assert (while_training["independent"], while_training["copies"]) == (figures.num_independent, figures.num_copies)
    intervals = accumulator.intervals()
    keys = {"top1": "top1", "top5": "top3"} | {name: name for name in ("mean_class_accuracy", "calibration_error")}
    for name, key in keys.items():
        assert while_training[key] == pytest.approx(getattr(figures, name), abs=6e-5), name  # rounded to four digits
        if name in intervals:
            assert while_training["intervals"][key] == pytest.approx(list(intervals[name]), abs=6e-5), name
    assert math.isfinite(figures.calibration_error)
    assert torch.isfinite(model.logit_scale)


def evaluated(data: DataConfig) -> dict[str, Any]:
    """Figures of an untrained model on the evaluation part, and its card."""
    small = tiny_checkpoint("clip")
    config = TrainConfig(
        model=ModelConfig(family="clip", model=small.model_config), data=data, run=RunConfig(out="unused", steps=1)
    )
    source = LabelledSource(config)
    figures = dict(source.measure(small.build()).metrics)
    return {**figures, "card": source.card([{"step": 1, **figures}], seconds=60, clips=12)}


@pytest.mark.parametrize("kind", ["videos", "shards", "csv"])
def test_copies_and_pieces_of_one_video_count_once(
    kind: str, class_folders: Path, entries: list[Entry], tmp_path: Path
) -> None:
    """Of twelve videos, one is there three times, and two are pieces of one video by their names."""
    folder = tmp_path / "videos"
    listed = []
    for number, entry in enumerate(entries):
        stem = f"match_part{number}" if number in (4, 5) else f"clip {number}"
        copied = folder / f"{stem}.mp4"
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(entry.path, copied)
        listed.append(replace(entry, path=copied))
    for name in ("again", "and again"):
        shutil.copy(entries[0].path, folder / f"{name}.mp4")
        listed.append(Entry(path=folder / f"{name}.mp4", label=entries[0].label))
    (folder / "list.txt").write_text("\n".join(f"{entry.path.name} {entry.label}" for entry in listed))
    (folder / "classes.csv").write_text("id,name\n" + "\n".join(f"{k},{name}" for k, name in enumerate(CLASSES)))
    groups = {7: "camera 2", 8: "camera 2"}  # declared, in the table alone
    rows = [f"{entry.path.name},{CLASSES[entry.label]},{groups.get(n, '')}" for n, entry in enumerate(listed)]
    (folder / "list.csv").write_text("\n".join(["path,label,group", *rows]))
    write_shards(listed, CLASSES, tmp_path / "shards", samples_per_shard=5, seed=0)
    lists = {"videos": folder / "list.txt", "csv": folder / "list.csv", "shards": tmp_path / "shards"}
    data = DataConfig(
        source=kind,
        train=str(lists[kind]),
        val=str(lists[kind]),
        classes=str(folder / "classes.csv") if kind == "videos" else "",
        image_size=SIZE,
        num_frames=FRAMES,
        workers=0,
    )
    found = evaluated(data)
    independent = 10 if kind == "csv" else 11
    assert (found["videos"], found["independent"], found["copies"]) == (14, independent, 2)
    low, high = found["intervals"]["top1"]
    assert low <= found["top1"] <= high
    assert f"14 videos of the evaluation list, {independent} of them independent: top-1" in found["card"]
    assert f"({low:.3f} to {high:.3f})" in found["card"]


def test_a_run_of_an_earlier_version_has_no_intervals_for_its_card(class_folders: Path) -> None:
    data = DataConfig(source="folder", train=str(class_folders), image_size=SIZE, num_frames=FRAMES, workers=0)
    small = tiny_checkpoint("clip")
    source = LabelledSource(
        TrainConfig(
            model=ModelConfig(family="clip", model=small.model_config), data=data, run=RunConfig(out="unused", steps=2)
        )
    )
    card = source.card([{"step": 1, "videos": 12, "top1": 0.5}], seconds=60, clips=12)
    assert card == "Trained on 12 labelled videos of 3 classes (12 clips, 1 minutes).\n"
