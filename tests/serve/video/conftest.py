"""Fixtures of decoding: what is asked of a video, a pool of one child, an independent ffmpeg."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serve.contract import PreprocessContract, SamplingContract
from serve.video.limits import DecodeSettings
from serve.video.workers import DecodePool, ViewRequest
from tests.synthetic_video import make_video

PoolMaker = Callable[..., "object"]


def view_request(*, size: int = 32, segments: int = 8, clips: int = 1, crops: int = 1) -> ViewRequest:
    """What X-CLIP's contract asks, at a small size."""
    rule = PreprocessContract(
        image_size=size, resize="shortest_side", short_side=size, interpolation="opencv_bilinear",
        size_rounding="half_up", crop_rounding="floor", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    return ViewRequest(
        sampling=SamplingContract(rule="centres", num_segments=segments),
        preprocess=rule,
        num_clips=clips,
        num_crops=crops,
    )


@pytest.fixture
def request_of_views() -> Callable[..., ViewRequest]:
    """Makes view requests."""
    return view_request


@pytest.fixture
async def start_pool() -> AsyncIterator[Callable[..., object]]:
    """Start pools, of one child by default, and close them afterwards."""
    pools: list[DecodePool] = []

    async def start(**settings: object) -> DecodePool:
        pool = DecodePool(DecodeSettings.model_validate({"workers": 1, "threads": 2, **settings}))
        await pool.start()
        pools.append(pool)
        return pool

    yield start
    for pool in pools:
        await pool.close()


@pytest.fixture(scope="session")
def good_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames, 64x48."""
    return make_video(tmp_path_factory.mktemp("clips") / "good.mp4")
