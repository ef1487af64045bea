"""Read an entry as a clip: frames of a folder or a video file, sampled and cropped by a `ClipRule`.

A training clip depends only on the entry and its seed, not on the worker or the order.
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

Seed = tuple[int, ...]  # run's seed, epoch, index, attempt


def sample_rngs(seed: Seed) -> Rngs:
    """Return the random generators of one sample."""
    words = np.random.SeedSequence(seed).generate_state(2)
    return seeded_rngs(int(words[0]), numpy_seed=int(words[1]))


def decode_settings(data: DataConfig) -> DecodeSettings:
    """Return the limits of decoding a video; one thread, since each worker decodes."""
    return DecodeSettings.model_validate(
        {
            "threads": 1,
            "deadline_seconds": data.deadline_seconds,
            "max_cpu_seconds": max(1, round(2 * data.deadline_seconds)),
        }
    )


class ClipReader:
    """Reads clips of entries; owns a decode process."""

    def __init__(self, rule: ClipRule, settings: DecodeSettings, *, decoder: DecodeProcess | None = None) -> None:
        self.rule = rule
        self._settings = settings
        self._decoder = decoder or DecodeProcess(settings)

    def training_clip(self, entry: Entry, seed: Seed) -> tuple[UInt8Array, int]:
        """Return (clip [T, 3, S, S], label after mirroring), randomly sampled and augmented.

        Raises:
            BadVideoError: the entry cannot be read; the message is the reason.
        """
        self._check_label(entry)
        rngs = sample_rngs(seed)

        def choose(num_frames: int) -> Int64Array:
            nonlocal rngs
            rngs = sample_rngs(seed)  # called again if the decoder corrects the number of frames
            return self.rule.training_indices(num_frames, self.rule.sampling.num_segments, rngs)

        frames = self._frames(entry, choose)
        clip, label = self.rule.training_views(frames, entry.label, rngs)  # [T, S, S, 3]
        return np.ascontiguousarray(clip.transpose(0, 3, 1, 2)), label  # [T, 3, S, S]

    def test_views(self, entry: Entry, *, num_clips: int = 1, num_crops: int = 1) -> tuple[UInt8Array, int]:
        """Return (views [V, T, 3, S, S], number of frames of the video), exactly as in serving.

        Raises:
            BadVideoError: the entry cannot be read; the message is the reason.
        """
        self._check_label(entry)
        sampling, preprocess = self.rule.sampling, self.rule.preprocess
        if entry.num_frames is None:
            request = ViewRequest(sampling=sampling, preprocess=preprocess, num_clips=num_clips, num_crops=num_crops)
            return self._decoder.views(entry.path, request)
        if entry.num_frames < 1:
            raise BadVideoError("the list says 0 frames")
        indices = clip_indices(
            sampling.rule, entry.num_frames, num_segments=sampling.num_segments, num_clips=num_clips
        )  # [num_clips, T]
        files = _files(entry)
        pictures = {int(i): self._picture(entry, files, int(i)) for i in np.unique(indices)}
        crops = {i: crop_frame(picture, preprocess, num_crops=num_crops) for i, picture in pictures.items()}
        rows = [np.stack([crops[int(i)] for i in row], axis=1) for row in indices]  # each [num_crops, T, 3, S, S]
        return np.stack(rows, axis=1).reshape(-1, *rows[0].shape[1:]), entry.num_frames

    def close(self) -> None:
        """End the decode process."""
        self._decoder.close()

    def _check_label(self, entry: Entry) -> None:
        if not 0 <= entry.label < self.rule.num_classes:
            raise BadVideoError(f"label {entry.label} lies outside the class list of {self.rule.num_classes}")

    def _frames(self, entry: Entry, choose: Callable[[int], Int64Array]) -> Frames:
        """Return the chosen frames, all in the size of the first one, since one crop box applies to all."""
        if entry.num_frames is None:
            frames, _ = self._decoder.frames(entry.path, choose)
        elif entry.num_frames < 1:
            raise BadVideoError("the list says 0 frames")
        else:
            files = _files(entry)
            frames = [self._picture(entry, files, int(index)) for index in choose(entry.num_frames)]
        height, width = frames[0].shape[:2]
        return [opencv_bilinear(frame, width, height) for frame in frames]

    def _picture(self, entry: Entry, files: Sequence[Path], index: int) -> UInt8Array:
        """Return one picture of an entry, RGB [H, W, 3]."""
        path = files[index]
        try:
            if not entry.packed and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
                raise BadVideoError(f"{path.name} is not a file")
            with Image.open(io.BytesIO(entry.packed[index]) if entry.packed else path) as picture:
                if picture.width * picture.height > self._settings.max_picture_pixels:
                    raise BadVideoError(f"{path.name} has {picture.width}x{picture.height} pixels")
                return np.asarray(picture.convert("RGB"))
        except BadVideoError:
            raise
        except FileNotFoundError as error:
            raise BadVideoError(f"{path.name} is missing") from error
        except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
            raise BadVideoError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error


def _files(entry: Entry) -> list[Path]:
    """Return the picture files of an entry in order.

    Raises:
        BadVideoError: the folder is not a series with the number of pictures of the list.
    """
    if entry.packed:
        return [entry.path / f"{number:05d}" for number in range(len(entry.packed))]
    try:
        return frame_files(entry.path, entry.num_frames or 0)
    except FrameFolderError as error:
        raise BadVideoError(str(error)) from error
