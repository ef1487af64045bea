"""Two sentence encoders with one tokenizer, one English and one multilingual, combined by a gate.

Both use the tokens of a multilingual unigram tokenizer. For the English encoder, the embedding of a token is the mean
of its word pieces (vocabulary transfer, arXiv:2112.14569). The gate is a function of the share of a text's letters that
belong to English word pieces, so English texts use the English encoder and others the multilingual one. Text features
are the concatenation of both, weighted by the gate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import TextTower
from training.models.bert_text import BertEncoder
from training.models.ngram_text import NgramEncoder
from training.models.quantised import QuantisedTable

MAX_PIECES = 4  # word pieces per token; further ones are ignored


class GatedText(TextTower):
    """Tokens [R, L], padded on the right with `pad_id` -> text features [R, W + D_ngram]."""

    takes_short_rows = True

    pieces: Tensor
    prefix: Tensor

    def __init__(
        self,
        *,
        context_length: int,
        vocab_size: int,
        pad_id: int,
        prefix: Sequence[int],
        gate_threshold: float,
        gate_slope: float,
        num_pieces: int,
        english_width: int,
        english_layers: int,
        english_heads: int,
        token_width: int,
        branch_width: int,
        hidden_width: int,
        sentence_width: int,
    ) -> None:
        super().__init__()
        self.context_length, self.width = context_length, token_width
        self.embed_dim = english_width + sentence_width
        self.pad_id, self.gate_threshold, self.gate_slope = pad_id, gate_threshold, gate_slope
        self.register_buffer("prefix", torch.tensor([list(prefix)], dtype=torch.int64), persistent=False)
        self.register_buffer("pieces", torch.zeros(vocab_size, MAX_PIECES, dtype=torch.int32))  # 0: none
        self.letters = nn.Parameter(torch.zeros(vocab_size, 2))  # letters of a token, and English letters among them
        self.piece_table = QuantisedTable(num_pieces, english_width)
        self.english = BertEncoder(
            width=english_width, layers=english_layers, heads=english_heads, context_length=context_length
        )
        self.multilingual = NgramEncoder(
            vocab_size=vocab_size,
            token_width=token_width,
            branch_width=branch_width,
            hidden_width=hidden_width,
            embed_dim=sentence_width,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        gate = self.gate(tokens)
        return torch.cat([gate * self.in_english(tokens), (1 - gate) * self.in_any_language(tokens)], dim=-1)

    def gate(self, tokens: Tensor) -> Tensor:
        """Return the gate [R, 1]: 1 for English texts, 0 for others."""
        found = functional.embedding(tokens, self.letters).sum(dim=1)  # [R, 2]
        share = found[:, 1:] / found[:, :1].clamp(min=1)
        return torch.sigmoid(self.gate_slope * (share - self.gate_threshold))

    def in_english(self, tokens: Tensor) -> Tensor:
        """Return sentence features [R, W] of the English encoder."""
        pieces = functional.embedding(tokens, self.pieces)  # [R, L, 4]
        is_piece = (pieces > 0).to(torch.float32)
        counts = is_piece.sum(dim=-1, keepdim=True)  # [R, L, 1]
        embedded = (self.piece_table(pieces) * is_piece.unsqueeze(-1)).sum(dim=2) / counts.clamp(min=1)
        return self.english(embedded, (counts > 0).to(torch.float32).squeeze(-1))  # type: ignore[no-any-return]

    def in_any_language(self, tokens: Tensor) -> Tensor:
        """Return sentence features [R, D] of the multilingual encoder, with its prefix before each text."""
        before = self.prefix.expand(tokens.shape[0], -1)
        longer = torch.cat([tokens[:, :1], before, tokens[:, 1:]], dim=1)
        return self.multilingual(longer, (longer != self.pad_id).to(torch.float32).unsqueeze(-1))  # type: ignore[no-any-return]
