"""How each published system samples, cuts, prompts and scores: the contracts its weights were evaluated with."""

import math
from dataclasses import dataclass
from typing import Any

from serve.contract import Family, PreprocessContract, SamplingContract, ScoringContract, TextContract
from serve.text.prompts import ACTIONCLIP_TEMPLATES
from training.models.actionclip import EVALUATION_SCALE

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VIDEO_TEMPLATES = ("a video of {}",)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The four contracts of a system."""

    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract


def actionclip_protocol(*, num_frames: int, image_size: int, context_length: int) -> Protocol:
    """ActionCLIP: 16 prompts whose probabilities are averaged, cosines times 100 whatever the scale has learned."""
    return Protocol(
        sampling=SamplingContract(rule="actionclip", num_segments=num_frames),
        preprocess=PreprocessContract(
            image_size=image_size,
            resize="shortest_side",
            short_side=image_size * 256 // 224,
            interpolation="pillow_bicubic",
            size_rounding="truncate",
            crop_rounding="half_even",
            mean=CLIP_MEAN,
            std=CLIP_STD,
        ),
        text=clip_text(context_length, ACTIONCLIP_TEMPLATES),
        scoring=ScoringContract(
            logit_scale=EVALUATION_SCALE, ensembling="mean_probability", view_rule="mean_probability"
        ),
    )


def xclip_protocol(*, num_frames: int, image_size: int, context_length: int, logit_scale: float) -> Protocol:
    """X-CLIP: the bare label as prompt, ImageNet's mean on CLIP's weights; `logit_scale` in log space."""
    return Protocol(
        sampling=SamplingContract(rule="centres", num_segments=num_frames),
        preprocess=PreprocessContract(
            image_size=image_size,
            resize="shortest_side",
            short_side=image_size * 256 // 224,
            interpolation="opencv_bilinear",
            size_rounding="half_up",
            crop_rounding="floor",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        text=clip_text(context_length, ("{}",)),
        scoring=ScoringContract(
            logit_scale=math.exp(logit_scale), ensembling="mean_probability", view_rule="mean_probability"
        ),
    )


def clip_protocol(
    *,
    num_frames: int,
    preprocess: PreprocessContract,
    text: TextContract,
    logit_scale: float,
    logit_bias: float | None = None,
    sampling_rule: Any = "centres",
) -> Protocol:
    """Frame-averaged CLIP: one text feature per label averaged over its prompts; `logit_scale` in log space."""
    return Protocol(
        sampling=SamplingContract(rule=sampling_rule, num_segments=num_frames),
        preprocess=preprocess,
        text=text,
        scoring=ScoringContract(
            logit_scale=math.exp(logit_scale),
            logit_bias=logit_bias or 0.0,
            ensembling="mean_embedding",
            view_rule="mean_logit",
            activation="softmax" if logit_bias is None else "sigmoid",
        ),
    )


def clip_preprocess(image_size: int) -> PreprocessContract:
    """What OpenAI's weights see: the shorter side to S itself, then the centre."""
    return PreprocessContract(
        image_size=image_size,
        resize="shortest_side",
        short_side=image_size,
        interpolation="pillow_bicubic",
        size_rounding="truncate",
        crop_rounding="half_even",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def clip_text(context_length: int, templates: tuple[str, ...]) -> TextContract:
    """CLIP's own tokenizer in front of a causal tower."""
    return TextContract(
        tokenizer="clip", context_length=context_length, dynamic_length=True, pad_id=0, templates=templates
    )


def fresh_protocol(
    family: Family, *, num_frames: int, image_size: int, context_length: int, logit_scale: float
) -> Protocol:
    """The protocol of a family on CLIP's towers, for a model that is about to be trained."""
    if family == "actionclip":
        return actionclip_protocol(num_frames=num_frames, image_size=image_size, context_length=context_length)
    if family == "xclip":
        return xclip_protocol(
            num_frames=num_frames, image_size=image_size, context_length=context_length, logit_scale=logit_scale
        )
    return clip_protocol(
        num_frames=num_frames,
        preprocess=clip_preprocess(image_size),
        text=clip_text(context_length, VIDEO_TEMPLATES),
        logit_scale=logit_scale,
    )
