"""Labels that one model's tokenizer makes the same prompt: it folds case, say, or does not know the script.

The normal form of labels (`serve.text.normalization`) holds for every model; what is found here belongs to one model
and is reported, since another model may well tell these labels apart.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from serve.text import prompts
from serve.text.tokenizer import Tokenizer

ROWS_AT_ONCE = 10_000  # of tokens, so that a million labels need little memory
DIGESTS_HELD = 250_000  # of prompts: a vocabulary that changed in one label is compared without tokenizing the others


@dataclass(frozen=True, kw_only=True)
class Merges:
    """Indices of labels that a model cannot tell apart."""

    groups: tuple[tuple[int, ...], ...] = ()  # labels with one prompt
    empty: tuple[int, ...] = ()  # labels that leave nothing in the prompt


class MergeFinder:
    """Finds merged labels of one tokenizer; safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._digests: dict[str, bytes] = {}  # prompt -> digest of its tokens

    def find(self, labels: Sequence[str], template: str) -> Merges:
        """Which labels become the same tokens under a template; blocks."""
        nothing, *digests = self._digests_of(prompts.fill(["", *labels], [template]))
        places: dict[bytes, list[int]] = {}
        for index, digest in enumerate(digests):
            places.setdefault(digest, []).append(index)
        empty = places.pop(nothing, [])
        return Merges(groups=tuple(tuple(group) for group in places.values() if len(group) > 1), empty=tuple(empty))

    def _digests_of(self, filled: Sequence[str]) -> list[bytes]:
        found = {prompt: digest for prompt in filled if (digest := self._digests.get(prompt)) is not None}
        absent = [prompt for prompt in dict.fromkeys(filled) if prompt not in found]
        fresh: dict[str, bytes] = {}
        for start in range(0, len(absent), ROWS_AT_ONCE):
            part = absent[start : start + ROWS_AT_ONCE]
            for prompt, row in zip(part, self._tokenizer.rows(part), strict=True):
                fresh[prompt] = hashlib.blake2b(array("q", row).tobytes(), digest_size=16).digest()
        found |= fresh
        if len(self._digests) + len(fresh) > DIGESTS_HELD:
            self._digests = {}
        if len(fresh) <= DIGESTS_HELD:
            self._digests |= fresh
        return [found[prompt] for prompt in filled]
