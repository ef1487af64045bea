"""Build a model from its family and a configuration of plain values, as stored in checkpoints and YAML files.

num_frames: 8
vision: {kind: clip, image_size: 224, patch_size: 16, width: 768, layers: 12, heads: 12, embed_dim: 512}
text: {kind: clip, context_length: 77, vocab_size: 49408, width: 512, layers: 12, heads: 8, embed_dim: 512}
logit_scale: 2.659          # optional: initial value, a logarithm
logit_bias: -10.0           # optional; default: no bias
fusion: {kind: Transf}      # only actionclip; see `training.models.fusion`
mit: {layers: 1, heads: 8}  # only xclip; see `training.models.xclip`
prompts: {layers: 2, heads: 8}  # only xclip; null: no prompt generator
normalize_frames: false     # only clip
"""

from collections.abc import Mapping
from typing import Any

from training.models.actionclip import ActionClip
from training.models.base import ModelConfigError, VideoTextModel
from training.models.frame_average import FrameAverageClip
from training.models.towers import build_towers, build_xclip_towers, construct
from training.models.xclip import XClip

MODEL_CLASSES: Mapping[str, type[VideoTextModel]] = {
    "clip": FrameAverageClip,
    "actionclip": ActionClip,
    "xclip": XClip,
}


def build_model(family: str, model_config: Mapping[str, Any]) -> VideoTextModel:
    """Build a model with random weights.

    Raises:
        ModelConfigError: the family or a field is unknown, a field is missing, or fields contradict each other.
    """
    if family not in MODEL_CLASSES:
        raise ModelConfigError(f"family: must be one of {', '.join(MODEL_CLASSES)}, got {family!r}")
    config = dict(model_config)
    missing = [name for name in ("vision", "text", "num_frames") if name not in config]
    if missing:
        raise ModelConfigError(f"model: the fields {missing} are missing")
    vision, text = config.pop("vision"), config.pop("text")
    visual, text_tower = (build_xclip_towers if family == "xclip" else build_towers)(
        vision, text, num_frames=config["num_frames"]
    )
    return construct(MODEL_CLASSES[family], {"visual": visual, "text": text_tower, **config}, "model")
