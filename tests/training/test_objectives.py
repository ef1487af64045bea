"""Losses in micro-batches are those of the whole batch, gradients too; each kind is what its paper says."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.models import FRAMES, SIZE, tiny_checkpoint, tiny_xclip
from tests.tolerances import GRADIENT, assert_close, tolerance
from training.losses import actionclip_kl
from training.models.base import VideoTextModel
from training.models.freezing import checkpoint_activations_, freeze_
from training.objectives import OBJECTIVES, Encoder, StepBatch, backward

pytestmark = pytest.mark.numeric

LOSS = tolerance(100.0)  # moves by no more than its logits, at the largest scale a model has
FUSION = {"kind": "Transf_cls", "layers": 1, "heads": 2, "dropout": 0.3}


def model_of(kind: str) -> VideoTextModel:
    checkpoint = tiny_checkpoint("actionclip", fusion=FUSION) if kind == "pairs" else tiny_xclip()
    return checkpoint.build().train()


def batch_of(kind: str, *, size: int = 6) -> StepBatch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size) % 3
    tokens = torch.randint(1, 1000, (size if kind == "pairs" else 3, 9), generator=generator)
    targets = labels if kind == "pairs" else functional.one_hot(labels, 3).float()
    frames = torch.rand(size, FRAMES, 3, SIZE, SIZE, generator=generator)
    return StepBatch(frames=frames, tokens=tokens, targets={"label": targets}, phrases={"label": slice(0, 3)})


def gradients(kind: str, model: VideoTextModel, *, micro_batch: int) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    losses = backward(Encoder(model), batch_of(kind), OBJECTIVES[kind], weights={"label": 1.0}, micro_batch=micro_batch)
    found = {name: item.grad.clone() for name, item in model.named_parameters() if item.grad is not None}
    return float(losses["label"]), found


@pytest.mark.parametrize("kind", ["phrases", "sigmoid", "pairs"])
@pytest.mark.parametrize("micro_batch", [2, 3])
def test_micro_batches_add_up_to_the_batch(kind: str, micro_batch: int) -> None:
    model = model_of(kind)
    if kind == "pairs":
        model.eval()  # dropout would draw otherwise for parts than for the whole
    loss, whole = gradients(kind, model, micro_batch=0)
    again, parts = gradients(kind, model, micro_batch=micro_batch)
    assert again == pytest.approx(loss, abs=LOSS)
    assert parts.keys() == whole.keys()
    largest = max(float(value.abs().max()) for value in whole.values())
    for name, value in whole.items():
        assert_close(parts[name], value, magnitude=largest, terms=GRADIENT)


def test_both_passes_over_a_part_drop_the_same() -> None:
    model = model_of("pairs")
    torch.manual_seed(5)
    loss, first = gradients("pairs", model, micro_batch=2)
    torch.manual_seed(5)
    again, second = gradients("pairs", model, micro_batch=2)
    assert again == loss
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    after = torch.rand(1)
    torch.manual_seed(5)
    gradients("pairs", model, micro_batch=2)
    assert torch.equal(torch.rand(1), after), "the stream goes on after the parts"
    torch.manual_seed(6)
    assert gradients("pairs", model, micro_batch=2)[0] != loss, "there is dropout here"


def test_pairs_is_actionclips_loss_of_unit_features() -> None:
    model, batch = model_of("pairs").eval(), batch_of("pairs")
    loss, _ = gradients("pairs", model, micro_batch=0)
    with torch.no_grad():
        video = functional.normalize(model.encode_video(batch.frames).video_features, dim=-1)
        text = functional.normalize(model.encode_text(batch.tokens), dim=-1)
        expected = actionclip_kl(model.logit_scale.exp() * video @ text.T, batch.targets["label"])
    assert loss == pytest.approx(float(expected), abs=LOSS)


def test_texts_of_a_frozen_tower_are_encoded_once() -> None:
    model, batch = model_of("phrases"), batch_of("phrases")
    expected, _ = gradients("phrases", model, micro_batch=0)
    freeze_(model, ["text.*", "logit_scale"])
    encoder, seen = Encoder(model), []
    model.text.register_forward_hook(lambda *given: seen.append(len(given[1][0])))
    for _ in range(3):
        losses = backward(encoder, batch, OBJECTIVES["phrases"], weights={"label": 1.0}, micro_batch=2)
        assert float(losses["label"]) == pytest.approx(expected, abs=LOSS)
    assert seen == [3]


@pytest.mark.parametrize("kind", ["phrases", "pairs"])
def test_blocks_that_are_run_again_change_nothing(kind: str) -> None:
    model = model_of(kind)
    torch.manual_seed(1)
    loss, kept = gradients(kind, model, micro_batch=0)
    checkpoint_activations_(model)
    torch.manual_seed(1)
    again, computed = gradients(kind, model, micro_batch=0)
    assert again == pytest.approx(loss, abs=LOSS)
    largest = max(float(value.abs().max()) for value in kept.values())
    for name, value in kept.items():
        assert_close(computed[name], value, magnitude=largest, terms=GRADIENT)
