"""ActionCLIP's fusion models ("post-network prompts"): frame features [B, T, D] -> video features [B, D].

| kind | computation |
| --- | --- |
| meanP | mean over frames |
| LSTM | mean over frames of an LSTM's outputs plus its inputs |
| Conv_1D | mean over frames of a depthwise convolution plus its input |
| Transf | mean over frames of six transformer blocks on features plus positions, plus the features |
| Transf_cls | class token of six post-norm encoder layers |

Parameters have the original names. All kinds but meanP store frame positions, but only Transf uses them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import ModelConfigError
from training.models.clip import Block, Blocks, SelfAttention

NUM_POSITIONS = 77  # rows of the position embedding; in the original, the context length of the text tower
INIT_STD = 0.02  # standard deviation of initial weights


class MeanPool(nn.Module):
    """Mean over frames."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=1)


class LstmFusion(nn.Module):
    """One-layer LSTM whose outputs are added to its inputs."""

    def __init__(self, embed_dim: int, *, positions: int) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_embedding(positions, embed_dim)
        self.lstm_visual = nn.LSTM(embed_dim, embed_dim, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        outputs: Tensor = self.lstm_visual(frames)[0]  # [B, T, D]
        return (outputs + frames).mean(dim=1)


class ConvFusion(nn.Module):
    """Depthwise convolution of size 3 on reshaped, not transposed, features, as the released weights require."""

    def __init__(self, embed_dim: int, *, positions: int) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_embedding(positions, embed_dim)
        self.shift = nn.Conv1d(embed_dim, embed_dim, kernel_size=3, padding=1, groups=embed_dim, bias=False)
        with torch.no_grad():
            self.shift.weight.zero_()
            quarter = embed_dim // 4
            self.shift.weight[:quarter, 0, 0] = 1  # the previous frame
            self.shift.weight[quarter : embed_dim - quarter, 0, 1] = 1
            self.shift.weight[embed_dim - quarter :, 0, 2] = 1  # the next frame

    def forward(self, frames: Tensor) -> Tensor:
        batch, num_frames, width = frames.shape
        # [B, D, T] by reshaping the memory of [B, T, D], as in the original code
        mixed: Tensor = self.shift(frames.reshape(batch, width, num_frames))
        return (mixed.transpose(1, 2) + frames).mean(dim=1)  # [B, D]


class TransformerFusion(nn.Module):
    """Pre-norm blocks over frames with position embeddings; the input is added to the output."""

    def __init__(
        self, embed_dim: int, *, layers: int, heads: int, positions: int, eps: float, activation: str = "quick_gelu"
    ) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_embedding(positions, embed_dim)
        blocks = [Block(embed_dim, heads, activation=activation, eps=eps) for _ in range(layers)]
        self.transformer = Blocks(list(blocks))
        for module in self.transformer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        num_frames, positions = frames.shape[1], self.frame_position_embeddings.weight
        if num_frames > positions.shape[0]:
            raise ValueError(f"the fusion model supports at most {positions.shape[0]} frames, got {num_frames}")
        outputs: Tensor = self.transformer(frames + positions[:num_frames])
        return (outputs + frames).mean(dim=1)  # [B, D]


class ClassTokenFusion(nn.Module):
    """Post-norm encoder with a class token, for a fixed number of frames."""

    def __init__(
        self, embed_dim: int, *, num_frames: int, layers: int, heads: int, hidden: int, dropout: float, positions: int
    ) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_embedding(positions, embed_dim)
        self.transformer = ClassTokenEncoder(
            embed_dim, num_frames=num_frames, layers=layers, heads=heads, hidden=hidden, dropout=dropout
        )

    def forward(self, frames: Tensor) -> Tensor:
        return self.transformer(frames)  # type: ignore[no-any-return]


class ClassTokenEncoder(nn.Module):
    """Returns the class token after a post-norm encoder over the class token and the frames with positions."""

    def __init__(
        self, embed_dim: int, *, num_frames: int, layers: int, heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_frames + 1, embed_dim))
        self.transformer_enc = PostNormEncoder(embed_dim, layers=layers, heads=heads, hidden=hidden, dropout=dropout)
        with torch.no_grad():
            _init_folded_normal_(self.pos_embed)
            _init_folded_normal_(self.cls_token)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    _init_folded_normal_(module.weight)
                    module.bias.zero_()

    def forward(self, frames: Tensor) -> Tensor:
        if frames.shape[1] + 1 != self.pos_embed.shape[1]:
            raise ValueError(f"the fusion model requires {self.pos_embed.shape[1] - 1} frames, got {frames.shape[1]}")
        first = self.cls_token.expand(frames.shape[0], -1, -1)
        tokens = torch.cat((first, frames), dim=1) + self.pos_embed  # [B, T+1, D]
        return self.transformer_enc(tokens)[:, 0]  # type: ignore[no-any-return]


class PostNormEncoder(nn.Module):
    """Post-norm layers and a final LayerNorm, named as in torch's TransformerEncoder, which ONNX cannot express."""

    def __init__(self, width: int, *, layers: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PostNormLayer(width, heads=heads, hidden=hidden, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)  # type: ignore[no-any-return]


class PostNormLayer(nn.Module):
    """Attention and a ReLU MLP, each followed by a LayerNorm (arXiv:1706.03762)."""

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads, dropout=dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm1(tokens + self.dropout(self.self_attn(tokens)))
        hidden = self.dropout(functional.relu(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(hidden)))  # type: ignore[no-any-return]


def build_fusion(config: Mapping[str, Any], *, embed_dim: int, num_frames: int, text_width: int) -> nn.Module:
    """Build a fusion model from its `kind`; the defaults of the other fields are the original values.

    Raises:
        ModelConfigError: the kind is missing or unknown, or it does not have a field.
    """
    if "kind" not in config:
        raise ModelConfigError("fusion: the field kind is missing")
    kind = config["kind"]
    if kind not in DEFAULTS:
        raise ModelConfigError(f"fusion.kind: must be one of {', '.join(DEFAULTS)}, got {kind!r}")
    options = {key: value for key, value in config.items() if key != "kind"}
    unknown = sorted(set(options) - set(DEFAULTS[kind]))
    if unknown:
        raise ModelConfigError(f"fusion: {kind} has the fields {sorted(DEFAULTS[kind])}, got {unknown}")
    fields = {**DEFAULTS[kind], **options}
    match kind:
        case "meanP":
            return MeanPool()
        case "LSTM":
            return LstmFusion(embed_dim, **fields)
        case "Conv_1D":
            return ConvFusion(embed_dim, **fields)
        case "Transf":
            heads = fields.pop("heads") or max(text_width // 64, 1)  # in the original, the heads of the text tower
            return TransformerFusion(embed_dim, heads=heads, **fields)
        case _:
            return ClassTokenFusion(embed_dim, num_frames=num_frames, **fields)


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "meanP": {},
    "LSTM": {"positions": NUM_POSITIONS},
    "Conv_1D": {"positions": NUM_POSITIONS},
    "Transf": {"layers": 6, "heads": None, "positions": NUM_POSITIONS, "eps": 1e-12, "activation": "quick_gelu"},
    "Transf_cls": {"layers": 6, "heads": 8, "hidden": 2048, "dropout": 0.1, "positions": NUM_POSITIONS},
}


def _position_embedding(positions: int, embed_dim: int) -> nn.Embedding:
    embedding = nn.Embedding(positions, embed_dim)
    nn.init.normal_(embedding.weight, std=INIT_STD)
    return embedding


def _init_folded_normal_(values: Tensor) -> None:
    """Fill with INIT_STD * fmod(N(0, 1), 2), as in the original."""
    values.copy_(INIT_STD * torch.fmod(torch.randn_like(values), 2))
