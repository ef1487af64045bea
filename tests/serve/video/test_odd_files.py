"""Every odd and broken file has the outcome a server owes, and the next good clip is answered."""

from collections.abc import AsyncIterator

import pytest

from serve.video.limits import DecodeSettings
from serve.video.workers import DecodePool
from tests.serve.video.conftest import view_request
from tests.serve.video.outcomes import odd_files, outcome
from tests.shared_data import VIDEOS, needs_shared
from tests.waiting import PATIENCE_SECONDS

# Where decord cannot, it says so: the outcome is an error in place of an answer.
DECORD_CANNOT = {
    "av1.webm", "tiny_2x2.mkv", "tall_16x1600.mp4", "animated.gif", "transparent_uneven.gif", "interlaced.mpg",
    "edit_list.mp4", "size_changes.ts", "two_video_streams.mp4",
}  # fmt: skip


@pytest.fixture(params=["pyav", "decord"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[DecodePool]:
    pool = DecodePool(DecodeSettings(decoder=request.param, workers=1, threads=2, deadline_seconds=PATIENCE_SECONDS))
    await pool.start()
    yield pool
    await pool.close()


@needs_shared
async def test_each_odd_file_meets_its_outcome_and_a_good_clip_follows(
    pool: DecodePool, request: pytest.FixtureRequest
) -> None:
    is_decord = request.node.callspec.params["pool"] == "decord"
    missed = []
    for file, expected in odd_files():
        owed = "error" if is_decord and file in DECORD_CANNOT else expected
        result = await outcome(pool, file, owed)
        if not result.is_met:
            missed.append(result)
        good = await pool.views(VIDEOS / "bowling_mesh.mp4", view_request())
        assert good.metadata.num_frames == 51, file
    assert missed == []
    if not is_decord:
        assert pool.restarts == 0  # not one of them needed a kill
