"""Read an entry as a clip: frames of a video file or a folder of frame images, sampled and cropped by a `ClipRule`.

A training clip depends only on the entry and the seed, not on the worker or the order of entries.
"""

import io
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from serve.arrays import Int64Array, UInt8Array
from serve.video.limits import DecodeSettings
from serve.video.preprocess import crop_frame, opencv_bilinear
from serve.video.sampling import clip_indices
from serve.video.view_request import ViewRequest
from training.config import DataConfig
from training.data.augmentation.augmentations import Frames
from training.data.augmentation.rngs import Rngs, seeded_rngs
from training.data.clips.rules import ClipRule
from training.data.decoding.process import BadVideoError, DecodeProcess
from training.data.frame_folders import FrameFolderError, frame_files
from training.data.lists.rows import Entry

Seed = tuple[int, ...]  # seed of the run, epoch, index, attempt


def sample_rngs(seed: Seed) -> Rngs:
    """Return the random generators of one sample."""
    words = np.random.SeedSequence(seed).generate_state(2)
    return seeded_rngs(int(words[0]), numpy_seed=int(words[1]))


def decode_settings(data: DataConfig) -> DecodeSettings:
    """Return the limits for decoding a video; decoding uses one thread, because several workers decode at a time."""
    return DecodeSettings.model_validate(
        {
            "threads": 1,
            "deadline_seconds": data.deadline_seconds,
            "max_cpu_seconds": max(1, round(2 * data.deadline_seconds)),
        }
    )


class ClipReader:
    """Reads clips of entries; video files are decoded in a decode process that the reader owns."""

    def __init__(self, rule: ClipRule, settings: DecodeSettings, *, decoder: DecodeProcess | None = None) -> None:
        self.rule = rule
        self._settings = settings
        self._decoder = decoder or DecodeProcess(settings)

    def training_clip(self, entry: Entry, seed: Seed) -> tuple[UInt8Array, int]:
        """Return (clip uint8 [T, 3, S, S], label after mirroring), randomly sampled and augmented.

        Raises:
            BadVideoError: the entry cannot be read; the message is the reason.
        """
        self._check_label(entry)
        rngs = sample_rngs(seed)

        def choose(num_frames: int) -> Int64Array:
            nonlocal rngs
            rngs = sample_rngs(seed)  # reset: `choose` is called again if the decoder corrects the number of frames
            return self.rule.training_indices(num_frames, self.rule.sampling.num_segments, rngs)

        frames = self._frames(entry, choose)
        clip, label = self.rule.augment(frames, entry.label, rngs)  # [T, S, S, 3]
        return np.ascontiguousarray(clip.transpose(0, 3, 1, 2)), label  # [T, 3, S, S]

    def test_views(self, entry: Entry, *, num_clips: int = 1, num_crops: int = 1) -> tuple[UInt8Array, int]:
        """Return (views uint8 [V, T, 3, S, S], number of frames of the video), computed as in serving.

        Raises:
            BadVideoError: the entry cannot be read; the message is the reason.
        """
        self._check_label(entry)
        sampling, preprocess = self.rule.sampling, self.rule.preprocess
        if entry.num_frames is None:
            request = ViewRequest(sampling=sampling, preprocess=preprocess, num_clips=num_clips, num_crops=num_crops)
            return self._decoder.views(entry.path, request)
        if entry.num_frames < 1:
            raise BadVideoError("the number of frames in the list is 0; it must be at least 1")
        indices = clip_indices(
            sampling.rule, entry.num_frames, num_segments=sampling.num_segments, num_clips=num_clips
        )  # [num_clips, T]
        files = _image_files(entry)
        images = {int(i): self._read_image(entry, files, int(i)) for i in np.unique(indices)}
        crops = {i: crop_frame(image, preprocess, num_crops=num_crops) for i, image in images.items()}
        clips = [np.stack([crops[int(i)] for i in row], axis=1) for row in indices]  # each [num_crops, T, 3, S, S]
        return np.stack(clips, axis=1).reshape(-1, *clips[0].shape[1:]), entry.num_frames

    def close(self) -> None:
        """End the decode process."""
        self._decoder.close()

    def _check_label(self, entry: Entry) -> None:
        if not 0 <= entry.label < self.rule.num_classes:
            raise BadVideoError(
                f"label {entry.label} is not in the class list; labels must be 0 to {self.rule.num_classes - 1}"
            )

    def _frames(self, entry: Entry, choose: Callable[[int], Int64Array]) -> Frames:
        """Return the chosen frames, resized to the size of the first one, because one crop box applies to all."""
        if entry.num_frames is None:
            frames, _ = self._decoder.frames(entry.path, choose)
        elif entry.num_frames < 1:
            raise BadVideoError("the number of frames in the list is 0; it must be at least 1")
        else:
            files = _image_files(entry)
            frames = [self._read_image(entry, files, int(index)) for index in choose(entry.num_frames)]
        height, width = frames[0].shape[:2]
        return [opencv_bilinear(frame, width, height) for frame in frames]

    def _read_image(self, entry: Entry, files: Sequence[Path], index: int) -> UInt8Array:
        """Return one frame image of an entry, RGB [H, W, 3]."""
        path = files[index]
        try:
            if not entry.encoded_images and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
                raise BadVideoError(f"{path.name} is not a file")
            with Image.open(io.BytesIO(entry.encoded_images[index]) if entry.encoded_images else path) as image:
                if image.width * image.height > self._settings.max_picture_pixels:
                    raise BadVideoError(
                        f"{path.name} has {image.width}x{image.height} pixels; "
                        f"at most {self._settings.max_picture_pixels} are allowed"
                    )
                return np.asarray(image.convert("RGB"))
        except BadVideoError:
            raise
        except FileNotFoundError as error:
            raise BadVideoError(f"{path.name} is missing") from error
        except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
            raise BadVideoError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error


def _image_files(entry: Entry) -> list[Path]:
    """Return the paths of the frame images of an entry, in order.

    Raises:
        BadVideoError: the folder does not contain one series of images, or not as many as the list says.
    """
    if entry.encoded_images:
        return [entry.path / f"{number:05d}" for number in range(len(entry.encoded_images))]
    try:
        return frame_files(entry.path, entry.num_frames or 0)
    except FrameFolderError as error:
        raise BadVideoError(str(error)) from error
