"""The recipes of ActionCLIP, X-CLIP and CLIP: sampling, preprocessing, prompts and scoring of their evaluation.

This module defines every number of ActionCLIP (arXiv:2109.08472), X-CLIP (arXiv:2208.02816) and CLIP (arXiv:2103.00020)
that changes a result; training, import and export use it. `PLAIN` is this project's recipe for small models.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from serve.contract import (
    Activation,
    CropRounding,
    Ensembling,
    Family,
    Interpolation,
    PreprocessContract,
    SamplingContract,
    SamplingRule,
    ScoringContract,
    SizeRounding,
    TextContract,
    ViewRule,
)
from serve.text.prompts import ACTIONCLIP_TEMPLATES, XCLIP_TEMPLATES

Triple = tuple[float, float, float]

CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
# X-CLIP's code has 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375; divided by 255, they equal these in float32
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
VIDEO_TEMPLATES = ("a video of {}",)
SHORT_SIDE_RATIO = 256, 224  # the shorter side becomes S * 256 // 224, so that the centre crop leaves a margin


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sampling, preprocessing, prompts and scoring of a system."""

    sampling: SamplingRule
    has_margin: bool  # frames are resized by `SHORT_SIDE_RATIO`, so that the shorter side is larger than the crop
    interpolation: Interpolation
    size_rounding: SizeRounding
    crop_rounding: CropRounding
    mean: Triple
    std: Triple
    templates: tuple[str, ...]
    ensembling: Ensembling
    view_rule: ViewRule
    evaluation_scale: float | None = None  # fixed logit scale; None: exp of the learned scale

    def short_side(self, image_size: int) -> int:
        """Return the shorter side in pixels before the centre crop of `image_size`."""
        resized, cropped = SHORT_SIDE_RATIO
        return image_size * resized // cropped if self.has_margin else image_size

    def preprocess(self, image_size: int) -> PreprocessContract:
        """Return the contract for preprocessing a frame to a square with sides of `image_size` pixels."""
        return PreprocessContract(
            image_size=image_size,
            resize="shortest_side",
            short_side=self.short_side(image_size),
            interpolation=self.interpolation,
            size_rounding=self.size_rounding,
            crop_rounding=self.crop_rounding,
            mean=self.mean,
            std=self.std,
        )

    def scoring(
        self, logit_scale: float, *, logit_bias: float = 0.0, activation: Activation = "softmax"
    ) -> ScoringContract:
        """Return the scoring contract; `logit_scale`, in log space, is ignored if the recipe fixes the scale."""
        return ScoringContract(
            logit_scale=math.exp(logit_scale) if self.evaluation_scale is None else self.evaluation_scale,
            logit_bias=logit_bias,
            ensembling=self.ensembling,
            view_rule=self.view_rule,
            activation=activation,
        )


CLIP = Recipe(
    sampling="centres",
    has_margin=False,
    interpolation="pillow_bicubic",
    size_rounding="truncate",
    crop_rounding="half_even",
    mean=CLIP_MEAN,
    std=CLIP_STD,
    templates=VIDEO_TEMPLATES,
    ensembling="mean_embedding",
    view_rule="mean_logit",
)
ACTIONCLIP = replace(
    CLIP,
    sampling="actionclip",
    has_margin=True,
    templates=ACTIONCLIP_TEMPLATES,
    ensembling="mean_probability",
    view_rule="mean_probability",
    evaluation_scale=100.0,  # fixed, independent of the learned scale
)
XCLIP = replace(
    CLIP,
    has_margin=True,
    interpolation="opencv_bilinear",
    size_rounding="half_up",
    crop_rounding="floor",
    mean=IMAGENET_MEAN,  # although the weights are CLIP's
    std=IMAGENET_STD,
    templates=XCLIP_TEMPLATES,
    ensembling="mean_probability",
    view_rule="mean_probability",
)
PLAIN = replace(CLIP, sampling="actionclip", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

FAMILIES: Mapping[Family, Recipe] = {"clip": CLIP, "actionclip": ACTIONCLIP, "xclip": XCLIP}


@dataclass(frozen=True, kw_only=True)
class ModelContracts:
    """The four contracts of a model."""

    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract


def family_contracts(
    family: Family, *, num_frames: int, image_size: int, context_length: int, logit_scale: float
) -> ModelContracts:
    """Return the contracts of a model of a family with CLIP's towers; `logit_scale` is in log space."""
    recipe = FAMILIES[family]
    return ModelContracts(
        sampling=SamplingContract(rule=recipe.sampling, num_segments=num_frames),
        preprocess=recipe.preprocess(image_size),
        text=clip_text(context_length, recipe.templates),
        scoring=recipe.scoring(logit_scale),
    )


def clip_contracts(
    *,
    num_frames: int,
    preprocess: PreprocessContract,
    text: TextContract,
    logit_scale: float,
    logit_bias: float | None = None,
    sampling_rule: SamplingRule = CLIP.sampling,
) -> ModelContracts:
    """Return the contracts of frame-averaged CLIP; `logit_scale` is in log space.

    The activation is sigmoid if a `logit_bias` is given, and softmax otherwise.
    """
    return ModelContracts(
        sampling=SamplingContract(rule=sampling_rule, num_segments=num_frames),
        preprocess=preprocess,
        text=text,
        scoring=CLIP.scoring(
            logit_scale,
            logit_bias=logit_bias or 0.0,
            activation="softmax" if logit_bias is None else "sigmoid",
        ),
    )


def clip_text(context_length: int, templates: tuple[str, ...]) -> TextContract:
    """Return the text contract for CLIP's tokenizer and a causal text tower."""
    return TextContract(
        tokenizer="clip", context_length=context_length, dynamic_length=True, pad_id=0, templates=templates
    )
