"""Views by the contract's rules: sizes, corners and order, on pictures whose pixels say where they come from."""

import numpy as np
import pytest

from serve.arrays import UInt8Array
from serve.contract import PreprocessContract
from serve.video.preprocess import crop_frame, join_views, normalise, scaled_size


def rule(**changes: object) -> PreprocessContract:
    usual: dict[str, object] = {
        "image_size": 224, "resize": "shortest_side", "short_side": 256, "interpolation": "pillow_bicubic",
        "size_rounding": "truncate", "crop_rounding": "half_even", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
    }  # fmt: skip
    return PreprocessContract(**{**usual, **changes})  # type: ignore[arg-type]


def columns(height: int, width: int) -> UInt8Array:
    """A picture whose red value is the column and whose green value is the row."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.arange(width)[None, :]
    picture[..., 1] = np.arange(height)[:, None]
    return picture


@pytest.mark.parametrize(
    ("height", "width", "rounding", "expected"),
    [(256, 340, "truncate", (256, 340)), (240, 320, "truncate", (256, 341)),
     (320, 240, "half_up", (341, 256)), (100, 199, "half_up", (256, 509))],
)  # fmt: skip
def test_the_longer_side_follows_the_rounding(
    height: int, width: int, rounding: str, expected: tuple[int, int]
) -> None:
    assert scaled_size(height, width, 256, rounding=rounding) == expected


@pytest.mark.parametrize(("rounding", "left"), [("half_even", 2), ("floor", 1)])
def test_an_odd_margin_rounds_as_the_contract_says(rounding: str, left: int) -> None:
    crop = crop_frame(columns(8, 11), rule(image_size=8, short_side=8, crop_rounding=rounding), num_crops=1)
    assert crop[0, 0, 0].tolist() == list(range(left, left + 8))


def test_three_crops_are_first_last_middle_and_the_last_stops_short_of_an_odd_edge() -> None:
    crops = crop_frame(columns(8, 19), rule(image_size=8, short_side=10), num_crops=3)
    assert [int(crop[0, 0, 0]) for crop in crops] == [0, 10, 5]
    crops = crop_frame(columns(19, 8), rule(image_size=8, short_side=10), num_crops=3)
    assert [int(crop[1, 0, 0]) for crop in crops] == [0, 10, 5]


def test_squash_keeps_the_whole_picture() -> None:
    crop = crop_frame(columns(64, 128), rule(image_size=32, short_side=32, resize="squash"), num_crops=1)
    assert crop.shape == (1, 3, 32, 32)
    assert crop[0, 0, 0, 0] < 4 and crop[0, 0, 0, -1] > 123


def test_views_are_crop_major_then_clip() -> None:
    crops = np.zeros((2, 4, 3, 3, 1, 1), np.uint8)  # 2 clips, 4 frames, 3 crops
    for clip in range(2):
        for crop in range(3):
            crops[clip, :, crop] = 10 * crop + clip
    assert join_views(crops)[:, 0, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (16, 1600), (1600, 16), (57, 101)], ids=str)
@pytest.mark.parametrize("interpolation", ["pillow_bicubic", "pillow_bilinear", "opencv_bilinear"])
@pytest.mark.parametrize("num_crops", [1, 3])
def test_every_shape_gives_squares(shape: tuple[int, int], interpolation: str, num_crops: int) -> None:
    crops = crop_frame(
        columns(*shape), rule(image_size=32, short_side=36, interpolation=interpolation), num_crops=num_crops
    )
    assert crops.shape == (num_crops, 3, 32, 32)
    assert crops.dtype == np.uint8


def test_normalising_is_what_the_graph_does() -> None:
    views = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=1)
    assert normalise(views, rule())[:, 0, 0, 0].tolist() == [-2.0, 2.0]
