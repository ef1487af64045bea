"""Dataset of clips that are rendered during training; each clip is used once."""

import itertools
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from serve.arrays import UInt8Array
from serve.contract import PreprocessContract
from serve.video.preprocess import crop_frame
from training.demo.captions import Combination, seen
from training.demo.scenes import Scene, draw_scene, make_generator, make_scene

SHORT_SIDE_RANGE = (96, 168)  # pixels, shorter side of rendered training frames

# relative sampling frequency of actions that differ from others in few pixels; 1 for other actions in place
SAMPLING_WEIGHTS = {
    "waving one arm": 1.5,
    "waving both arms": 1.5,
    "clapping": 1.5,
    "drinking": 1.5,
    "waving in": 1.5,
    "waving off": 1.5,
}


def render_clip(
    scene: Scene, num_frames: int, *, rule: PreprocessContract, jitter: float, quality: int | None
) -> UInt8Array:
    """Render a clip [T, 3, S, S] of a scene at the segment centres, shifted by `jitter` segments.

    With `quality` each frame is compressed as JPEG with this quality, to simulate the artefacts of a video codec.
    """
    clip = []
    for i in range(num_frames):
        frame = draw_scene(scene, min(1.0, max(0.0, (i + 0.5 + jitter) / num_frames)))
        if quality is not None:
            encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            frame = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        clip.append(crop_frame(frame, rule, num_crops=1)[0])
    return np.stack(clip)


class RenderedClips(IterableDataset[tuple[Tensor, int]]):
    """Infinite dataset of (clip uint8 [T, 3, S, S], index of its combination).

    The combinations are `shown`, by default `seen()`; difficult ones are sampled more often (`SAMPLING_WEIGHTS`).
    Clip i has the seed `first_seed` + i for any number of workers, so that a run can be resumed: worker w of n renders
    the batches w, w + n, ... of `batch_size` clips.
    """

    def __init__(
        self,
        *,
        num_frames: int,
        rule: PreprocessContract,
        first_seed: int,
        batch_size: int = 1,
        shown: Sequence[Combination] | None = None,
    ) -> None:
        super().__init__()
        self._num_frames = num_frames
        self._rule = rule
        self._first_seed = first_seed
        self._batch_size = batch_size
        self._combinations = tuple(shown or seen())
        weights = np.array(
            [2.0 if item.direction else SAMPLING_WEIGHTS.get(item.action, 1.0) for item in self._combinations]
        )
        self._weights = weights / weights.sum()

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        worker = get_worker_info()
        offset, step = (worker.id, worker.num_workers) if worker else (0, 1)
        cv2.setNumThreads(1)
        for batch in itertools.count(offset, step):
            first = self._first_seed + batch * self._batch_size
            yield from (self.clip(seed) for seed in range(first, first + self._batch_size))

    def clip(self, seed: int) -> tuple[Tensor, int]:
        """Return (clip, index of its combination) for a seed."""
        random = make_generator("train", -seed - 1)  # independent of the scene's generator
        index = int(random.choice(len(self._combinations), p=self._weights))
        scene = make_scene(self._combinations[index], "train", seed, short_side=int(random.integers(*SHORT_SIDE_RANGE)))
        quality = int(random.integers(30, 95)) if random.random() < 0.5 else None
        jitter = float(random.uniform(-0.25, 0.25))
        return torch.from_numpy(
            render_clip(scene, self._num_frames, rule=self._rule, jitter=jitter, quality=quality)
        ), index

    def label(self, index: int) -> Combination:
        """Return the combination with this index."""
        return self._combinations[index]
