"""Token rows of phrases, with a template sampled for each phrase at each step."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from serve.contract import TextContract
from serve.errors import ContractError
from serve.text.tokenizer import Tokenizer, clip_tokenizer_json, load_tokenizer, pad_rows
from training.config import ConfigError
from training.distributed import rank_and_count


def clip_tokenizer(text: TextContract) -> Tokenizer:
    """Return CLIP's tokenizer, from the merges of open_clip."""
    from tokenizers import Tokenizer as TokenizerFile

    package = find_spec("open_clip")  # not imported, because that takes seconds in each loading process
    assert package is not None and package.submodule_search_locations is not None, "the extra training installs it"
    merges = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    return Tokenizer(TokenizerFile.from_str(clip_tokenizer_json(merges)), text)


def tokenizer_of(text: TextContract, file: Path | None, *, key: str) -> Tokenizer:
    """Return the tokenizer of a file, or CLIP's by default.

    Raises:
        ConfigError: the tower needs a file but none is given, or it cannot be read; the message begins with `key`.
    """
    if file is None:
        if text.tokenizer != "clip":
            raise ConfigError(f"{key}: the tokenizer of this text tower is not CLIP's; its tokenizer.json is needed")
        return clip_tokenizer(text)
    try:
        return load_tokenizer(file, text)
    except ContractError as error:
        raise ConfigError(f"{key}: {error.message}") from error


class TemplatedPhrases:
    """Token rows of phrases for several templates; the sampled template depends only on seed and step."""

    def __init__(
        self, phrases: Sequence[str], templates: Sequence[str], *, text: TextContract, seed: int, tokenizer: str = ""
    ) -> None:
        encoder = tokenizer_of(text, Path(tokenizer) if tokenizer else None, key="data.tokenizer")
        self._seed = seed
        filled = [encoder.encode([template.replace("{}", phrase) for phrase in phrases]) for template in templates]
        longest = max(len(row) for rows in filled for row in rows)
        width = longest if text.dynamic_length else text.context_length
        self.rows = torch.stack(  # [M, K, L]
            [torch.from_numpy(pad_rows(rows, pad_id=text.pad_id, length=width)) for rows in filled]
        )

    def tokens(self, step: int) -> Tensor:
        """Return tokens [K, L] of all phrases, each with its sampled template."""
        num_phrases = self.rows.shape[1]
        return self.rows[self._drawn(step, num_phrases), torch.arange(num_phrases)]

    def of_samples(self, phrases: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the phrase of each sample of this process, each with its sampled template.

        Templates are sampled for the batch of all processes, so they do not depend on the number of processes.
        """
        rank, count = rank_and_count()
        drawn = self._drawn(step, len(phrases) * count)[rank::count]
        return self.rows[drawn, phrases]

    def _drawn(self, step: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        return torch.randint(self.rows.shape[0], (count,), generator=generator)
