"""Features as float16: the error is what the arithmetic says, for values of every size."""

import numpy as np
import pytest

from serve.arrays import Float32Array
from serve.features import VideoFeatures
from serve.scoring import normalize
from serve.videos.half_precision import MAX_RELATIVE_ERROR, pack_rows, round_features, unpack_rows

RANDOM = np.random.default_rng(0)


def rows(scale: float) -> Float32Array:
    found: Float32Array = (scale * RANDOM.standard_normal((50, 96))).astype(np.float32)
    return found


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e5, 1e30])
def test_each_value_keeps_eleven_bits(scale: float) -> None:
    values = rows(scale)
    found = unpack_rows(pack_rows(values), num_rows=50)
    row_scale = 2 * np.abs(values).max(axis=1, keepdims=True)  # at most, of the power of two
    assert (np.abs(found - values) <= np.maximum(MAX_RELATIVE_ERROR * np.abs(values), 2.0**-25 * row_scale)).all()


def test_the_direction_turns_by_no_more_than_that() -> None:
    values, texts = rows(3.0), normalize(rows(1.0))
    change = normalize(unpack_rows(pack_rows(values), num_rows=50)) @ texts.T - normalize(values) @ texts.T
    assert np.abs(change).max() <= MAX_RELATIVE_ERROR
    assert np.abs(change).max() > 1e-7, "the values are rounded at all"


def test_rounding_twice_is_rounding_once() -> None:
    features = VideoFeatures(
        video_features=rows(1.0), patch_features=rows(1.0).reshape(50, 4, 24), prototype_features=rows(7.0)
    )
    once = round_features(features)
    twice = round_features(once)
    assert once.patch_features is not None and once.patch_features.shape == (50, 4, 24)
    for name in ("video_features", "patch_features", "prototype_features"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))
        assert (getattr(once, name) != getattr(features, name)).any()


def test_rows_of_zeros_stay_zeros() -> None:
    assert not unpack_rows(pack_rows(np.zeros((2, 3), np.float32)), num_rows=2).any()


def test_bytes_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError):
        unpack_rows(pack_rows(rows(1.0))[:-2], num_rows=50)
