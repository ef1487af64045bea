"""Text features of a list of labels in one go, for programs that keep none: evaluation, promotion, few-shot.

The server's own bank (`serve.text.bank`) keeps features by prompt and joins them by the same rule.
"""

from collections.abc import Callable, Sequence

import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.contract import ScoringContract, TextContract
from serve.scoring import build_bank
from serve.text import prompts
from serve.text.tokenizer import Tokenizer, pad_rows

ROWS_AT_ONCE = 64  # prompts

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
    """Return the bank [M, K, D] of labels under the contract's templates, by its ensembling rule.

    Raises:
        InvalidVocabulary: a label that cannot be one or is too long, or two that read the same.
    """
    rows = tokenizer.encode(prompts.fill(prompts.check_labels(labels), text.templates))  # template-major
    length = None if text.dynamic_length else text.context_length
    parts = [
        encode(pad_rows(rows[start : start + ROWS_AT_ONCE], pad_id=text.pad_id, length=length))
        for start in range(0, len(rows), ROWS_AT_ONCE)
    ]
    features = np.concatenate(parts).reshape(len(text.templates), len(labels), -1)  # [M, K, D]
    return build_bank(features, scoring, has_prompt_head=has_prompt_head)
