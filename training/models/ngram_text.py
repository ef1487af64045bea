"""Sentence encoder of n-gram convolutions and a residual network, as in the multilingual Universal Sentence Encoder
(arXiv:1907.04307).

Padding is masked before each convolution and in the mean, so it does not change the result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.quantised import QuantisedLinear, QuantisedTable

ORDERS = ((2, 0), (3, 1), (5, 2))  # window size, and number of tokens before the centre
EPSILON = 1e-12


class NgramBranch(nn.Module):
    """Two residual layers over windows of n tokens."""

    def __init__(self, width: int, order: int, before: int) -> None:
        super().__init__()
        self.order, self.sides = order, (0, 0, before, order - 1 - before)
        self.first = QuantisedLinear(order * width, width)
        self.second = QuantisedLinear(order * width, width)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Rows [R, L, W] and mask [R, L, 1] -> [R, L, W]; tokens outside the text are zero."""
        rows = rows * mask
        hidden = (rows + torch.relu(self.first(self._windows(rows)))) * mask
        return hidden + torch.relu(self.second(self._windows(hidden)))

    def _windows(self, rows: Tensor) -> Tensor:
        padded, length = functional.pad(rows, self.sides), rows.shape[1]
        return torch.cat([padded[:, place : place + length] for place in range(self.order)], dim=-1)  # [R, L, n*W]


class NgramEncoder(nn.Module):
    """Tokens [R, L] and mask [R, L, 1] -> normalised sentence features [R, D]."""

    def __init__(
        self, *, vocab_size: int, token_width: int, branch_width: int, hidden_width: int, embed_dim: int
    ) -> None:
        super().__init__()
        joined = branch_width * len(ORDERS)
        self.branch_width = branch_width
        self.table = QuantisedTable(vocab_size, token_width)
        self.token_projection = QuantisedLinear(token_width, joined)
        self.token_norm = nn.LayerNorm(joined, eps=EPSILON)
        self.branches = nn.ModuleList(NgramBranch(branch_width, order, before) for order, before in ORDERS)
        self.joined_norm = nn.LayerNorm(token_width + joined, eps=EPSILON)
        self.pool_projection = QuantisedLinear(token_width + joined, embed_dim)
        self.first = QuantisedLinear(embed_dim, hidden_width, bias=False)
        self.second = QuantisedLinear(hidden_width, hidden_width, bias=False)
        self.third = QuantisedLinear(hidden_width, embed_dim, bias=False)
        self.last = QuantisedLinear(embed_dim, embed_dim, bias=False)
        self.around_first = QuantisedLinear(embed_dim, hidden_width, bias=False)
        self.around_third = QuantisedLinear(hidden_width, embed_dim, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        embedded = self.table(tokens)  # [R, L, W]
        rows = self.token_norm(self.token_projection(embedded))  # [R, L, 3*b]
        parts = rows.split(self.branch_width, dim=-1)
        found = [branch(part, mask) for branch, part in zip(self.branches, parts, strict=True)]
        joined = self.joined_norm(torch.cat([embedded, *found], dim=-1))
        pooled = (self.pool_projection(joined) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()  # [R, D]
        second = torch.relu(self.second(torch.relu(self.first(pooled))) + self.around_first(pooled))
        deep = self.last(torch.relu(self.third(second))) + self.around_third(second)
        return functional.normalize(torch.tanh(deep), dim=-1)
