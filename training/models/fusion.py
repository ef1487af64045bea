"""ActionCLIP's fusion heads ("post-network prompts"): frame features [B, T, D] -> video features [B, D].

| kind | computation |
| --- | --- |
| meanP | mean over frames |
| LSTM | mean of an LSTM's outputs plus its inputs |
| Conv_1D | mean of a depthwise convolution plus its input; reads [T, D] memory as [D, T], like the original |
| Transf | mean of six blocks over x + positions, plus x |
| Transf_cls | a class token through six post-norm encoder layers |

Names of parameters are the original's. All heads but meanP store frame positions; only Transf uses them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import ModelConfigError
from training.models.clip import Block, Blocks, SelfAttention

NUM_POSITIONS = 77  # rows of the position table: the text context length in the original
SPREAD = 0.02  # standard deviation of initial weights


class MeanPool(nn.Module):
    """Mean over frames."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=1)


class LstmFusion(nn.Module):
    """One-layer LSTM whose outputs are added to its inputs."""

    def __init__(self, embed_dim: int, *, positions: int) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_table(positions, embed_dim)
        self.lstm_visual = nn.LSTM(embed_dim, embed_dim, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        joined: Tensor = self.lstm_visual(frames)[0]  # [B, T, D]
        return (joined + frames).mean(dim=1)


class ConvFusion(nn.Module):
    """Depthwise convolution of width 3 over the reinterpreted memory, as for the released weights."""

    def __init__(self, embed_dim: int, *, positions: int) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_table(positions, embed_dim)
        self.shift = nn.Conv1d(embed_dim, embed_dim, kernel_size=3, padding=1, groups=embed_dim, bias=False)
        with torch.no_grad():
            self.shift.weight.zero_()
            quarter = embed_dim // 4
            self.shift.weight[:quarter, 0, 0] = 1  # the frame before
            self.shift.weight[quarter : embed_dim - quarter, 0, 1] = 1
            self.shift.weight[embed_dim - quarter :, 0, 2] = 1  # the frame after

    def forward(self, frames: Tensor) -> Tensor:
        batch, num_frames, width = frames.shape
        mixed: Tensor = self.shift(
            frames.reshape(batch, width, num_frames)
        )  # [B, D, T] by reinterpretation, not transposition
        return (mixed.transpose(1, 2) + frames).mean(dim=1)  # [B, D]


class TransformerFusion(nn.Module):
    """Pre-norm blocks over frames with positions; the input is added to the output."""

    def __init__(
        self, embed_dim: int, *, layers: int, heads: int, positions: int, eps: float, activation: str = "quick_gelu"
    ) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_table(positions, embed_dim)
        blocks = [Block(embed_dim, heads, activation=activation, eps=eps) for _ in range(layers)]
        self.transformer = Blocks(list(blocks))
        for module in self.transformer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=SPREAD)
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        num_frames, positions = frames.shape[1], self.frame_position_embeddings.weight
        if num_frames > positions.shape[0]:
            raise ValueError(f"{num_frames} frames, this head has positions for {positions.shape[0]}")
        joined: Tensor = self.transformer(frames + positions[:num_frames])
        return (joined + frames).mean(dim=1)  # [B, D]


class ClassTokenFusion(nn.Module):
    """Post-norm encoder with a class token; the position table fixes the number of frames."""

    def __init__(
        self, embed_dim: int, *, num_frames: int, layers: int, heads: int, hidden: int, dropout: float, positions: int
    ) -> None:
        super().__init__()
        self.frame_position_embeddings = _position_table(positions, embed_dim)
        self.transformer = ClassTokenEncoder(
            embed_dim, num_frames=num_frames, layers=layers, heads=heads, hidden=hidden, dropout=dropout
        )

    def forward(self, frames: Tensor) -> Tensor:
        return self.transformer(frames)  # type: ignore[no-any-return]


class ClassTokenEncoder(nn.Module):
    """[class token; frames] + positions through a post-norm encoder; returns the first row."""

    def __init__(
        self, embed_dim: int, *, num_frames: int, layers: int, heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_frames + 1, embed_dim))
        self.transformer_enc = PostNormEncoder(embed_dim, layers=layers, heads=heads, hidden=hidden, dropout=dropout)
        with torch.no_grad():
            _fill_folded_normal_(self.pos_embed)
            _fill_folded_normal_(self.cls_token)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    _fill_folded_normal_(module.weight)
                    module.bias.zero_()

    def forward(self, frames: Tensor) -> Tensor:
        if frames.shape[1] + 1 != self.pos_embed.shape[1]:
            raise ValueError(f"{frames.shape[1]} frames, this head was made for {self.pos_embed.shape[1] - 1}")
        first = self.cls_token.expand(frames.shape[0], -1, -1)
        tokens = torch.cat((first, frames), dim=1) + self.pos_embed  # [B, T+1, D]
        return self.transformer_enc(tokens)[:, 0]  # type: ignore[no-any-return]


class PostNormEncoder(nn.Module):
    """Post-norm layers and a last LayerNorm, named as in torch's TransformerEncoder (which does not export to ONNX)."""

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
    """Attention and a ReLU MLP, each followed by its LayerNorm (arXiv:1706.03762)."""

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
    """Build a head by its `kind`; the defaults of fields are the original's values.

    Raises:
        ModelConfigError: the kind is unknown, or does not have a field.
    """
    if "kind" not in config:
        raise ModelConfigError("fusion: the field kind is missing")
    kind = config["kind"]
    if kind not in DEFAULTS:
        raise ModelConfigError(f"fusion.kind: one of {', '.join(DEFAULTS)} is needed, found {kind!r}")
    given = {key: value for key, value in config.items() if key != "kind"}
    unknown = sorted(set(given) - set(DEFAULTS[kind]))
    if unknown:
        raise ModelConfigError(f"fusion: {kind} has no fields {unknown} (it has {sorted(DEFAULTS[kind])})")
    fields = {**DEFAULTS[kind], **given}
    match kind:
        case "meanP":
            return MeanPool()
        case "LSTM":
            return LstmFusion(embed_dim, **fields)
        case "Conv_1D":
            return ConvFusion(embed_dim, **fields)
        case "Transf":
            heads = fields.pop("heads") or max(text_width // 64, 1)  # the original uses the text tower's heads
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


def _position_table(positions: int, embed_dim: int) -> nn.Embedding:
    table = nn.Embedding(positions, embed_dim)
    nn.init.normal_(table.weight, std=SPREAD)
    return table


def _fill_folded_normal_(values: Tensor) -> None:
    """Fill with SPREAD * fmod(N(0, 1), 2), as the original does."""
    values.copy_(SPREAD * torch.fmod(torch.randn_like(values), 2))
