"""Any open_clip backbone under ActionCLIP and frame-averaged CLIP: the features are open_clip's own."""

from functools import cache
from typing import Any

import open_clip
import pytest
import torch

from tests.tolerances import FULL_TOWER, assert_close
from training.checkpoints.names import to_open_clip
from training.models.actionclip import ActionClip
from training.models.base import ModelConfigError, VideoTextModel
from training.models.open_clip_towers import architecture_config, open_clip_model_config
from training.models.registry import build_model

pytestmark = pytest.mark.numeric

SMALL_TEXT = {"width": 64, "heads": 2, "layers": 2, "vocab_size": 600}  # the full ones only cost time
CHANGES: dict[str, dict[str, Any]] = {
    "ViT-B-32": {"vision_cfg": {"layers": 2, "width": 128, "head_width": 32}, "text_cfg": SMALL_TEXT},
    "ViT-L-14-336": {"vision_cfg": {"layers": 1, "width": 128, "head_width": 32}, "text_cfg": SMALL_TEXT},
    "PE-Core-B-16": {"text_cfg": SMALL_TEXT},  # rotary positions, attention pooling
    "ViT-B-16-SigLIP2": {"text_cfg": SMALL_TEXT},  # no causal mask, last token, logit bias
}


@cache
def _pair(arch: str) -> tuple[VideoTextModel, torch.nn.Module]:
    """Ours and open_clip's, with the same weights; made once, since drawing 90 million of them takes seconds."""
    torch.manual_seed(5)
    ours = build_model("clip", open_clip_model_config(arch, num_frames=2, changes=CHANGES[arch])).eval()
    whole = architecture_config(arch, CHANGES[arch])
    whole.pop("custom_text", None)
    theirs = open_clip.CustomTextCLIP(**whole).eval()
    weights = {to_open_clip(name): item for name, item in ours.state_dict().items()}
    theirs.load_state_dict(weights, strict=True)
    return ours, theirs


@pytest.mark.parametrize("arch", CHANGES)
@torch.no_grad()
def test_features_are_open_clips(arch: str) -> None:
    ours, theirs = _pair(arch)
    frames = torch.randn(1, 2, 3, ours.image_size, ours.image_size)
    tokens = torch.randint(1, 598, (3, ours.context_length))
    tokens[:, 9], tokens[:, 10:] = 599, 0  # the largest id ends a text of CLIP's kind
    expected = theirs.encode_image(frames.flatten(0, 1)).mean(dim=0, keepdim=True)
    assert_close(ours.encode_video(frames).video_features, expected, terms=FULL_TOWER)
    assert_close(ours.encode_text(tokens), theirs.encode_text(tokens))
    logits = theirs.logit_scale.exp() * torch.nn.functional.normalize(expected, dim=-1)
    logits = logits @ theirs.encode_text(tokens, normalize=True).T
    bias = 0.0 if theirs.logit_bias is None else float(theirs.logit_bias)
    logits = logits + bias
    scale = float(theirs.logit_scale.exp())
    assert_close(ours.head(expected, None, ours.encode_text(tokens)), logits, magnitude=scale + abs(bias))


@torch.no_grad()
def test_causal_towers_take_short_rows_and_others_refuse_them() -> None:
    ours, _ = _pair("ViT-B-32")
    tokens = torch.randint(1, 598, (3, ours.context_length))
    tokens[:, 9], tokens[:, 10:] = 599, 0
    assert_close(ours.encode_text(tokens[:, :10]), ours.encode_text(tokens))
    siglip, _ = _pair("ViT-B-16-SigLIP2")
    with pytest.raises(ValueError, match="exactly 64"):
        siglip.encode_text(torch.ones(1, 10, dtype=torch.int64))


@torch.no_grad()
def test_actionclip_fuses_the_frames_of_any_backbone() -> None:
    plain, theirs = _pair("PE-Core-B-16")
    ours = ActionClip(plain.visual, plain.text, num_frames=2, fusion={"kind": "Transf", "layers": 1, "heads": 2}).eval()
    frames = torch.randn(1, 2, 3, 224, 224)
    features = theirs.encode_image(frames.flatten(0, 1)).unflatten(0, (1, 2))  # [B, T, D]
    assert_close(ours.encode_video(frames).video_features, ours.fuse(features), terms=FULL_TOWER)
    assert (ours.fuse(features) - ours.fuse(features.flip(1))).abs().max() > 1e-3, "the head sees the order of frames"


def test_towers_that_cannot_be_taken_are_refused_by_name() -> None:
    with pytest.raises(ModelConfigError, match="no architecture"):
        architecture_config("ViT-Z-99")
    with pytest.raises(ModelConfigError, match=r"coca_ViT-B-32"):
        build_model("clip", open_clip_model_config("coca_ViT-B-32", num_frames=1))
