"""Rewrite attention modules into a form that engines run faster, with the same results.

Models store the projections to q, k and v as one matrix. Splitting its output costs engines a copy of each part, and
the rotary positions of PE-Core, which rotate neighbouring channels, cost strided copies. The rewritten modules have one
matrix per projection. With rotary positions, even channels of q and k are moved before odd ones, so that the halves of
a head are rotated instead; the product of q and k does not depend on the order of channels.
"""

from collections.abc import Callable

import torch
from open_clip.transformer import ResidualAttentionBlock
from timm.layers.attention import Attention, AttentionRope
from torch import Tensor, nn
from torch.nn import functional

from training.models.clip import SelfAttention, split_heads


def separate_projections_(model: nn.Module) -> int:
    """Replace self-attention modules of this project, open_clip and timm in place; return their number.

    Modules with additional parts (gates, norms of heads, attention to other tokens) are not changed.
    """
    replacements = [
        (parent, name, replacement)
        for parent in model.modules()
        for name, child in parent.named_children()
        if (replacement := _replacement_class(parent, child)) is not None
    ]
    for parent, name, replacement in replacements:
        setattr(parent, name, replacement(getattr(parent, name)))
    return len(replacements)


class SeparateAttention(nn.Module):
    """Multi-head self-attention of tokens [N, L, W] with one matrix per projection."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, heads: int, projection: nn.Module) -> None:
        """Create the projections; `weight` [3 * W', W] and `bias` [3 * W'] contain q, k and v in this order."""
        super().__init__()
        self.heads, self.projection = heads, projection
        biases = (None, None, None) if bias is None else bias.detach().chunk(3)
        self.query, self.key, self.value = (
            _linear(*part) for part in zip(weight.detach().chunk(3), biases, strict=True)
        )

    def attend(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        is_causal: bool = False,
        rotate: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Transform tokens [N, L, W]; `rotate` is applied to the heads [N, heads, L, D] of q and k."""
        query, key, value = (split_heads(part(tokens), self.heads) for part in (self.query, self.key, self.value))
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
        return self.projection(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class SeparateSelfAttention(SeparateAttention):
    """Replacement for `training.models.clip.SelfAttention`."""

    def __init__(self, packed: SelfAttention) -> None:
        super().__init__(packed.in_proj_weight, packed.in_proj_bias, heads=packed.heads, projection=packed.out_proj)

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        return self.attend(tokens, is_causal=is_causal)


class SeparateTorchAttention(SeparateAttention):
    """Replacement for torch's attention in an open_clip block, where query, key and value are the same tokens."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__(packed.in_proj_weight, packed.in_proj_bias, heads=packed.num_heads, projection=packed.out_proj)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool, attn_mask: Tensor | None
    ) -> tuple[Tensor, None]:
        return self.attend(query, attn_mask), None


class SeparateTimmAttention(SeparateAttention):
    """Replacement for timm's attention."""

    def __init__(self, packed: Attention) -> None:
        super().__init__(packed.qkv.weight, packed.qkv.bias, heads=packed.num_heads, projection=packed.proj)

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        return self.attend(tokens, attn_mask, is_causal=is_causal)


class SeparateRotaryAttention(SeparateAttention):
    """Replacement for timm's attention with rotary positions (arXiv:2104.09864) on all tokens but the prefix."""

    order: Tensor

    def __init__(self, packed: AttentionRope) -> None:
        super().__init__(packed.qkv.weight, packed.qkv.bias, heads=packed.num_heads, projection=packed.proj)
        self.num_prefix = packed.num_prefix_tokens
        channels = torch.arange(packed.head_dim)
        order = channels if packed.rotate_half else torch.cat((channels[::2], channels[1::2]))
        self.register_buffer("order", order, persistent=False)
        rows = (packed.head_dim * torch.arange(packed.num_heads).unsqueeze(1) + order).flatten()
        self.query, self.key = (
            _linear(part.weight[rows], _select_rows(part.bias, rows)) for part in (self.query, self.key)
        )

    def forward(
        self, tokens: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """`rope` [L - prefix, 2 * D] contains sine and cosine per token and channel."""
        if rope is None:
            return self.attend(tokens, attn_mask, is_causal=is_causal)
        sine, cosine = (part[:, self.order] for part in rope.chunk(2, dim=-1))  # [L - prefix, D]
        sine = functional.pad(sine, (0, 0, self.num_prefix, 0))
        cosine = functional.pad(cosine, (0, 0, self.num_prefix, 0), value=1.0)

        def rotate(heads: Tensor) -> Tensor:
            first, second = heads.chunk(2, dim=-1)
            return heads * cosine + torch.cat((-second, first), dim=-1) * sine

        return self.attend(tokens, attn_mask, is_causal=is_causal, rotate=rotate)


def _replacement_class(parent: nn.Module, child: nn.Module) -> Callable[..., SeparateAttention] | None:
    match child:
        case SelfAttention():
            return SeparateSelfAttention
        case nn.MultiheadAttention() if type(parent) is ResidualAttentionBlock and not hasattr(parent, "ln_1_kv"):
            return SeparateTorchAttention if child.batch_first else None
        case AttentionRope() if child.qkv is not None and _is_plain_attention(child):
            return SeparateRotaryAttention
        case Attention() if _is_plain_attention(child):
            return SeparateTimmAttention
    return None


def _is_plain_attention(packed: Attention | AttentionRope) -> bool:
    """Return whether the module computes the same as `SeparateAttention`, i.e. has no gate and no norms."""
    return packed.gate is None and all(isinstance(x, nn.Identity) for x in (packed.q_norm, packed.k_norm, packed.norm))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _select_rows(bias: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if bias is None else bias[rows]
