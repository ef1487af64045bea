"""BERT (arXiv:1810.04805) as a sentence encoder: the mean of its last layer over the tokens that are not padding.

It takes token embeddings, so that tokens of another tokenizer can be means of word pieces.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.quantised import QuantisedLinear

EPSILON = 1e-12


class BertLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm after it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (QuantisedLinear(width, width) for _ in range(3))
        self.attention_output = QuantisedLinear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=EPSILON)
        self.widen, self.narrow = QuantisedLinear(width, 4 * width), QuantisedLinear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, rows: Tensor, barred: Tensor) -> Tensor:
        """Rows [R, L, W]; `barred` [R, 1, 1, L] is 0 for tokens and a large negative number for padding."""
        query, key, value = (self._by_head(layer(rows)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + barred  # [R, H, L, L]
        mixed = (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)  # [R, L, W]
        rows = self.attention_norm(rows + self.attention_output(mixed))
        return cast(Tensor, self.output_norm(rows + self.narrow(functional.gelu(self.widen(rows)))))

    def _by_head(self, rows: Tensor) -> Tensor:
        split: Tensor = rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [R, H, L, W/H]
        return split


class BertEncoder(nn.Module):
    """Token embeddings [R, L, W] and mask [R, L] -> normalised sentence features [R, W].

    Masked tokens may be anywhere: positions count unmasked tokens. The embedding of sentence type 0 is added to all
    positions.
    """

    def __init__(self, *, width: int, layers: int, heads: int, context_length: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(context_length, width))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.layers = nn.ModuleList(BertLayer(width, heads) for _ in range(layers))

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        places = (mask.cumsum(dim=1) - 1).clamp(min=0).to(torch.int64)  # [R, L]
        rows = self.norm(embedded + functional.embedding(places, self.positions))
        barred = ((1 - mask) * -1e9)[:, None, None, :]
        for layer in self.layers:
            rows = layer(rows, barred)
        kept = mask.unsqueeze(-1)
        return functional.normalize((rows * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1), dim=-1)
