"""Phrases as token rows, each under a template that is drawn anew at every step."""

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from serve.contract import TextContract
from serve.text.tokenizer import Tokenizer, clip_tokenizer_json, pad_rows


def clip_tokenizer(text: TextContract) -> Tokenizer:
    """CLIP's tokenizer from the merges open_clip ships."""
    from tokenizers import Tokenizer as TokenizerFile

    merges = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    return Tokenizer(TokenizerFile.from_str(clip_tokenizer_json(merges)), text)


class TemplatedPhrases:
    """Token rows of phrases under each of several templates."""

    def __init__(self, phrases: Sequence[str], templates: Sequence[str], *, text: TextContract, seed: int) -> None:
        tokenizer = clip_tokenizer(text)
        self._generator = torch.Generator().manual_seed(seed)
        self._seed = seed
        filled = [tokenizer.encode([template.replace("{}", phrase) for phrase in phrases]) for template in templates]
        width = max(len(row) for rows in filled for row in rows)
        self.rows = torch.stack(  # [M, K, L], cut to the longest
            [torch.from_numpy(pad_rows(rows, pad_id=text.pad_id, length=width)) for rows in filled]
        )

    def tokens(self, step: int) -> Tensor:
        """Tokens [K, L] of all phrases, each under a template drawn by the step."""
        self._generator.manual_seed(self._seed * 1_000_003 + step)
        num_templates, num_phrases = self.rows.shape[:2]
        chosen = torch.randint(num_templates, (num_phrases,), generator=self._generator)
        return self.rows[chosen, torch.arange(num_phrases)]
