"""Sentence encoder with n-gram convolutions and a residual network, as in the multilingual Universal Sentence Encoder
(arXiv:1907.04307).

Padding is masked before each convolution and in the mean, so it does not affect the result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.quantised import QuantisedLinear, QuantisedTable

NGRAMS = ((2, 0), (3, 1), (5, 2))  # (window size n, number of tokens before the centre)
EPSILON = 1e-12


class NgramBranch(nn.Module):
    """Two residual layers over windows of n tokens."""

    def __init__(self, width: int, window_size: int, before: int) -> None:
        super().__init__()
        self.window_size, self.padding = window_size, (0, 0, before, window_size - 1 - before)
        self.first = QuantisedLinear(window_size * width, width)
        self.second = QuantisedLinear(window_size * width, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Transform tokens [R, L, W] with mask [R, L, 1]; tokens outside the text count as zero."""
        tokens = tokens * mask
        hidden = (tokens + torch.relu(self.first(self._windows(tokens)))) * mask
        return hidden + torch.relu(self.second(self._windows(hidden)))

    def _windows(self, tokens: Tensor) -> Tensor:
        padded, length = functional.pad(tokens, self.padding), tokens.shape[1]
        return torch.cat(
            [padded[:, start : start + length] for start in range(self.window_size)], dim=-1
        )  # [R, L, n*W]


class NgramEncoder(nn.Module):
    """Encodes tokens [R, L] with mask [R, L, 1] into normalised sentence features [R, D]."""

    def __init__(
        self, *, vocab_size: int, token_width: int, branch_width: int, hidden_width: int, embed_dim: int
    ) -> None:
        super().__init__()
        branches_width = branch_width * len(NGRAMS)
        self.branch_width = branch_width
        self.table = QuantisedTable(vocab_size, token_width)
        self.token_projection = QuantisedLinear(token_width, branches_width)
        self.token_norm = nn.LayerNorm(branches_width, eps=EPSILON)
        self.branches = nn.ModuleList(NgramBranch(branch_width, size, before) for size, before in NGRAMS)
        self.joined_norm = nn.LayerNorm(token_width + branches_width, eps=EPSILON)
        self.pool_projection = QuantisedLinear(token_width + branches_width, embed_dim)
        self.first = QuantisedLinear(embed_dim, hidden_width, bias=False)
        self.second = QuantisedLinear(hidden_width, hidden_width, bias=False)
        self.third = QuantisedLinear(hidden_width, embed_dim, bias=False)
        self.last = QuantisedLinear(embed_dim, embed_dim, bias=False)
        self.around_first = QuantisedLinear(embed_dim, hidden_width, bias=False)
        self.around_third = QuantisedLinear(hidden_width, embed_dim, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        embeddings = self.table(tokens)  # [R, L, W]
        projected = self.token_norm(self.token_projection(embeddings))  # [R, L, 3*b]
        parts = projected.split(self.branch_width, dim=-1)
        outputs = [branch(part, mask) for branch, part in zip(self.branches, parts, strict=True)]
        joined = self.joined_norm(torch.cat([embeddings, *outputs], dim=-1))
        pooled = (self.pool_projection(joined) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()  # [R, D]
        second = torch.relu(self.second(torch.relu(self.first(pooled))) + self.around_first(pooled))
        deep = self.last(torch.relu(self.third(second))) + self.around_third(second)
        return functional.normalize(torch.tanh(deep), dim=-1)
