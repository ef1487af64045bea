"""BERT (arXiv:1810.04805) as a sentence encoder: the mean of its last layer over the tokens, without padding.

The input are token embeddings, so that the embedding of a token can be the mean of several word pieces.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.quantised import QuantisedLinear

EPSILON = 1e-12


class BertLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection, followed by a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (QuantisedLinear(width, width) for _ in range(3))
        self.attention_output = QuantisedLinear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=EPSILON)
        self.widen, self.narrow = QuantisedLinear(width, 4 * width), QuantisedLinear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, tokens: Tensor, attention_bias: Tensor) -> Tensor:
        """Transform tokens [R, L, W]; `attention_bias` [R, 1, 1, L] is 0, or a large negative number for padding."""
        query, key, value = (self._split_heads(layer(tokens)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + attention_bias  # [R, H, L, L]
        mixed = (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)  # [R, L, W]
        tokens = self.attention_norm(tokens + self.attention_output(mixed))
        hidden = functional.gelu(self.widen(tokens))
        return cast(Tensor, self.output_norm(tokens + self.narrow(hidden)))

    def _split_heads(self, tokens: Tensor) -> Tensor:
        split: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [R, H, L, W/H]
        return split


class BertEncoder(nn.Module):
    """Encodes token embeddings [R, L, W] with a mask [R, L] into normalised sentence features [R, W].

    Padding may be anywhere, because positions are numbers of preceding unmasked tokens. BERT's embedding of sentence
    type 0 is part of the position embeddings.
    """

    def __init__(self, *, width: int, layers: int, heads: int, context_length: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(context_length, width))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.layers = nn.ModuleList(BertLayer(width, heads) for _ in range(layers))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0).to(torch.int64)  # [R, L]
        tokens = self.norm(embeddings + functional.embedding(positions, self.positions))
        attention_bias = ((1 - mask) * -1e9)[:, None, None, :]
        for layer in self.layers:
            tokens = layer(tokens, attention_bias)
        weights = mask.unsqueeze(-1)
        mean = (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return functional.normalize(mean, dim=-1)
