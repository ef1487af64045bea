"""Options no golden array covers: joint attention, drop rates, how fresh parts start."""

from dataclasses import replace

import pytest
import torch

from tests.models import FRAMES, VISION, tiny_actionclip, tiny_xclip
from tests.tolerances import assert_close
from training.models.base import ModelConfigError
from training.models.registry import build_model

pytestmark = pytest.mark.numeric

JOINT = {**VISION, "temporal": "joint"}


@torch.no_grad()
def test_joint_attention_of_one_frame_is_plain_attention() -> None:
    """With T = 1 and no time embedding the sequence is CLIP's own."""
    joint = tiny_actionclip("meanP", vision=JOINT, num_frames=1).build()
    plain = tiny_actionclip("meanP", num_frames=1)
    weights = {k: v for k, v in joint.state_dict().items() if k != "visual.time_embedding"}
    joint.visual.time_embedding.zero_()
    frames = torch.randn(2, 1, 3, 32, 32)
    expected = replace(plain, weights=weights).build().encode_video(frames).video_features
    assert_close(joint.encode_video(frames).video_features, expected)


@torch.no_grad()
def test_joint_attention_sees_every_frame_and_their_order() -> None:
    model = tiny_actionclip("meanP", vision=JOINT).build()
    frames = torch.randn(2, FRAMES, 3, 32, 32)
    features = model.encode_video(frames).video_features
    assert features.shape == (2, model.embed_dim)
    assert not model.is_frame_wise
    for changed in (frames.flip(1), torch.cat((frames[:, :-1], frames[:, :1]), dim=1)):
        assert (model.encode_video(changed).video_features - features).abs().max() > 1e-3
    alone = model.encode_video(frames[:1]).video_features
    assert_close(alone, features[:1])  # videos do not see each other


def test_joint_attention_takes_no_head_over_frames() -> None:
    with pytest.raises(ModelConfigError, match="meanP"):
        build_model("actionclip", tiny_actionclip("meanP").model_config | {"vision": JOINT, "fusion": {"kind": "LSTM"}})


def test_drop_rates_act_in_training_alone() -> None:
    model = tiny_actionclip("meanP", vision={**VISION, "drop_out": 0.5, "emb_dropout": 0.2}).build()
    frames = torch.randn(2, FRAMES, 3, 32, 32)
    still = [model.encode_video(frames).video_features for _ in range(2)]
    assert_close(*still)
    model.train()
    moved = [model.encode_video(frames).video_features for _ in range(2)]
    assert (moved[0] - moved[1]).abs().max() > 1e-3
    assert [block.drop.rate for block in model.visual.transformer.resblocks] == [0.0, 0.5]


def test_fresh_x_clip_parts_start_as_published() -> None:
    torch.manual_seed(0)
    model = build_model("xclip", tiny_xclip().model_config)
    assert model.prompts_generator.alpha.detach().unique().tolist() == [pytest.approx(0.1)]
    assert model.mit.positional_embedding.abs().max() < 0.1
    assert float(model.prompts_visual_proj.detach().std()) == pytest.approx(1, abs=0.1)
    for block in model.visual.transformer.resblocks:
        assert block.message_fc.weight.abs().max() > 0, "there is no gate that starts closed"


def test_fresh_conv_heads_shift_quarters_of_the_channels() -> None:
    torch.manual_seed(0)
    taps = build_model("actionclip", tiny_actionclip("Conv_1D").model_config).fusion.shift.weight[:, 0]  # [D, 3]
    assert taps[:8].unique(dim=0).tolist() == [[1, 0, 0]]
    assert taps[8:24].unique(dim=0).tolist() == [[0, 1, 0]]
    assert taps[24:].unique(dim=0).tolist() == [[0, 0, 1]]
