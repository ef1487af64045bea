"""What a run reports while it trains is what `evaluate` reports of its checkpoint."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from serve.contract import Family
from tests.models import FRAMES, SIZE, tiny_checkpoint
from training.checkpoints.native_format import Checkpoint
from training.config import DataConfig, LossConfig, ModelConfig, RunConfig, TrainConfig
from training.data.clips.rules import make_preprocess_contract, make_sampling_contract
from training.data.prompts import tokenizer_of
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
    keys = {"top1": "top1", "top5": "top3"} | {name: name for name in ("mean_class_accuracy", "calibration_error")}
    for name, key in keys.items():
        assert while_training[key] == pytest.approx(getattr(figures, name), abs=6e-5), name  # rounded to four digits
    assert math.isfinite(figures.calibration_error)
    assert torch.isfinite(model.logit_scale)
