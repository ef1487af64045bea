"""Find labels that a model's tokenizer cannot distinguish, e.g. because it folds case or does not know the script.

Labels with the same normal form (`serve.text.normalization`) are duplicates for every model and are rejected. Merged
labels depend on the tokenizer of a model, so they are only reported: another model may distinguish them.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from serve.text import prompts
from serve.text.tokenizer import Tokenizer

TOKENIZE_BATCH_SIZE = 10_000  # prompts; bounds the memory for a million labels
MAX_CACHED_DIGESTS = 250_000  # so that after a change of one label only its prompts are tokenized


@dataclass(frozen=True, kw_only=True)
class MergedLabels:
    """Indices of labels that a model cannot distinguish."""

    groups: tuple[tuple[int, ...], ...] = ()  # labels whose prompts have the same tokens
    empty: tuple[int, ...] = ()  # labels that add no tokens to the template


class MergedLabelFinder:
    """Finds labels that a tokenizer converts to the same tokens; thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._cached_digests: dict[str, bytes] = {}  # prompt -> digest of its tokens

    def find(self, labels: Sequence[str], template: str) -> MergedLabels:
        """Return which labels have the same tokens when filled into a template. This method blocks."""
        empty_digest, *digests = self._compute_digests(prompts.fill(["", *labels], [template]))
        indices: dict[bytes, list[int]] = {}
        for index, digest in enumerate(digests):
            indices.setdefault(digest, []).append(index)
        empty = indices.pop(empty_digest, [])
        return MergedLabels(
            groups=tuple(tuple(group) for group in indices.values() if len(group) > 1), empty=tuple(empty)
        )

    def _compute_digests(self, texts: Sequence[str]) -> list[bytes]:
        """Return the digest of the tokens of each prompt, from the cache or computed."""
        digests = {prompt: digest for prompt in texts if (digest := self._cached_digests.get(prompt)) is not None}
        uncached = [prompt for prompt in dict.fromkeys(texts) if prompt not in digests]
        computed: dict[str, bytes] = {}
        for start in range(0, len(uncached), TOKENIZE_BATCH_SIZE):
            batch = uncached[start : start + TOKENIZE_BATCH_SIZE]
            for prompt, tokens in zip(batch, self._tokenizer.tokenize(batch), strict=True):
                computed[prompt] = hashlib.blake2b(array("q", tokens).tobytes(), digest_size=16).digest()
        digests |= computed
        if len(self._cached_digests) + len(computed) > MAX_CACHED_DIGESTS:
            self._cached_digests = {}
        if len(computed) <= MAX_CACHED_DIGESTS:
            self._cached_digests |= computed
        return [digests[prompt] for prompt in texts]
