"""Two sentence encoders, one English and one multilingual, with a common tokenizer and a gate between them.

Tokens are those of a multilingual unigram tokenizer. For the English encoder, the embedding of a token is the mean of
the embeddings of its word pieces (vocabulary transfer, arXiv:2112.14569). The gate is a sigmoid of the fraction of a
text's letters that are in English word pieces: near 1 for English texts, near 0 for others. Text features are the
concatenation of the English features times the gate and the multilingual features times its complement.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import TextTower
from training.models.bert_text import BertEncoder
from training.models.ngram_text import NgramEncoder
from training.models.quantised import QuantisedTable

MAX_PIECES = 4  # maximum number of word pieces per token; others are ignored


class GatedText(TextTower):
    """Encodes tokens [R, L], padded on the right with `pad_id`, into text features [R, W + D_ngram]."""

    supports_variable_length = True

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
        self.register_buffer("pieces", torch.zeros(vocab_size, MAX_PIECES, dtype=torch.int32))  # ids; 0: no piece
        self.letters = nn.Parameter(
            torch.zeros(vocab_size, 2)
        )  # per token: letters, and those of them in English word pieces
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
        return torch.cat([gate * self.encode_english(tokens), (1 - gate) * self.encode_multilingual(tokens)], dim=-1)

    def gate(self, tokens: Tensor) -> Tensor:
        """Return the gate [R, 1], near 1 for English texts and near 0 for others."""
        letters = functional.embedding(tokens, self.letters).sum(dim=1)  # [R, 2]
        english_fraction = letters[:, 1:] / letters[:, :1].clamp(min=1)
        return torch.sigmoid(self.gate_slope * (english_fraction - self.gate_threshold))

    def encode_english(self, tokens: Tensor) -> Tensor:
        """Encode tokens with the English encoder; return sentence features [R, W]."""
        pieces = functional.embedding(tokens, self.pieces)  # [R, L, 4]
        is_piece = (pieces > 0).to(torch.float32)
        counts = is_piece.sum(dim=-1, keepdim=True)  # [R, L, 1]
        embeddings = (self.piece_table(pieces) * is_piece.unsqueeze(-1)).sum(dim=2) / counts.clamp(min=1)
        return self.english(embeddings, (counts > 0).to(torch.float32).squeeze(-1))  # type: ignore[no-any-return]

    def encode_multilingual(self, tokens: Tensor) -> Tensor:
        """Encode tokens with the multilingual encoder, with `prefix` after the start token; return features [R, D]."""
        prefix = self.prefix.expand(tokens.shape[0], -1)
        prefixed = torch.cat([tokens[:, :1], prefix, tokens[:, 1:]], dim=1)
        mask = (prefixed != self.pad_id).to(torch.float32).unsqueeze(-1)
        return self.multilingual(prefixed, mask)  # type: ignore[no-any-return]
