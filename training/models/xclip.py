"""X-CLIP (arXiv:2208.02816): messages between frames, a transformer over frame features, and video-specific prompts.

`head` adapts the text features of each label to the patches of the video, so only the text features before that can be
cached. Parameters have the original names, with the text tower under `text.`.

Stochastic depth drops branches for whole frames. The original drops token positions for the whole batch; no released
weights were trained with that. With `alpha` zero or `prompts: null`, the model has no video-specific prompts.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import (
    INITIAL_LOGIT_SCALE,
    ModelConfigError,
    TextTower,
    VideoOutput,
    VideoTextModel,
    VisionTower,
)
from training.models.clip import (
    Block,
    Blocks,
    Mlp,
    QuickGelu,
    SelfAttention,
    StochasticDepth,
    VisionStem,
    split_heads,
)

INIT_STD = 0.02  # standard deviation of initial weights


class CommunicationBlock(nn.Module):
    """A CLIP block in which the frames of a video first exchange messages (section 3.2, cross-frame communication)."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        num_frames: int,
        activation: str = "quick_gelu",
        mlp_width: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.message_fc = nn.Linear(width, width)
        self.message_ln = nn.LayerNorm(width)
        self.message_attn = SelfAttention(width, heads)
        self.attn = SelfAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_width or 4 * width, activation)
        self.ln_2 = nn.LayerNorm(width)
        self.drop = StochasticDepth(drop_path)

    def forward(self, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
        """Transform tokens [B*T, P + 1, W]; frames of a video are adjacent. Messages are not returned."""
        messages = self.message_fc(tokens[:, 0]).unflatten(0, (-1, self.num_frames))  # [B, T, W]
        messages = messages + self.drop(self.message_attn(self.message_ln(messages)))
        joined = torch.cat((tokens, messages.flatten(0, 1).unsqueeze(1)), dim=1)  # [B*T, P+2, W]
        joined = joined + self.drop(self.attn(self.ln_1(joined)))
        tokens = joined[:, :-1]  # [B*T, P+1, W]
        return tokens + self.drop(self.mlp(self.ln_2(tokens)))  # type: ignore[no-any-return]


class XClipVision(VisionStem, VisionTower):
    """CLIP's vision tower with cross-frame communication."""

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        num_frames: int,
        activation: str = "quick_gelu",
        mlp_width: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(image_size=image_size, patch_size=patch_size, width=width, embed_dim=embed_dim)
        self.image_size, self.embed_dim, self.width = image_size, embed_dim, width
        self.frames_at_once = num_frames
        rates = torch.linspace(0, drop_path, layers, dtype=torch.float64, device="cpu").tolist()
        self.transformer = Blocks(
            [
                CommunicationBlock(
                    width,
                    heads,
                    num_frames=num_frames,
                    activation=activation,
                    mlp_width=mlp_width,
                    drop_path=rate,
                )
                for rate in rates
            ]
        )

    def forward(self, frames: Tensor) -> Tensor:
        return self.encode(frames)[0]

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame features [B*T, D] and patch tokens [B*T, P, W], before `ln_post`, of frames [B*T, 3, S, S]."""
        tokens = self.transformer(self.ln_pre(self.tokens(frames)))  # [B*T, P+1, W]
        return self.ln_post(tokens[:, 0]) @ self.proj, tokens[:, 1:]


class FrameIntegration(nn.Module):
    """Multi-frame integration: the mean over frames of the output plus the input of transformer blocks."""

    def __init__(
        self,
        embed_dim: int,
        *,
        num_frames: int,
        layers: int = 1,
        heads: int | None = None,
        mlp_width: int | None = None,
    ) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(1, num_frames, embed_dim))
        num_heads = heads or max(embed_dim // 64, 1)
        self.resblocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_width=mlp_width) for _ in range(layers))
        nn.init.trunc_normal_(self.positional_embedding, std=INIT_STD)
        init_linear_layers_(self)

    def forward(self, frames: Tensor) -> Tensor:
        """Combine frame features [B, T, D] into video features [B, D]."""
        if frames.shape[1] != self.positional_embedding.shape[1]:
            raise ValueError(f"the model requires {self.positional_embedding.shape[1]} frames, got {frames.shape[1]}")
        mixed = frames + self.positional_embedding
        for block in self.resblocks:
            mixed = block(mixed)
        return (mixed + frames).mean(dim=1)


class CrossAttention(nn.Module):
    """Cross attention from texts [B, K, D] to patches [B, P, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ModelConfigError(f"prompts.heads: {heads} does not divide the width {width}")
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, texts: Tensor, patches: Tensor) -> Tensor:
        query = split_heads(self.q_proj(texts), self.heads)  # [B, heads, K, D/heads]
        key, value = (split_heads(projection(patches), self.heads) for projection in (self.k_proj, self.v_proj))
        mixed = functional.scaled_dot_product_attention(query, key, value)  # [B, heads, K, D/heads]
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # [B, K, D]


class PromptLayer(nn.Module):
    """One layer of the prompt generator; labels do not attend to each other."""

    def __init__(self, width: int, heads: int, *, mlp_width: int | None = None) -> None:
        super().__init__()
        hidden = mlp_width or 4 * width
        self.cross_attn = CrossAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        # the indices 0 and 3 are those of the original Sequential, in which 2 is a dropout with rate 0
        self.mlp = nn.Sequential(nn.Linear(width, hidden), QuickGelu(), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, texts: Tensor, patches: Tensor) -> Tensor:
        texts = texts + self.cross_attn(self.norm1(texts), patches)
        return texts + self.mlp(self.norm3(texts))  # type: ignore[no-any-return]


class PromptGenerator(nn.Module):
    """Video-specific prompts: `alpha` times the labels after cross attention to the patches (section 3.3).

    The output includes the residual path, i.e. `alpha` times the text itself, as the released weights require.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int | None = None,
        alpha: float = 0.1,
        mlp_width: int | None = None,
    ) -> None:
        super().__init__()
        num_heads = heads or max(width // 64, 1)
        self.alpha = nn.Parameter(torch.full((width,), float(alpha)))
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(PromptLayer(width, num_heads, mlp_width=mlp_width) for _ in range(layers))
        init_linear_layers_(self)

    def forward(self, texts: Tensor, patches: Tensor) -> Tensor:
        """Return offsets [B, K, D] of texts [B, K, D], given patches [B, P, D]."""
        normalized = self.norm(patches)
        for layer in self.decoder:
            texts = layer(texts, normalized)
        return self.alpha * texts


class XClip(VideoTextModel):
    """X-CLIP for a fixed number of frames."""

    family = "xclip"
    visual: XClipVision

    def __init__(
        self,
        visual: XClipVision,
        text: TextTower,
        *,
        num_frames: int,
        mit: Mapping[str, Any] | None = None,
        prompts: Mapping[str, Any] | None = None,
        logit_scale: float = INITIAL_LOGIT_SCALE,
    ) -> None:
        super().__init__(visual, text, num_frames=num_frames, logit_scale=logit_scale)
        self.mit = FrameIntegration(visual.embed_dim, num_frames=num_frames, **(mit or {}))
        if prompts is not None:
            self.prompts_visual_proj = nn.Parameter(torch.randn(visual.width, visual.embed_dim))
            self.prompts_visual_ln = nn.LayerNorm(visual.width)
            self.prompts_generator = PromptGenerator(visual.embed_dim, **prompts)
        self.has_prompt_head = prompts is not None

    def encode_video(self, frames: Tensor) -> VideoOutput:
        features, patches = self.visual.encode(frames.flatten(0, 1))  # [B*T, D], [B*T, P, W]
        video_features = self.mit(features.unflatten(0, (-1, self.num_frames)))  # [B, D]
        if not self.has_prompt_head:
            return VideoOutput(video_features, None)
        return VideoOutput(video_features, self.project_patches(patches).mean(dim=1))

    def project_patches(self, patches: Tensor) -> Tensor:
        """Project patch tokens [B*T, P, W] to the joint space [B, T, P, D]."""
        projected = self.prompts_visual_ln(patches) @ self.prompts_visual_proj  # [B*T, P, D]
        return projected.unflatten(0, (-1, self.num_frames))  # type: ignore[no-any-return]

    def prompt_texts(self, patch_features: Tensor, text_features: Tensor) -> Tensor:
        """Return the video-specific texts [B, K, D] of patch_features [B, P, D] and text_features [K, D]."""
        texts = text_features.expand(patch_features.shape[0], -1, -1)  # [B, K, D]
        return texts + self.prompts_generator(texts, patch_features)  # type: ignore[no-any-return]

    def head(self, video_features: Tensor, patch_features: Tensor | None, text_features: Tensor) -> Tensor:
        if not self.has_prompt_head:
            return self.cosine_logits(video_features, text_features)
        if patch_features is None:
            raise ValueError("patch_features are required, because the model has a prompt head")
        texts = functional.normalize(self.prompt_texts(patch_features, text_features), dim=-1)  # [B, K, D]
        videos = functional.normalize(video_features, dim=-1)  # [B, D]
        return self.logit_scale.exp() * (texts @ videos.unsqueeze(-1)).squeeze(-1)  # [B, K]


def init_linear_layers_(module: nn.Module) -> None:
    """Initialise linear layers with a truncated normal and zero biases; packed attention weights are not changed."""
    for submodule in module.modules():
        if isinstance(submodule, nn.Linear):
            nn.init.trunc_normal_(submodule.weight, std=INIT_STD)
            if submodule.bias is not None:
                nn.init.zeros_(submodule.bias)
