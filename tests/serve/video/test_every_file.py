"""Every file at hand through the real server: an answer or a clear refusal, never a failure of the server."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve.video.workers import DecodePool
from tests import synthetic_video as made
from tests.serve.video.conftest import view_request
from tests.serve.video.outcomes import outcome_of
from tests.shared_data import FIELD, ODD, needs_shared
from tests.synthetic_heif import make_heif, quadrants

FILES = sorted(path for folder in (FIELD, ODD) for path in folder.glob("*") if path.name != "index.csv")
SHOWN = {  # width, height and number of frames of the files whose outcome is owed
    "exif6.jpg": (240, 320, 1),
    "exif_mjpeg.avi": (320, 240, 20),
    "anim.png": (160, 120, 25),
    "anim.webp": (160, 120, 25),
    "aux_first_disabled.mp4": (320, 240, 50),
}


@needs_shared
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_answered_or_refused(http: httpx.Client, path: Path) -> None:
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream})
    answer = response.json()
    assert response.status_code in (200, 415, 422), answer
    if response.status_code == 200:
        sampling = answer["sampling"]
        owed = SHOWN.get(path.name)
        assert owed in (None, (sampling["width"], sampling["height"], sampling["num_frames"]))
    else:
        assert path.name not in SHOWN
        assert answer["type"] != "/problems/decoder-fault"  # no library failed in a way that is not foreseen
        assert answer["detail"]


def _seeds(folder: Path) -> Iterator[Path]:
    for suffix in ("png", "webp", "avif", "gif"):
        yield made.make_animation(folder / f"animation.{suffix}")
    for suffix in ("jpg", "png", "webp", "avif"):
        yield made.make_oriented_picture(folder / f"still.{suffix}", 6)
    yield made.make_picture(folder / "still.bmp")
    yield make_heif(folder / "still.heic", [quadrants()])
    yield made.make_camera_video(folder / "camera.avi", 6)
    yield made.make_video(folder / "turned.mov", rotation=90, hflip=True)


@pytest.mark.parametrize("count", [10, pytest.param(300, marks=pytest.mark.slow)])
async def test_mutated_pictures_end_in_an_answer_or_a_clear_error(
    tmp_path: Path, count: int, start_pool: object
) -> None:
    pool: DecodePool = await start_pool(deadline_seconds=20.0)  # type: ignore[operator]
    random = np.random.default_rng(20261125)
    path = tmp_path / "mutated"
    for seed in _seeds(tmp_path):
        data = seed.read_bytes()
        assert (await pool.views(seed, view_request())).metadata.num_frames > 0
        for _ in range(count):
            path.write_bytes(made.mutated(data, random))
            result = await outcome_of(pool, path)
            assert result.status in (200, 415, 422), (seed.name, result)
    assert pool.faults == 0
