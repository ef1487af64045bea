"""Attention whose projections were separated gives the numbers it gave before."""

import copy

import pytest
import torch
from timm.layers import RotaryEmbeddingCat
from timm.layers.attention import Attention, AttentionRope
from torch import Tensor, nn

from export.attention import SeparateAttention, separate_projections_
from tests.models import FAMILIES
from tests.tolerances import assert_close
from training.models.clip import SelfAttention

pytestmark = pytest.mark.numeric

WIDTH, HEADS, LENGTH = 24, 3, 13  # heads of 8 channels; one token still, 12 that turn


def randomized(module: nn.Module) -> nn.Module:
    """Biases of a fresh model are zero and hide what is done to them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3)
    return module.eval()


@torch.no_grad()
def require_same(module: nn.Module, *inputs: Tensor, replaced: int, **named: object) -> None:
    other = nn.ModuleDict({"it": copy.deepcopy(module)})
    assert separate_projections_(other) == replaced
    assert sum(isinstance(part, SeparateAttention) for part in other.modules()) == replaced
    expected, found = module(*inputs, **named), other["it"](*inputs, **named)
    assert_close(found, expected)


@pytest.mark.parametrize("is_causal", [False, True])
def test_ours(is_causal: bool) -> None:
    attention = randomized(SelfAttention(WIDTH, HEADS))
    require_same(attention, torch.randn(2, LENGTH, WIDTH), replaced=1, is_causal=is_causal)


@pytest.mark.parametrize("bias", [False, True])
def test_of_timm(bias: bool) -> None:
    attention = randomized(Attention(WIDTH, HEADS, qkv_bias=bias))
    require_same(attention, torch.randn(2, LENGTH, WIDTH), replaced=1)
    require_same(attention, torch.randn(2, LENGTH, WIDTH), replaced=1, attn_mask=torch.randn(LENGTH, LENGTH))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rotate_half", [False, True])
@pytest.mark.parametrize("num_still", [0, 1])
def test_of_timm_with_rotary_positions(bias: bool, rotate_half: bool, num_still: int) -> None:
    attention = randomized(
        AttentionRope(WIDTH, HEADS, qkv_bias=bias, rotate_half=rotate_half, num_prefix_tokens=num_still)
    )
    rope = RotaryEmbeddingCat(WIDTH // HEADS, in_pixels=False, feat_shape=[3, 4], rotate_half=rotate_half).get_embed()
    tokens = torch.randn(2, 12 + num_still, WIDTH)
    require_same(attention, tokens, replaced=1, rope=rope)
    require_same(attention, tokens, replaced=1)
    with torch.no_grad():
        assert not torch.allclose(attention(tokens), attention(tokens, rope=rope), atol=1e-2), "positions count"


@pytest.mark.parametrize("changes", [{"gated": True}, {"qk_norm": True, "norm_layer": nn.LayerNorm}])
def test_what_has_more_parts_stays(changes: dict[str, object]) -> None:
    for kind in (Attention, AttentionRope):
        require_same(randomized(kind(WIDTH, HEADS, **changes)), torch.randn(2, LENGTH, WIDTH), replaced=0)


@pytest.mark.parametrize(
    ("family", "replaced"), [("clip", 4), ("actionclip", 6), ("xclip", 7), ("rotary", 4), ("siglip", 4)]
)
@torch.no_grad()
def test_of_every_family(family: str, replaced: int) -> None:
    checkpoint = FAMILIES[family]()
    model = checkpoint.build()
    size, length = checkpoint.preprocess.image_size, checkpoint.text.context_length
    frames, tokens = torch.rand(2, checkpoint.sampling.num_segments, 3, size, size), torch.randint(1, 99, (2, length))
    expected = model.encode_video(frames), model.encode_text(tokens)
    assert separate_projections_(model) == replaced
    found = model.encode_video(frames), model.encode_text(tokens)
    assert_close(found[0].video_features, expected[0].video_features)
    assert_close(found[1], expected[1])
