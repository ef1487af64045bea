"""A server of its own, whose stored videos are known."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the demo model."""
    with running_server(tmp_path_factory.mktemp("videos"), SERVE_ENGINE="onnxruntime-cpu") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    """A client of that server, which stores nothing yet."""
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        for row in client.get("/v1/videos?page_size=1000").json()["videos"]:
            client.delete(f"/v1/videos/{row['video_id']}").raise_for_status()
        yield client


@pytest.fixture(scope="session")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered actions of four seconds each, one after the other."""
    import numpy as np

    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    frames = []
    for action, colour, seed in (("doing jumping jacks", "blue", 3), ("clapping", "purple", 5)):
        video = render_video(Combination(action, "", colour), "test", seed, size=96)
        left = (video.frames[0].shape[1] - 96) // 2
        places = (np.arange(4 * 24) / 24 * video.fps).astype(int) % len(video.frames)
        frames += [video.frames[place][:, left : left + 96] for place in places]
    path = tmp_path_factory.mktemp("actions") / "actions.mp4"
    write_video(path, frames, fps=24)
    return path


def sent(client: httpx.Client, route: str, path: Path, *, filename: str = "clip.mp4", **options: Any) -> httpx.Response:
    """Send a video with options."""
    files = {"video": (filename, path.read_bytes())}
    return client.post(f"/v1/{route}", files=files, data={"options": json.dumps(options)})


def answered(response: httpx.Response) -> dict[str, Any]:
    """The document of an answer."""
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and kind of a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["type"].removeprefix("/problems/")
