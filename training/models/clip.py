"""The two towers of CLIP (arXiv:2103.00020), with the options that ActionCLIP adds to them.

Parameters have OpenAI's names, so that state dicts differ only in prefixes. Tokens are batch first: [N, P + 1, W].

`drop_out` is ActionCLIP's rate for attention weights and stochastic depth; it increases linearly with depth. The
original drops token positions for the whole batch. This implementation drops each sample independently
(arXiv:1603.09382); no released weights were trained with the original.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from training.models.base import ModelConfigError, TextTower, VisionTower

Activation = Literal["quick_gelu", "gelu"]
Temporal = Literal["none", "shift", "joint"]


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), the activation in OpenAI's weights."""

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"quick_gelu": QuickGelu, "gelu": nn.GELU}


class SelfAttention(nn.Module):
    """Multi-head attention with packed q, k and v; tokens [N, L, W] -> [N, L, W]."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ModelConfigError(f"heads: {heads} does not divide the width {width}")
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        packed = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)  # [N, L, 3*W]
        query, key, value = (
            split_heads(part, self.heads) for part in packed.chunk(3, dim=-1)
        )  # [N, heads, L, W/heads]
        rate = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=is_causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # [N, L, W]


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Split the width into heads: [N, L, W] -> [N, heads, L, W / heads]."""
    split: Tensor = tokens.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole samples (first axis) in training (arXiv:1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ModelConfigError(f"the drop rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        is_kept = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * is_kept.to(branch.dtype) / (1 - self.rate)


class Mlp(nn.Module):
    """Two linear layers with an activation in between, with OpenAI's names."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ModelConfigError(f"activation: must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.c_fc = nn.Linear(width, hidden)
        self.activation = ACTIVATIONS[activation]()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(tokens)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm residual block of attention and MLP."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        activation: str = "quick_gelu",
        mlp_width: int | None = None,
        drop_out: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads, dropout=drop_out)
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_width or 4 * width, activation)
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.drop = StochasticDepth(drop_out)

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        tokens = tokens + self.drop(self.attn(self.ln_1(tokens), is_causal=is_causal))
        return tokens + self.drop(self.mlp(self.ln_2(tokens)))  # type: ignore[no-any-return]


class Blocks(nn.Module):
    """A stack of blocks, called `resblocks` as in OpenAI's files."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)
        self.is_checkpointed = False  # whether the backward pass recomputes each block

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        for block in self.resblocks:
            if self.is_checkpointed and self.training and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, is_causal=is_causal, use_reentrant=False)
            else:
                tokens = block(tokens, is_causal=is_causal)
        return tokens


class TemporalShift(nn.Module):
    """A block that first shifts an eighth of the patch channels one frame back and another eighth one frame forward.

    The class token is not shifted. The shift precedes the residual connection of the block, so the identity path is
    shifted too. Source: TSM (arXiv:1811.08383), placed as in ActionCLIP.
    """

    def __init__(self, block: Block, *, num_frames: int, fold: int) -> None:
        super().__init__()
        self.block = block
        self.num_frames = num_frames
        self.fold = fold

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        shifted = shift_patches(tokens, self.num_frames, fold=self.fold)
        return self.block(shifted, is_causal=is_causal)  # type: ignore[no-any-return]


def shift_patches(tokens: Tensor, num_frames: int, *, fold: int) -> Tensor:
    """Shift patch channels [0, fold) back and [fold, 2 fold) forward by one frame; tokens [B*T, P + 1, W]."""
    videos = tokens.unflatten(0, (-1, num_frames))  # [B, T, P+1, W]
    patches = videos[:, :, 1:]
    zeros = torch.zeros_like(patches[:, :1, :, :fold])  # [B, 1, P, fold]
    from_next = torch.cat((patches[:, 1:, :, :fold], zeros), dim=1)  # [B, T, P, fold]
    from_previous = torch.cat((zeros, patches[:, :-1, :, fold : 2 * fold]), dim=1)
    shifted = torch.cat((from_next, from_previous, patches[..., 2 * fold :]), dim=-1)  # [B, T, P, W]
    return torch.cat((videos[:, :, :1], shifted), dim=2).flatten(0, 1)  # [B*T, P+1, W]


class VisionStem(nn.Module):
    """Converts frames to tokens and holds the parameters around the blocks; used by CLIP's and X-CLIP's towers."""

    def __init__(self, *, image_size: int, patch_size: int, width: int, embed_dim: int) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ModelConfigError(f"patch_size: {patch_size} does not divide the image size {image_size}")
        std = width**-0.5
        num_patches = (image_size // patch_size) ** 2  # P
        self.class_embedding = nn.Parameter(std * torch.randn(width))
        self.positional_embedding = nn.Parameter(std * torch.randn(num_patches + 1, width))
        self.proj = nn.Parameter(std * torch.randn(width, embed_dim))
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.ln_post = nn.LayerNorm(width)

    def tokens(self, frames: Tensor) -> Tensor:
        """Return class and patch tokens with positions, before `ln_pre`: [N, 3, S, S] -> [N, P + 1, W]."""
        patches = self.conv1(frames).flatten(2).transpose(1, 2)  # [N, P, W]
        class_tokens = self.class_embedding.expand(patches.shape[0], 1, -1)  # [N, 1, W]
        return torch.cat((class_tokens, patches), dim=1) + self.positional_embedding


class ClipVision(VisionStem, VisionTower):
    """CLIP's ViT; `temporal` selects TSM in every block ("shift") or attention over all patches of a video ("joint").

    Joint space-time attention adds a time embedding to the patch tokens and concatenates the patches of all frames
    after one class token: [B*T, 3, S, S] -> [B, D]. ActionCLIP's code for it does not run, so it cannot be compared.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        activation: str = "quick_gelu",
        mlp_width: int | None = None,
        temporal: str = "none",
        num_frames: int = 1,
        drop_out: float = 0.0,
        emb_dropout: float = 0.0,
    ) -> None:
        super().__init__(image_size=image_size, patch_size=patch_size, width=width, embed_dim=embed_dim)
        if temporal not in ("none", "shift", "joint"):
            raise ModelConfigError(f"vision.temporal: must be one of none, shift, joint, got {temporal!r}")
        self.image_size, self.embed_dim = image_size, embed_dim
        self.frames_at_once = 1 if temporal == "none" else num_frames
        blocks = make_blocks(width, layers, heads, activation=activation, mlp_width=mlp_width, drop_out=drop_out)
        if temporal == "shift":
            shifted = [TemporalShift(block, num_frames=num_frames, fold=width // 8) for block in blocks]
            self.transformer = Blocks(list(shifted))
        else:
            self.transformer = Blocks(list(blocks))
        self.emb_dropout = nn.Dropout(emb_dropout)
        self.time_embedding = None
        if temporal == "joint":
            self.time_embedding = nn.Parameter(width**-0.5 * torch.randn(num_frames, width))

    def forward(self, frames: Tensor) -> Tensor:
        tokens = self.tokens(frames)  # [N, P+1, W]
        if self.time_embedding is not None:
            tokens = self._join_frames(tokens, self.time_embedding)  # [B, T*P+1, W]
        tokens = self.transformer(self.ln_pre(self.emb_dropout(tokens)))
        return self.ln_post(tokens[:, 0]) @ self.proj  # type: ignore[no-any-return]  # [N, D]

    def _join_frames(self, tokens: Tensor, time_embedding: Tensor) -> Tensor:
        videos = tokens.unflatten(0, (-1, self.frames_at_once))  # [B, T, P+1, W]
        patches = videos[:, :, 1:] + time_embedding.unsqueeze(1)  # [B, T, P, W]
        return torch.cat((videos[:, 0, :1], patches.flatten(1, 2)), dim=1)  # [B, T*P+1, W]


class ClipText(TextTower):
    """CLIP's causal text tower; the output is taken at the largest token id, which ends the text."""

    supports_variable_length = True

    def __init__(
        self,
        *,
        context_length: int,
        vocab_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        activation: str = "quick_gelu",
        mlp_width: int | None = None,
        drop_out: float = 0.0,
        emb_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.context_length, self.embed_dim, self.width = context_length, embed_dim, width
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context_length, width))
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        blocks = make_blocks(width, layers, heads, activation=activation, mlp_width=mlp_width, drop_out=drop_out)
        self.transformer = Blocks(list(blocks))
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.ln_final = nn.LayerNorm(width)
        self.emb_dropout = nn.Dropout(emb_dropout)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        _init_text_weights_(blocks, width)

    def forward(self, tokens: Tensor) -> Tensor:
        embeddings = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]  # [R, L, W]
        mixed = self.transformer(self.emb_dropout(embeddings), is_causal=True)
        end_positions = tokens.argmax(dim=-1)  # [R], the first of equal ids
        last = mixed[torch.arange(tokens.shape[0], device=tokens.device), end_positions]  # [R, W]
        return self.ln_final(last) @ self.text_projection  # type: ignore[no-any-return]  # [R, D]


def make_blocks(
    width: int, layers: int, heads: int, *, activation: str, mlp_width: int | None, drop_out: float
) -> list[Block]:
    """Create blocks with drop rates that increase linearly from 0 to `drop_out`."""
    rates = torch.linspace(0, drop_out, layers, dtype=torch.float64, device="cpu").tolist()
    return [Block(width, heads, activation=activation, mlp_width=mlp_width, drop_out=rate) for rate in rates]


def _init_text_weights_(blocks: list[Block], width: int) -> None:
    """Initialise the text blocks as in CLIP; the variance of residual branches decreases with the number of layers."""
    residual_std = width**-0.5 * (2 * len(blocks)) ** -0.5
    for block in blocks:
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
