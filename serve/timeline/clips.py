"""Encode overlapping windows: frame-wise models encode each frame once, other models encode each window as a clip."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from serve.arrays import Float32Array, UInt8Array
from serve.background import encode_views, turn
from serve.engines.base import Engine, FrameGraphs
from serve.errors import EngineUnavailable, Overloaded
from serve.features import VideoFeatures
from serve.video.windows import Window

RETRY_SECONDS = 0.05  # pause before a run is tried again because the queue of the engine is full
Value = TypeVar("Value")


class ClipEncoder(Protocol):
    """Receives frames in ascending order and encodes windows of them."""

    async def add(self, indices: Sequence[int], frames: UInt8Array) -> None:
        """Add frames [N, 3, S, S] with their indices [N]."""

    async def encode(self, windows: Sequence[Window]) -> VideoFeatures:
        """Encode windows whose frames were added and not dropped.

        Raises:
            EngineUnavailable: a frame of a window is missing.
        """

    def drop(self, first_needed_frame: int) -> int:
        """Drop the frames before index `first_needed_frame`; return the number of remaining frames."""


class WholeClipEncoder:
    """Encodes each window as an independent clip, batched together with interactive requests."""

    def __init__(self, engine: Engine, *, deadline: float) -> None:
        self._engine = engine
        self._deadline = deadline
        self._frames: dict[int, UInt8Array] = {}  # [3, S, S]

    async def add(self, indices: Sequence[int], frames: UInt8Array) -> None:
        self._frames |= dict(zip(indices, frames, strict=True))

    async def encode(self, windows: Sequence[Window]) -> VideoFeatures:
        clips = np.stack([np.stack(_select(self._frames, window)) for window in windows])  # [V, T, 3, S, S]
        return await _retry_when_overloaded(lambda: encode_views(self._engine, clips, deadline=self._deadline))

    def drop(self, first_needed_frame: int) -> int:
        self._frames = {index: frame for index, frame in self._frames.items() if index >= first_needed_frame}
        return len(self._frames)


class FusedClipEncoder:
    """Encodes each frame once, and fuses the frame features of each window."""

    def __init__(self, engine: Engine, graphs: FrameGraphs, *, num_segments: int, frames_per_run: int) -> None:
        self._engine = engine
        self._graphs = graphs
        self._num_segments = num_segments  # T
        self._frames_per_run = frames_per_run
        self._features: dict[int, dict[str, Float32Array]] = {}  # frame index -> tensor name -> features of one frame

    async def add(self, indices: Sequence[int], frames: UInt8Array) -> None:
        for start in range(0, len(indices), self._frames_per_run):
            stop = start + self._frames_per_run
            async with turn(self._engine):
                encoded = await self._graphs.encode(frames[start:stop])
            for offset, index in enumerate(indices[start:stop]):
                self._features[index] = {name: values[offset] for name, values in encoded.items()}

    async def encode(self, windows: Sequence[Window]) -> VideoFeatures:
        return await self._fuse([_select(self._features, window) for window in windows])

    async def encode_stills(self, indices: Sequence[int]) -> VideoFeatures:
        """Encode N clips, each of which repeats one frame."""
        return await self._fuse([[self._features[index]] * self._num_segments for index in indices])

    async def _fuse(self, clips: Sequence[Sequence[Mapping[str, Float32Array]]]) -> VideoFeatures:
        """Fuse clips, given as lists of frame features."""
        names = clips[0][0].keys()
        features = {name: np.stack([np.stack([frame[name] for frame in clip]) for clip in clips]) for name in names}
        async with turn(self._engine):
            return await self._graphs.fuse(features)  # each [N, T, ...]

    def drop(self, first_needed_frame: int) -> int:
        self._features = {index: features for index, features in self._features.items() if index >= first_needed_frame}
        return len(self._features)


def make_clip_encoder(engine: Engine, *, deadline: float, windows_per_run: int) -> ClipEncoder:
    """Return a `FusedClipEncoder` if the engine has frame graphs, otherwise a `WholeClipEncoder`."""
    if engine.frame_graphs is None:
        return WholeClipEncoder(engine, deadline=deadline)
    num_segments = engine.contract.sampling.num_segments
    return FusedClipEncoder(
        engine, engine.frame_graphs, num_segments=num_segments, frames_per_run=windows_per_run * num_segments
    )


def _select(values: Mapping[int, Value], window: Window) -> list[Value]:
    """Return the values of the window's frames."""
    try:
        return [values[index] for index in window.frame_indices]
    except KeyError as error:
        raise EngineUnavailable("the decoder left out a frame of a window") from error


async def _retry_when_overloaded(run: Callable[[], Awaitable[Value]]) -> Value:
    """Run, and repeat while interactive requests fill the queue of the engine."""
    while True:
        try:
            return await run()
        except Overloaded:
            await asyncio.sleep(RETRY_SECONDS)
