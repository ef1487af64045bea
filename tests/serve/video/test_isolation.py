"""The isolation of decode children: attempts from inside of a child fail, and decoding needs nothing that is denied."""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve.errors import EngineUnavailable
from serve.video.isolation.layers import LAYERS, IsolationReport
from serve.video.workers import DecodePool
from tests import synthetic_video as made
from tests.isolation.attempts import ALLOWED, ATTEMPTS
from tests.isolation.children import prepare_target, run_attempts
from tests.serve.video.conftest import view_request

ROOT = Path(__file__).resolve().parents[3]
# Attempts that need one of these layers to fail; the others fail in every child.
NEEDED = {
    "connect to a port of this machine": {"network_namespace", "landlock", "seccomp"},
    "send a datagram": {"network_namespace", "seccomp"},
    "read another upload": {"chroot", "landlock", "seccomp"},
    "reopen its own upload for writing": {"chroot", "landlock", "seccomp"},
    "create a file": {"chroot", "landlock", "seccomp"},
    "read /proc/PID/environ of the server": {"chroot", "landlock", "seccomp"},
    "execute a program": {"chroot", "landlock", "seccomp"},
    "fork 1000 times": {"seccomp"},
    "trace another process of the server": {"user_namespace", "landlock", "seccomp"},
    "read the memory of another process": {"user_namespace", "chroot", "landlock", "seccomp"},
    "signal another process of the server": {"landlock", "seccomp"},
    "signal the fork server": {"landlock", "seccomp"},
    "use a capability over the machine": {"user_namespace", "capabilities", "seccomp"},
    "enter a namespace with new capabilities": {"seccomp"},
}


def save_picture(path: Path) -> Path:
    Image.fromarray(made.picture(10, width=64, height=48)).save(path)
    return path


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with prepare_target(tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture(scope="module")
def isolated(target: dict[str, Any]) -> tuple[dict[str, str], IsolationReport]:
    return run_attempts(target, layers=LAYERS)


@pytest.fixture(scope="module")
def unrestricted(target: dict[str, Any]) -> dict[str, str]:
    return run_attempts(target, layers=())[0]


@pytest.mark.parametrize("name", list(ATTEMPTS))
def test_an_isolated_child_cannot(name: str, isolated: tuple[dict[str, str], IsolationReport]) -> None:
    outcomes, report = isolated
    if name in NEEDED and not NEEDED[name] & set(report.reached):
        pytest.skip(f"the platform lacks each layer that prevents it: {report.describe_missing()}")
    assert outcomes[name] != ALLOWED


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("landlock", "read another upload"),
        ("landlock", "create a file"),
        ("landlock", "execute a program"),
        ("chroot", "read another upload"),
        ("network_namespace", "connect to a port of this machine"),
        ("seccomp", "connect to a port of this machine"),
        ("seccomp", "fork 1000 times"),
        ("seccomp", "trace another process of the server"),
    ],
)
def test_one_layer_alone_prevents_what_it_is_for(
    layer: str, name: str, target: dict[str, Any], unrestricted: dict[str, str]
) -> None:
    """The other layers would hide a layer without effect."""
    layers = ("no_new_privileges", "user_namespace", layer)
    outcomes, report = run_attempts(target, layers=layers, names=[name])
    if layer in report.missing:
        pytest.skip(f"the platform lacks {layer}: {report.missing[layer]}")
    assert outcomes[name] != ALLOWED
    assert unrestricted[name] == ALLOWED


LATE_IMPORTS = """
import sys
from pathlib import Path
import serve.video.views_job, serve.video.window_job, serve.video.decode_decord, training.data.decoding.jobs
from serve.video.late_modules import load_late_modules
load_late_modules()
from serve.errors import ActserveError
from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from tests.serve.video.conftest import view_request

before = set(sys.modules)
for path in sys.argv[1:]:
    for decoder in ("pyav", "decord"):
        try:
            load_views(Path(path), view_request(), settings=DecodeSettings(decoder=decoder))
        except ActserveError:
            pass
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="decord is installed on Linux only")
def test_decoding_loads_no_module_late(good_clip: Path, tmp_path: Path) -> None:
    """An isolated child cannot load it."""
    files = [good_clip, made.make_truncated(tmp_path / "cut.mp4", faststart=True)]
    files += [save_picture(tmp_path / name) for name in ("picture.png", "picture.jpg", "picture.webp", "picture.avif")]
    run = subprocess.run(
        [sys.executable, "-c", LATE_IMPORTS, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
async def test_each_decoder_works_in_isolation(
    start_pool: Callable[..., Awaitable[DecodePool]], good_clip: Path, tmp_path: Path, decoder: str
) -> None:
    pool = await start_pool(decoder=decoder, isolation="auto")
    assert (await pool.views(good_clip, view_request())).metadata.num_frames == 30
    if decoder == "pyav":
        picture = save_picture(tmp_path / "picture.avif")  # read with Pillow
        assert (await pool.views(picture, view_request())).metadata.num_frames == 1


async def test_a_missing_layer_is_reported_and_refused_if_required(
    start_pool: Callable[..., Awaitable[DecodePool]],
    good_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The fork server runs a module that replaces a function of the library, so one layer fails on every platform."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\ndef refuse(path):\n    raise OSError(1, 'no chroot here')\nos.chroot = refuse\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = await start_pool(isolation="auto")
    assert "chroot" not in pool.isolation
    assert "not isolated by chroot: no chroot here" in caplog.text
    assert (await pool.views(good_clip, view_request())).metadata.num_frames == 30
    with pytest.raises(EngineUnavailable, match=r"is required, but not complete: .*chroot \(no chroot here\)"):
        await start_pool(isolation="required")


async def test_isolation_can_be_switched_off(start_pool: Callable[..., Awaitable[DecodePool]], good_clip: Path) -> None:
    pool = await start_pool(isolation="off")
    assert pool.isolation == []
    assert (await pool.views(good_clip, view_request())).metadata.num_frames == 30
