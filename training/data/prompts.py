"""Tokenized prompts of phrases, with a template sampled for each phrase at each step."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from serve.contract import TextContract
from serve.errors import ContractError
from serve.text.tokenizer import Tokenizer, clip_tokenizer_json, load_tokenizer, pad_tokens
from training.config import ConfigError
from training.distributed import rank_and_world_size


def clip_tokenizer(text: TextContract) -> Tokenizer:
    """Return CLIP's tokenizer, built from the merges file of the package open_clip."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    package = find_spec("open_clip")  # not imported, because that takes seconds in each loading process
    assert package is not None and package.submodule_search_locations is not None, "the extra `training` installs it"
    merges = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    return Tokenizer(HuggingFaceTokenizer.from_str(clip_tokenizer_json(merges)), text)


def tokenizer_of(text: TextContract, path: Path | None, *, key: str) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`, or CLIP's tokenizer without a path.

    Raises:
        ConfigError: the model does not use CLIP's tokenizer and `path` is None, or the file cannot be read. The message
            begins with `key`.
    """
    if path is None:
        if text.tokenizer != "clip":
            raise ConfigError(f"{key}: the text tower does not use CLIP's tokenizer; give its tokenizer.json")
        return clip_tokenizer(text)
    try:
        return load_tokenizer(path, text)
    except ContractError as error:
        raise ConfigError(f"{key}: {error.message}") from error


class TemplatedPhrases:
    """Tokenized prompts of K phrases with M templates; which templates are sampled depends only on seed and step."""

    def __init__(
        self, phrases: Sequence[str], templates: Sequence[str], *, text: TextContract, seed: int, tokenizer: str = ""
    ) -> None:
        encoder = tokenizer_of(text, Path(tokenizer) if tokenizer else None, key="data.tokenizer")
        self._seed = seed
        sequences = [encoder.encode([template.replace("{}", phrase) for phrase in phrases]) for template in templates]
        longest = max(len(sequence) for of_template in sequences for sequence in of_template)
        length = longest if text.dynamic_length else text.context_length
        self.token_ids = torch.stack(  # [M, K, L]
            [torch.from_numpy(pad_tokens(of_template, pad_id=text.pad_id, length=length)) for of_template in sequences]
        )

    def tokens(self, step: int) -> Tensor:
        """Return tokens [K, L] of all phrases, each with the template that is sampled for it."""
        num_phrases = self.token_ids.shape[1]
        return self.token_ids[self._sample_templates(step, num_phrases), torch.arange(num_phrases)]

    def sample_tokens(self, phrases: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the phrase of each sample of this process, each with a sampled template.

        `phrases` are the phrase indices [b] of the samples. Templates are sampled for the batch of all processes, so
        they do not depend on the number of processes.
        """
        rank, world_size = rank_and_world_size()
        templates = self._sample_templates(step, len(phrases) * world_size)[rank::world_size]
        return self.token_ids[templates, phrases]

    def _sample_templates(self, step: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        return torch.randint(self.token_ids.shape[0], (count,), generator=generator)
