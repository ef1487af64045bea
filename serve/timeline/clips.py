"""Features of overlapping windows: from shared frames where the model encodes frames one by one, else clip by clip."""

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

PAUSE_SECONDS = 0.05  # before a run is tried again because interactive requests fill the queue
Kept = TypeVar("Kept")
Item = TypeVar("Item")


class ClipEncoder(Protocol):
    """Takes frames in ascending order and encodes windows over them."""

    async def add(self, indices: Sequence[int], frames: UInt8Array) -> None:
        """Take frames [N, 3, S, S]."""

    async def encode(self, windows: Sequence[Window]) -> VideoFeatures:
        """Encode windows whose frames are there."""

    def drop(self, keep_from: int) -> int:
        """Drop the frames before an index; return how many are left."""


class WholeClips:
    """Encodes each window as a clip of its own, by the batches of interactive requests."""

    def __init__(self, engine: Engine, *, deadline: float) -> None:
        self._engine = engine
        self._deadline = deadline
        self._frames: dict[int, UInt8Array] = {}  # [3, S, S]

    async def add(self, indices: Sequence[int], frames: UInt8Array) -> None:
        self._frames |= dict(zip(indices, frames, strict=True))

    async def encode(self, windows: Sequence[Window]) -> VideoFeatures:
        clips = np.stack([np.stack(_chosen(self._frames, window)) for window in windows])  # [V, T, 3, S, S]
        return await _in_turn(lambda: encode_views(self._engine, clips, deadline=self._deadline))

    def drop(self, keep_from: int) -> int:
        self._frames = {index: frame for index, frame in self._frames.items() if index >= keep_from}
        return len(self._frames)


class FusedClips:
    """Encodes each frame once, and fuses the clips of windows from the rows of their frames."""

    def __init__(self, engine: Engine, graphs: FrameGraphs, *, num_segments: int, frames_per_run: int) -> None:
        self._engine = engine
        self._graphs = graphs
        self._num_segments = num_segments  # T
        self._frames_per_run = frames_per_run
        self._rows: dict[int, dict[str, Float32Array]] = {}

    async def add(self, indices: Sequence[int], frames: UInt8Array) -> None:
        for start in range(0, len(indices), self._frames_per_run):
            stop = start + self._frames_per_run
            async with turn(self._engine):
                rows = await self._graphs.encode(frames[start:stop])
            for place, index in enumerate(indices[start:stop]):
                self._rows[index] = {name: values[place] for name, values in rows.items()}

    async def encode(self, windows: Sequence[Window]) -> VideoFeatures:
        chosen = [_chosen(self._rows, window) for window in windows]
        names = chosen[0][0].keys()
        return await self._fuse(
            {name: np.stack([np.stack([row[name] for row in rows]) for rows in chosen]) for name in names}  # [V, T, ..]
        )

    async def encode_stills(self, indices: Sequence[int]) -> VideoFeatures:
        """Encode clips [N] that show one frame all the time."""
        names = self._rows[indices[0]].keys()
        return await self._fuse(
            {
                name: np.stack([np.stack([self._rows[index][name]] * self._num_segments) for index in indices])
                for name in names
            }  # [N, T, ...]
        )

    async def _fuse(self, rows: dict[str, Float32Array]) -> VideoFeatures:
        async with turn(self._engine):
            return await self._graphs.fuse(rows)

    def drop(self, keep_from: int) -> int:
        self._rows = {index: row for index, row in self._rows.items() if index >= keep_from}
        return len(self._rows)


def clip_encoder(engine: Engine, *, deadline: float, windows_per_run: int) -> ClipEncoder:
    """Return the encoder for an engine."""
    if engine.frame_graphs is None:
        return WholeClips(engine, deadline=deadline)
    num_segments = engine.contract.sampling.num_segments
    return FusedClips(
        engine, engine.frame_graphs, num_segments=num_segments, frames_per_run=windows_per_run * num_segments
    )


def _chosen(kept: Mapping[int, Kept], window: Window) -> list[Kept]:
    try:
        return [kept[index] for index in window.frame_indices]
    except KeyError as error:
        raise EngineUnavailable("the decoder left out a frame") from error


async def _in_turn(run: Callable[[], Awaitable[Item]]) -> Item:
    """Run; wait while interactive requests fill the queue of the engine."""
    while True:
        try:
            return await run()
        except Overloaded:
            await asyncio.sleep(PAUSE_SECONDS)
