"""Windows of a frame-wise model: every frame is encoded once, and the features are those of the whole graph."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from serve.arrays import Float32Array, UInt8Array
from serve.contract import SamplingContract
from serve.engines.base import FrameGraphs
from serve.engines.frames import EmbeddedFrameGraphs
from serve.errors import ContractError, EngineUnavailable
from serve.features import VideoFeatures
from serve.models.runtime import ModelRuntime, load_runtime
from serve.parity import FULL_PRECISION_TOLERANCE, compare
from serve.settings import ServeSettings
from serve.timeline.clips import ClipEncoder, FusedClipEncoder, WholeClipEncoder, make_clip_encoder
from serve.video.metadata import Timeline
from serve.video.windows import Window, make_grid

FOREVER = float("inf")
PER_RUN = 8


class Counted:
    """Frame graphs that count the frames they encode."""

    def __init__(self, graphs: FrameGraphs) -> None:
        self._graphs = graphs
        self.num_frames = 0

    async def encode(self, frames: UInt8Array) -> Mapping[str, Float32Array]:
        self.num_frames += len(frames)
        assert len(frames) <= PER_RUN
        return await self._graphs.encode(frames)

    async def fuse(self, frame_features: Mapping[str, Float32Array]) -> VideoFeatures:
        return await self._graphs.fuse(frame_features)


@pytest.fixture(params=["tiny@1", "fused"])
async def runtime(request: pytest.FixtureRequest, repository: Path, tmp_path: Path) -> AsyncIterator[ModelRuntime]:
    """CLIP, which averages frames, and ActionCLIP, whose transformer reads their order."""
    settings = ServeSettings(repository=repository, engine="onnxruntime-cpu", cache_dir=tmp_path / "cache", threads=1)
    found = await load_runtime(settings, request.param)
    yield found
    await found.close()


def windows_of(sampling: SamplingContract) -> tuple[list[Window], list[int]]:
    """Windows that overlap, and the frames they show."""
    grid = make_grid(Timeline(np.arange(50) / 10, 5.0), sampling, window_seconds=2.0, stride_seconds=0.5)
    return [grid.window(number) for number in range(len(grid))], np.unique(grid.samples).tolist()


async def encoded(encoder: ClipEncoder, windows: list[Window], indices: list[int], frames: UInt8Array) -> Float32Array:
    await encoder.add(indices[: len(indices) // 2], frames[: len(indices) // 2])
    await encoder.add(indices[len(indices) // 2 :], frames[len(indices) // 2 :])
    return np.concatenate([(await encoder.encode([window])).video_features for window in windows])


async def test_fused_clips_have_the_features_of_whole_ones(runtime: ModelRuntime) -> None:
    contract = runtime.contract
    windows, indices = windows_of(contract.sampling)
    size = contract.preprocess.image_size
    frames = np.random.default_rng(0).integers(0, 256, (len(indices), 3, size, size), dtype=np.uint8)
    assert isinstance(make_clip_encoder(runtime.engine, deadline=FOREVER, windows_per_run=2), FusedClipEncoder)
    assert runtime.engine.frame_graphs is not None
    counted = Counted(runtime.engine.frame_graphs)
    fused = await encoded(
        FusedClipEncoder(runtime.engine, counted, num_segments=contract.sampling.num_segments, frames_per_run=PER_RUN),
        windows,
        indices,
        frames,
    )
    whole = await encoded(WholeClipEncoder(runtime.engine, deadline=FOREVER), windows, indices, frames)
    assert counted.num_frames == len(indices) < len(windows) * contract.sampling.num_segments
    assert compare(fused, whole).relative_difference <= FULL_PRECISION_TOLERANCE  # fp32 sums in another order
    assert np.abs(whole[0] - whole[-1]).max() > 100 * np.abs(fused - whole).max()


async def test_a_still_is_a_clip_of_one_frame(runtime: ModelRuntime) -> None:
    contract = runtime.contract
    size = contract.preprocess.image_size
    frames = np.random.default_rng(1).integers(0, 256, (2, 3, size, size), dtype=np.uint8)
    encoder = make_clip_encoder(runtime.engine, deadline=FOREVER, windows_per_run=1)
    assert isinstance(encoder, FusedClipEncoder)
    await encoder.add([3, 7], frames)
    found = await encoder.encode_stills([7, 3])
    clips = np.repeat(frames[::-1, None], contract.sampling.num_segments, axis=1)  # [2, T, 3, S, S]
    expected = await runtime.engine.encode_video(clips, deadline=FOREVER)
    assert compare(found.video_features, expected.video_features).relative_difference <= FULL_PRECISION_TOLERANCE


async def test_dropped_frames_are_gone(runtime: ModelRuntime) -> None:
    contract = runtime.contract
    windows, indices = windows_of(contract.sampling)
    size = contract.preprocess.image_size
    for encoder in (
        WholeClipEncoder(runtime.engine, deadline=FOREVER),
        make_clip_encoder(runtime.engine, deadline=FOREVER, windows_per_run=1),
    ):
        await encoder.add(indices, np.zeros((len(indices), 3, size, size), np.uint8))
        assert encoder.drop(indices[3]) == len(indices) - 3
        with pytest.raises(EngineUnavailable, match="left out"):
            await encoder.encode(windows[:1])


async def test_halves_of_another_model_are_refused(runtime: ModelRuntime, repository: Path) -> None:
    graphs = runtime.engine.frame_graphs
    assert isinstance(graphs, EmbeddedFrameGraphs)

    async def other(clips: UInt8Array) -> Mapping[str, Float32Array]:
        features = await runtime.engine.encode_video(clips[:, ::-1], deadline=FOREVER)
        return {"video_features": features.video_features + 1}

    graphs._run_whole_graph = other
    size = runtime.contract.preprocess.image_size
    with pytest.raises(ContractError, match="differs from the whole video graph"):
        await graphs.encode(np.zeros((1, 3, size, size), np.uint8))
