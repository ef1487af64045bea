"""The published recipes, compared with what their authors' code does."""

import math

import numpy as np
import pytest
import torch

from serve.contract import Family, PreprocessContract, ScoringContract
from training.config import DataConfig
from training.data.clips.rules import make_preprocess_contract, make_sampling_contract, normalise_clips
from training.recipes import ACTIONCLIP, FAMILIES, PLAIN, XCLIP, family_contracts

ACTIONCLIP_PROMPTS = (
    "a photo of action {}", "a picture of action {}", "Human action of {}", "{}, an action", "{} this is an action",
    "{}, a video of action", "Playing action of {}", "{}", "Playing a kind of action, {}",
    "Doing a kind of action, {}", "Look, the human is {}", "Can you recognize the action of {}?",
    "Video classification of {}", "A video of {}", "The man is {}", "The woman is {}",
)  # fmt: skip
CLIP_PIXELS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
IMAGENET_PIXELS = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}  # of 255


def test_actionclip_s_recipe() -> None:
    found = family_contracts("actionclip", num_frames=8, image_size=224, context_length=77, logit_scale=3.0)
    assert (found.sampling.rule, found.sampling.num_segments) == ("actionclip", 8)
    assert found.preprocess == PreprocessContract(
        image_size=224, resize="shortest_side", short_side=256, interpolation="pillow_bicubic",
        size_rounding="truncate", crop_rounding="half_even", **CLIP_PIXELS,  # type: ignore[arg-type]
    )  # fmt: skip
    assert found.text.templates == ACTIONCLIP_PROMPTS
    assert found.scoring == ScoringContract(
        logit_scale=100.0, ensembling="mean_probability", view_rule="mean_probability"
    )  # whatever the learned scale is
    assert ACTIONCLIP.short_side(336) == 384


def test_xclip_s_recipe() -> None:
    found = family_contracts("xclip", num_frames=16, image_size=336, context_length=77, logit_scale=4.6)
    assert (found.sampling.rule, found.sampling.num_segments) == ("centres", 16)
    rule = found.preprocess
    assert (rule.image_size, rule.resize, rule.short_side) == (336, "shortest_side", 384)
    assert (rule.interpolation, rule.size_rounding, rule.crop_rounding) == ("opencv_bilinear", "half_up", "floor")
    for ours, theirs in ((rule.mean, IMAGENET_PIXELS["mean"]), (rule.std, IMAGENET_PIXELS["std"])):
        assert (np.array(ours, np.float32) == np.array([value / 255 for value in theirs], np.float32)).all()
    assert found.text.templates == ("{}",)
    assert found.scoring.logit_scale == math.exp(4.6)
    assert (found.scoring.ensembling, found.scoring.view_rule) == ("mean_probability", "mean_probability")
    assert all(XCLIP.short_side(size) == int(256 / 224 * size) for size in range(16, 513))


def test_clip_s_recipe() -> None:
    found = family_contracts("clip", num_frames=8, image_size=224, context_length=77, logit_scale=4.6)
    rule = found.preprocess
    assert (rule.short_side, rule.interpolation, rule.crop_rounding) == (224, "pillow_bicubic", "half_even")
    assert (rule.mean, rule.std) == (CLIP_PIXELS["mean"], CLIP_PIXELS["std"])
    assert (found.scoring.ensembling, found.scoring.view_rule) == ("mean_embedding", "mean_logit")


@pytest.mark.parametrize(("system", "recipe"), [("actionclip", ACTIONCLIP), ("xclip", XCLIP), ("plain", PLAIN)])
def test_training_tests_by_the_recipe_it_is_imported_with(system: str, recipe: object) -> None:
    """A model that is trained and one whose published file is read get the same contracts, to the last bit."""
    data = DataConfig(system=system, image_size=224, num_frames=8)
    assert make_preprocess_contract(data) == recipe.preprocess(224)  # type: ignore[attr-defined]
    assert make_sampling_contract(data).rule == recipe.sampling  # type: ignore[attr-defined]
    changed = make_preprocess_contract(
        DataConfig(system=system, image_size=224, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    )
    assert (changed.mean, changed.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    if system in FAMILIES:
        family: Family = system  # type: ignore[assignment]
        asked = family_contracts(family, num_frames=8, image_size=224, context_length=77, logit_scale=0.0)
        assert asked.preprocess == make_preprocess_contract(data)


def test_normalised_pixels_are_those_of_the_original() -> None:
    """(x - mean) / std on 0..255 values in float32, as X-CLIP's pipeline computes it.

    The mean of 0..1 times 255 rounds once more: 124 * 2**-24 / 57 = 1.3e-7, and each of the results' two roundings is
    2.7 * 2**-24 = 1.6e-7 on either side.
    """
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (torch.tensor(IMAGENET_PIXELS[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    expected = (pixels.float() - mean) / std
    torch.testing.assert_close(normalise_clips(pixels, XCLIP.preprocess(16)), expected, atol=1e-6, rtol=0)
