"""Encode a list of labels without a cache, for evaluation, promotion and few-shot commands.

The server uses `serve.text.bank` instead, which caches features by prompt and applies the same ensembling rule.
"""

from collections.abc import Callable, Sequence

import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.contract import ScoringContract, TextContract
from serve.scoring import build_bank
from serve.text import prompts
from serve.text.tokenizer import Tokenizer, pad_tokens

BATCH_SIZE = 64  # prompts per call of the text tower

EncodeText = Callable[[Int64Array], Float32Array]  # tokens [R, L] -> text features [R, D]


def encode_bank(
    encode: EncodeText,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    *,
    text: TextContract,
    scoring: ScoringContract,
    has_prompt_head: bool,
) -> Float32Array:
    """Return the bank [M, K, D] of labels, with the templates and the ensembling rule of the contract.

    Raises:
        InvalidVocabulary: a label is invalid or too long for the model, or two labels have the same normal form.
    """
    tokens = tokenizer.encode(prompts.fill(prompts.clean_labels(labels), text.templates))  # template-major
    length = None if text.dynamic_length else text.context_length
    batches = [
        encode(pad_tokens(tokens[start : start + BATCH_SIZE], pad_id=text.pad_id, length=length))
        for start in range(0, len(tokens), BATCH_SIZE)
    ]
    features = np.concatenate(batches).reshape(len(text.templates), len(labels), -1)  # [M, K, D]
    return build_bank(features, scoring, has_prompt_head=has_prompt_head)
