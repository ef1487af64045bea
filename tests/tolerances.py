"""How far two computations of the same numbers may lie apart, from the arithmetic and not from a measurement.

A sum of n rounded terms is off by at most `LAMBDA * u * sqrt(n)` of the size of its terms, with a probability of
1 - 2 exp(-LAMBDA**2 / 2), where u is the unit roundoff (Higham and Mary, SIAM J. Sci. Comput. 41, 2019). Processors,
libraries and batch sizes add in different orders, so both of two results are off by that much, independently.
The bound is relative to the largest value of the array: where terms cancel, small values carry the error of large ones.
"""

from typing import Any

import numpy as np

ROUNDOFF = {  # dtype -> u, half the distance from 1 to the next number
    "float64": 2.0**-53,
    "float32": 2.0**-24,  # graphs in fp32, on every runtime
    "bfloat16": 2.0**-9,
}
LAMBDA = 4.0  # fails once in 1,500 numbers at the bound's edge, where few numbers ever are
# Rounded terms on the longest way from input to output
DOT = 2**6  # a product of two feature vectors, and a mean or softmax after it
TOWER = 2**11  # the small towers of tests: 2 layers of (3 + 4 + 4) * width up to 64, and attention over 77 tokens
FULL_TOWER = 2**16  # ViT-B: 12 layers of (768 + 768 + 3072) and attention over 197 tokens
GRADIENT = 2**17  # forwards and backwards through a small tower, summed over all patches of a batch


def tolerance(magnitude: float = 1.0, *, terms: int = TOWER, dtype: str = "float32") -> float:
    """Largest difference of two results whose largest value is `magnitude`.

    Logits are `logit_scale` times a cosine, so their magnitude is the scale, however small the logit. A probability
    moves by at most half of what its logits move.
    """
    return float(2 * LAMBDA * ROUNDOFF[dtype] * np.sqrt(terms) * magnitude)


def assert_close(
    found: Any, expected: Any, *, magnitude: float | None = None, terms: int = TOWER, dtype: str = "float32"
) -> None:
    """Compare arrays or tensors; the magnitude is the largest expected value where none is given."""
    there, here = (np.asarray(item.detach() if hasattr(item, "detach") else item) for item in (found, expected))
    largest = float(np.abs(here).max(initial=0)) if magnitude is None else magnitude
    np.testing.assert_allclose(there, here, rtol=0, atol=tolerance(largest, terms=terms, dtype=dtype))
