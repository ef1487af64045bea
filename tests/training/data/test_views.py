"""Augmentation: agreement with torchvision, one decision per clip, and what each switch does."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import ColorJitter

from serve.arrays import UInt8Array
from training.data.augmentation.augmentations import colour_jitter, flip, flip_label, gaussian_blur, grayscale, solarise
from training.data.augmentation.crops import five_boxes, five_crops, ten_crops
from training.data.augmentation.randaugment import OPERATIONS, RandAugment
from training.data.augmentation.rngs import seeded_rngs
from training.data.augmentation.views import ActionClipTrainTransform, XClipTrainTransform
from training.reference_check.frames import synthetic_frame


@pytest.fixture
def frames() -> list[UInt8Array]:
    return [synthetic_frame(60, 80, seed) for seed in range(3)]


@pytest.fixture
def still() -> list[UInt8Array]:
    """The same picture three times: whatever differs between frames was drawn between them."""
    return [synthetic_frame(60, 80, 1)] * 3


@pytest.mark.parametrize("seed", range(4))
def test_colour_jitter_is_torchvisions(seed: int, still: list[UInt8Array]) -> None:
    torch.manual_seed(seed)
    theirs = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    expected = [np.asarray(theirs(Image.fromarray(frame))) for frame in still]
    found = colour_jitter(still, rngs=seeded_rngs(seed))
    for frame, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(frame, other)
    assert (found[0] != found[1]).any()


def test_jitter_of_the_clip_does_not_flicker(still: list[UInt8Array]) -> None:
    found = colour_jitter(still, rngs=seeded_rngs(3), scope="clip")
    assert (found[0] != still[0]).any()
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_the_picture_and_keeps_its_size(name: str, still: list[UInt8Array]) -> None:
    found = RandAugment(num_operations=1, magnitude=9).apply(still[0], [name], rngs=seeded_rngs(0))
    assert found.shape == still[0].shape
    assert found.dtype == np.uint8
    assert (found != still[0]).any()


def test_randaugment_of_the_clip_does_not_flicker(still: list[UInt8Array]) -> None:
    for seed in range(6):
        once = RandAugment(num_operations=2, magnitude=9, scope="clip")(still, rngs=seeded_rngs(seed))
        np.testing.assert_array_equal(once[0], once[2])
    again = RandAugment(num_operations=2, magnitude=9)(still, rngs=seeded_rngs(0))
    assert any((one != other).any() for one, other in itertools.pairwise(again))


def test_recipes_give_squares_and_repeat_from_their_seed(frames: list[UInt8Array]) -> None:
    action = ActionClipTrainTransform(
        size=32, randaugment=RandAugment(num_operations=2, magnitude=9), blur=1, solarisation=1
    )
    cross = XClipTrainTransform(size=32, mirrored_labels={3: 7})
    first, again, other = (action(frames, rngs=seeded_rngs(seed)) for seed in (5, 5, 6))
    assert first.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    labels = {cross(frames, label=3, rngs=seeded_rngs(seed))[1] for seed in range(12)}
    assert labels == {3, 7}
    assert cross(frames, label=3, rngs=seeded_rngs(0))[0].shape == (3, 32, 32, 3)


def test_directional_clips_are_never_mirrored(frames: list[UInt8Array]) -> None:
    for seed in range(12):
        kept = ActionClipTrainTransform(size=32, is_directional=True)
        rngs = seeded_rngs(seed)
        cropped = kept.crop(frames, rngs=rngs.copy_state())
        mirrored = [np.asarray(frame) for frame in flip(cropped)]
        found = kept(frames, rngs=rngs)
        assert not np.array_equal(found, np.stack(mirrored))


def test_labels_are_exchanged_both_ways() -> None:
    assert [flip_label(label, {3: 7}) for label in (3, 7, 1)] == [7, 3, 1]


def test_gray_blur_and_solarise(frames: list[UInt8Array]) -> None:
    gray = grayscale(frames)[0]
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    blurred = gaussian_blur(frames, rngs=seeded_rngs(0))[0]
    assert np.abs(np.diff(blurred.astype(int), axis=1)).sum() < np.abs(np.diff(frames[0].astype(int), axis=1)).sum()
    inverted = solarise(frames)[0]
    bright = frames[0] >= 128
    np.testing.assert_array_equal(inverted[bright], 255 - frames[0][bright])
    np.testing.assert_array_equal(inverted[~bright], frames[0][~bright])


def test_five_and_ten_crops() -> None:
    frame = synthetic_frame(60, 82, 1)
    assert [(box.left, box.top) for box in five_boxes(60, 82, 32)] == [(0, 0), (48, 0), (0, 28), (48, 28), (24, 14)]
    ten = ten_crops(frame, 32)
    assert [item.shape for item in ten] == [(32, 32, 3)] * 10
    for square, mirrored in zip(five_crops(frame, 32), ten[5:], strict=True):
        np.testing.assert_array_equal(square[:, ::-1], mirrored)
