"""Weights are found wherever a trainer nests them, under whatever its wrappers prefix their names with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.checkpoints.conftest import Weights, clip_weights
from training.checkpoints.layouts import strip_wrappers
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.reading import detect_format, read_checkpoint

Saved = Callable[..., Path]
ASKED = {"activation": "gelu"}


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: item for name, item in weights.items()}


LAYOUTS: dict[str, Callable[[Weights], Any]] = {
    "bare": lambda w: w,
    "torch.compile": lambda w: prefixed(w, "_orig_mod."),
    "compiled DDP": lambda w: prefixed(w, "module._orig_mod."),
    "DDP compiled": lambda w: prefixed(w, "_orig_mod.module."),
    "compiled tower": lambda w: {name.replace("visual.", "visual._orig_mod."): item for name, item in w.items()},
    "FSDP": lambda w: {
        f"_fsdp_wrapped_module.{name.replace('ln_1', '_checkpoint_wrapped_module.ln_1')}": item
        for name, item in w.items()
    },
    "open_clip trainer": lambda w: {"epoch": 3, "name": "run", "state_dict": prefixed(w, "module."), "optimizer": {}},
    "lightning": lambda w: {"epoch": 1, "state_dict": prefixed(w, "model."), "hyper_parameters": {"lr": 1.0}},
    "clip attribute": lambda w: {"state_dict": prefixed(w, "clip.")},
    "model": lambda w: {"model": w, "epoch": 1},
    "module": lambda w: {"module": w, "ds_version": "0.1"},
    "model_state_dict": lambda w: {"model_state_dict": prefixed(w, "module."), "optimizer_state_dict": {"state": {}}},
    "nested": lambda w: {"model": {"state_dict": {"module": prefixed(w, "module.")}}},
    "averaged model": lambda w: {"n_averaged": torch.tensor(7), **prefixed(w, "module.")},
    "only ema": lambda w: {"ema": {"decay": 0.999, "module": w}},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=list(LAYOUTS))
def test_layouts_of_trainers_are_read(saved: Saved, weights: Weights, layout: str) -> None:
    path = saved(LAYOUTS[layout](weights))
    assert detect_format(path) == "clip"
    read = read_checkpoint(path, overrides=ASKED)
    assert torch.equal(read.weights["visual.proj"], weights["visual.proj"])
    assert torch.equal(read.weights["text.ln_final.weight"], weights["ln_final.weight"])


@pytest.mark.parametrize(
    ("raw", "average"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema"), ("module", "ema_state_dict")],
)
def test_an_average_wins_over_raw_weights_and_that_is_said(
    saved: Saved, weights: Weights, raw: str, average: str
) -> None:
    other = clip_weights(seed=1)
    path = saved({raw: weights, average: prefixed(other, "module."), "epoch": 2})
    read = read_checkpoint(path, overrides=ASKED)
    assert torch.equal(read.weights["visual.proj"], other["visual.proj"])
    assert (read.provenance["weights_key"], read.provenance["other_weights"]) == (average, [raw])
    asked = read_checkpoint(path, overrides={**ASKED, "weights_key": raw})
    assert torch.equal(asked.weights["visual.proj"], weights["visual.proj"])
    assert (asked.provenance["weights_key"], asked.provenance["other_weights"]) == (raw, [average])
    with pytest.raises(CheckpointError, match=f"'nothing' contains no weights.*{average}, {raw}"):
        read_checkpoint(path, overrides={**ASKED, "weights_key": "nothing"})


def test_names_that_meet_without_their_prefixes_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"become equal.*visual\.proj"):
        strip_wrappers({"visual.proj": 1, "visual._orig_mod.proj": 2})


def test_other_weights_in_a_file_are_no_clip(saved: Saved) -> None:
    path = saved({"model": {"fc.weight": torch.zeros(2, 2)}, "ema": {"fc.weight": torch.zeros(2, 2)}})
    with pytest.raises(CheckpointError, match="format of the checkpoint is unknown; it contains ema, model"):
        read_checkpoint(path)
