"""The order world: each pair shows the same poses in the opposite order, and a run on it measures just that."""

from pathlib import Path

import numpy as np
import pytest

from training.checkpoints.native_format import load_checkpoint
from training.config import load_config
from training.demo import temporal_order
from training.demo.actions import ORDERED, PAIRS
from training.demo.captions import opposite
from training.trainer import train

CONFIGS = Path(__file__).resolve().parents[3] / "training" / "configs" / "order"
SMALL = [
    "data.num_frames=2", "model.model.num_frames=2",
    "run.batch_size=4", "run.steps=2", "run.threads=1", "model.start=''",
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_a_pair_is_one_action_run_both_ways(pair: tuple[str, str]) -> None:
    first, second = (ORDERED[name] for name in pair)
    times = np.linspace(0, 1, 9)
    forward = [first(u, 1.7 * u) for u in times]
    backward = [second(u, -1.7 * (1 - u)) for u in times]
    assert forward == backward[::-1]
    assert forward[1:-1] != forward[1:-1][::-1], "the order is to be seen"


def test_held_out_combinations_are_never_trained_and_every_label_has_its_partner() -> None:
    held = temporal_order.held_out_combinations()
    assert {item.action for item in held} == {action for pair in PAIRS for action in pair}
    for item in temporal_order.ordered_combinations():
        other = opposite(item)
        assert other.colour == item.colour and opposite(other) == item != other
        assert (item in held) == (other in held), "the opposite order is held out too, or it would tell"


@pytest.mark.parametrize("name", ["start", "mean", "transf", "conv_1d", "lstm", "shift", "xclip"])
def test_every_variant_trains_on_clips_rendered_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_order, "NUM_TRAIN_FRAMES", 12)
    monkeypatch.setattr(temporal_order, "CLIPS_PER_GROUP", 4)
    shifted = ["model.model.vision.num_frames=2"] if name == "shift" else []
    changes = [*SMALL, *shifted, f"run.out={tmp_path / name}"]
    saved = load_checkpoint(train(load_config(CONFIGS / f"{name}.yaml", changes)))
    assert saved.labels == tuple(item.label for item in temporal_order.ordered_combinations())
    (figures,) = saved.provenance["history"]
    assert figures["videos"] == 8
    assert 0 <= figures["in_order"] <= 1
    kept = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert kept == ["order-2x80-test.npz", "order-2x80-train.npz"]
    with np.load(tmp_path / kept[1]) as found:
        assert found["clips"].shape == (6, 2, 3, 80, 80)
