"""Fetching from a hub and from an address: whole, broken off, resumed, damaged, without a network, without room."""

import errno
import fcntl
import json
import os
import re
import resource
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest

from serve import files
from tests.hub_server import COMMIT, Hub, hub_server, sha256
from tests.running_server import ROOT
from training.checkpoints import downloads
from training.checkpoints.downloads import (
    CachedFile,
    DownloadError,
    RemoteFileNotFoundError,
    fetch_from_hub,
    fetch_url,
    hash_in_url,
)

REPO, NAME = "timm/PE-Tiny", "open_clip_model.safetensors"
SIZE = 3_000_000
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one large file, which huggingface_hub takes for its own."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(SIZE))
    with hub_server() as running:
        running.add(f"{REPO}/{NAME}", large)
        use_endpoint(monkeypatch, running.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what a cut loses at most
        yield running


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """What the variable HF_ENDPOINT does before huggingface_hub is imported."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def get(cache: Path) -> CachedFile:
    return fetch_from_hub(REPO, [NAME], cache=cache)


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = get(cache)
    assert first.path.read_bytes() == hub.files[f"{REPO}/{NAME}"].read_bytes()
    assert first.remote.revision == COMMIT
    assert first.remote.digest == sha256(first.path)
    assert first.remote.url == f"{hub.endpoint}/{REPO}/{NAME}"
    assert get(cache).path == first.path
    assert hub.ranges() == [""], "the second time its metadata was asked for alone"
    assert leftovers(cache) == [NAME, f"{NAME}.json"]
    assert "secret" not in (first.path.parent / f"{NAME}.json").read_text()


def test_a_small_file_has_the_hash_that_git_gives_it(hub: Hub, tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"pad_token": "<pad>"}))
    hub.add(f"{REPO}/tokenizer_config.json", config)
    found = fetch_from_hub(REPO, ["tokenizer_config.json"], cache=tmp_path / "cache")
    assert found.path.read_bytes() == config.read_bytes()
    assert re.fullmatch("[0-9a-f]{40}", found.remote.digest or "")


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = SIZE // 3, 2
    found = get(tmp_path / "cache")
    assert sha256(found.path) == found.remote.digest
    first, second = (int(given.removeprefix("bytes=").rstrip("-")) for given in hub.ranges()[1:])
    assert hub.ranges()[0] == "" and 0 < first < second < SIZE


def test_the_next_run_goes_on_where_a_download_broke_off(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hub.cut_after, hub.cuts, hub.status_after_cuts = SIZE // 3, 1, 503
    with pytest.raises(DownloadError, match=r"failed after 1 MB of 3 MB: the server returned 503.*resumes there"):
        get(cache)
    (partial,) = leftovers(cache)
    assert partial.endswith(".partial"), "nothing lies under the file's own name"
    received = next(cache.rglob(partial)).stat().st_size
    assert 0 < received < SIZE
    hub.cut_after, hub.status_after_cuts, hub.requests[:] = None, 200, []
    found = get(cache)
    assert hub.ranges() == [f"bytes={received}-"]
    assert sha256(found.path) == found.remote.digest
    assert leftovers(cache) == [NAME, f"{NAME}.json"]


def test_a_part_of_another_content_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hub.cut_after, hub.cuts, hub.status_after_cuts = SIZE // 3, 1, 503
    with pytest.raises(DownloadError):
        get(cache)
    hub.cut_after, hub.status_after_cuts, hub.requests[:] = None, 200, []
    hub.files[f"{REPO}/{NAME}"].write_bytes(os.urandom(SIZE))
    found = get(cache)
    assert hub.ranges() == [""]
    assert sha256(found.path) == found.remote.digest
    assert leftovers(cache) == [NAME, f"{NAME}.json"]


def test_a_content_with_another_hash_is_deleted(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hub.announced[f"{REPO}/{NAME}"] = "0" * 64
    with pytest.raises(DownloadError, match=r"the hash must be 0{64}, got the SHA-256 [0-9a-f]{64}; .*deleted"):
        get(cache)
    assert leftovers(cache) == []
    hub.announced.clear()
    assert sha256(get(cache).path) == sha256(hub.files[f"{REPO}/{NAME}"])


def test_a_file_damaged_in_the_cache_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = get(cache).path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert get(cache).path.read_bytes() == content
    assert hub.ranges() == ["", ""]


def test_a_new_commit_replaces_the_file(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    get(cache)
    hub.files[f"{REPO}/{NAME}"].write_bytes(os.urandom(SIZE))
    assert sha256(get(cache).path) == sha256(hub.files[f"{REPO}/{NAME}"])


@pytest.mark.parametrize("status", [500, 503, 429, 403])
def test_a_hub_that_refuses_is_named(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.status = status
    with pytest.raises(DownloadError) as error:
        get(tmp_path / "cache")
    start = f"{hub.endpoint}/{REPO}/{NAME} cannot be downloaded: the server returned {status}"
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


def test_without_a_network(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    path = get(cache).path
    with hub_server() as gone:
        endpoint = gone.endpoint
    (cache / f"127.0.0.1_{hub.port}").rename(cache / endpoint.removeprefix("http://").replace(":", "_"))
    use_endpoint(monkeypatch, endpoint)
    assert get(cache).path.name == path.name, "what was fetched before serves"
    with pytest.raises(DownloadError, match=r"cannot be downloaded: .*refused; check the network"):
        get(tmp_path / "empty")
    assert leftovers(tmp_path / "empty") == []


def test_offline_mode_is_named(hub: Hub, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom training.checkpoints.downloads import fetch_from_hub\n"
        f"fetch_from_hub({REPO!r}, [{NAME!r}], cache=Path({str(tmp_path / 'cache')!r}))"
    )
    variables = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "1"}
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=variables)
    assert "cannot be downloaded: HF_HUB_OFFLINE is set" in left.stderr
    assert hub.requests == []


def test_names_are_tried_in_order_and_only_absence_goes_on(hub: Hub, tmp_path: Path) -> None:
    assert fetch_from_hub(REPO, ["absent.safetensors", NAME], cache=tmp_path / "cache").path.name == NAME
    assert hub.names_asked() == ["absent.safetensors", NAME]
    hub.status, hub.requests[:] = 503, []
    with pytest.raises(DownloadError, match=NAME):
        fetch_from_hub(REPO, [NAME, "other.bin"], cache=tmp_path / "other")
    assert set(hub.names_asked()) == {NAME}
    hub.status = 200
    with pytest.raises(RemoteFileNotFoundError, match=r"has none of the files one\.bin, two\.bin"):
        fetch_from_hub(REPO, ["one.bin", "two.bin"], cache=tmp_path / "cache")
    with pytest.raises(RemoteFileNotFoundError, match="has no repository timm/absent"):
        fetch_from_hub("timm/absent", [NAME], cache=tmp_path / "cache")


def test_an_address_is_fetched_resumed_and_kept(hub: Hub, tmp_path: Path) -> None:
    cache, url = tmp_path / "cache", f"{hub.endpoint}/plain/{REPO}/{NAME}?token=secret"
    hub.cut_after, hub.cuts, hub.status_after_cuts = SIZE // 3, 1, 503
    with pytest.raises(DownloadError, match="resumes there") as error:
        fetch_url(url, cache=cache)
    assert "secret" not in str(error.value)
    hub.cut_after, hub.status_after_cuts = None, 200
    found = fetch_url(url, cache=cache)
    assert sha256(found.path) == sha256(hub.files[f"{REPO}/{NAME}"])
    assert "secret" not in found.path.as_posix() + found.remote.url
    count = len(hub.requests)
    assert fetch_url(url, cache=cache).path == found.path
    assert [method for method, *_ in hub.requests[count:]] == ["HEAD"]
    with pytest.raises(DownloadError, match="returned 404 Not Found"):
        fetch_url(f"{hub.endpoint}/plain/absent.pth", cache=cache)


def test_a_hash_in_an_address_is_checked(hub: Hub, tmp_path: Path) -> None:
    file = hub.files[f"{REPO}/{NAME}"]
    right, wrong = f"model-{sha256(file)[:8]}.pth", "model-0a0a0a0a.pth"
    for name in (right, wrong):
        hub.add(name, file)
    if not sha256(file)[:8].isdecimal():
        assert fetch_url(f"{hub.endpoint}/plain/{right}", cache=tmp_path).remote.digest == sha256(file)[:8]
    with pytest.raises(DownloadError, match="the hash must be 0a0a0a0a"):
        fetch_url(f"{hub.endpoint}/plain/{wrong}", cache=tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://example.com/clip/models/{'ab' * 32}/ViT-B-32.pt", "ab" * 32),
        ("https://example.com/vit_b_32-laion2b_e16-af8dbd0c.pth", "af8dbd0c"),
        ("https://example.com/actionclip_k400-rgb-20230801.pth", None),
        ("https://example.com/k400_32_8.pth", None),
        ("https://example.com/model-af8dbd0c.pth?download=1", "af8dbd0c"),
    ],
)
def test_hashes_in_addresses(url: str, expected: str | None) -> None:
    assert hash_in_url(url) == expected


def test_no_room_is_said_before_anything_is_fetched(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = SIZE - 1

    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(OSError, match=r"only 3 MB free on the disk, 3 MB needed") as error:
        get(tmp_path / "cache")
    assert error.value.errno == errno.ENOSPC
    assert hub.ranges() == []


def test_a_disk_that_fills_up_is_one_line(hub: Hub, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, SIZE // 2))

    left = fetch_in_a_process(hub, tmp_path / "cache", preexec_fn=limit)
    assert "DownloadError: " in left.stderr and "File too large" in left.stderr
    assert NAME not in leftovers(tmp_path / "cache")


def fetch_in_a_process(hub: Hub, cache: Path, **how: object) -> subprocess.CompletedProcess[str]:
    code = (
        "from pathlib import Path\nfrom training.checkpoints.downloads import fetch_from_hub\n"
        f"fetch_from_hub({REPO!r}, [{NAME!r}], cache=Path({str(cache)!r}))"
    )
    variables = {**os.environ, "HF_ENDPOINT": hub.endpoint}
    return subprocess.run(
        [sys.executable, "-c", code], text=True, cwd=ROOT, env=variables, **{"capture_output": True, **how}
    )  # type: ignore[call-overload, no-any-return]


def test_a_terminal_shows_a_progress_bar_and_a_log_does_not(hub: Hub, tmp_path: Path) -> None:
    assert fetch_in_a_process(hub, tmp_path / "log").stderr == ""
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        left = fetch_in_a_process(hub, tmp_path / "terminal", capture_output=False, stdout=end, stderr=end)
        os.close(end)
        shown = ""
        with suppress(OSError):  # the other end is closed
            while piece := stream.read(4096):
                shown += piece.decode()
    assert left.returncode == 0
    assert NAME in shown and "100%" in shown and "3.00M/3.00M" in shown


def test_two_processes_do_not_write_one_file(hub: Hub, tmp_path: Path) -> None:
    remote = get(tmp_path / "first").remote
    place = tmp_path / "cache" / f"127.0.0.1_{hub.port}" / REPO / NAME
    with (
        downloads._partial_file(place, remote),
        pytest.raises(DownloadError, match="another process is downloading"),
    ):
        get(tmp_path / "cache")
