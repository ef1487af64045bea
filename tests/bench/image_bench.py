"""Run the install steps of the Dockerfile as an unprivileged user, measure the image's content and serve from it.

    python -m tests.bench.image_bench

The source tree is a read-only copy of the committed files. The base image is not part of the figures. Run as root, the
steps run as the user `nobody`; else as the current user.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.bench.promises import Promise, settle
from tests.running_server import ROOT

NOBODY = 65534
BASE_BYTES = 130 * 10**6  # python:3.11-slim-bookworm, unpacked, as Docker Hub states it
LIMIT_BYTES = 900 * 10**6


def unprivileged() -> dict[str, int | list[int]]:
    """Return the arguments of `subprocess` for another user than root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def accessible_python() -> str:
    """Return a Python that the unprivileged user may run: this one, unless it is in a private folder."""
    candidates = [sys._base_executable, "/usr/bin/python3"]
    for path in candidates:
        check = [path, "-c", "import pip, venv"]
        with suppress(OSError):
            if subprocess.run(check, capture_output=True, check=False, **unprivileged()).returncode == 0:  # type: ignore[call-overload]
                return path
    raise SystemExit(f"no Python with pip that another user may run: {', '.join(candidates)}")


def prepare(folder: Path) -> tuple[Path, Path]:
    """Return a read-only copy of the committed files and a folder that the unprivileged user may write."""
    source, writable = folder / "src", folder / "out"
    source.mkdir()
    writable.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    subprocess.run(["chmod", "-R", "a-w", str(source)], check=True)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(writable, NOBODY, NOBODY)
    return source, writable


def size_of(folder: Path) -> int:
    """Return the size of the files below a folder in bytes; a hard link counts once."""
    files = {(status.st_dev, status.st_ino): status.st_size for path in folder.rglob("*") for status in [path.lstat()]}
    return sum(files.values())


def serve(target: Path, writable: Path) -> int:
    """Start the installed server, classify the example of its page and stop it; return the status of the response."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "PATH": f"{target}/bin:/usr/bin:/bin", "HOME": str(writable), "SERVE_PORT": str(port), "SERVE_MODEL": "demo",
        "SERVE_DATA_DIR": str(writable / "data"), "SERVE_CACHE_DIR": str(writable / "cache"),
        "SERVE_UPLOAD_DIR": str(writable), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    process = subprocess.Popen([f"{target}/bin/actserve", "serve"], cwd=writable, env=variables, **unprivileged())  # type: ignore[call-overload]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as http:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"the server exited with {process.returncode}")
                try:
                    if http.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.5)
            clip = http.get("/web/example.mp4").content
            return http.post("/v1/classify", files={"video": clip}).status_code
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def judged(num_bytes: int, status: int, variant: str) -> list[Promise]:
    """Return the promises for the size of an image and the status of its response to a classification."""
    promises = [Promise(words="status of a classification", found=status, least=200, most=200)]
    if variant == "cpu":
        promises.append(Promise(words="bytes of the image with its base", found=num_bytes, most=LIMIT_BYTES))
    return promises


def main() -> None:
    """Print the sizes of the largest packages and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=("cpu", "gpu"), default="cpu")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="actserve-container-"))
    try:
        source, writable = prepare(folder)
        target = writable / "actserve"
        command = [str(source / "deploy/container/install.sh"), str(source), str(target), options.variant]
        variables = {**os.environ, "HOME": str(writable), "PYTHON": accessible_python()}
        variables.pop("PYTHONPATH", None)
        subprocess.run(command, env=variables, cwd=writable, check=True, **unprivileged())  # type: ignore[call-overload]
        (packages,) = target.glob("lib/python*/site-packages")
        sizes = sorted(((size_of(path), path.name) for path in packages.iterdir()), reverse=True)
        for num_bytes, name in sizes[:12]:
            print(f"{num_bytes / 1e6:8.1f} MB  {name}")
        status = serve(target, writable)
        total = size_of(target)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({
        "variant": options.variant, "installed_mb": round(total / 1e6, 1),
        "with_base_mb": round((total + BASE_BYTES) / 1e6, 1), "limit_mb": LIMIT_BYTES / 1e6,
        "classify_status": status,
    }))  # fmt: skip
    settle(
        judged(total + BASE_BYTES, status, options.variant),
        {"an image that does not serve": judged(total + BASE_BYTES, 500, options.variant)},
    )


if __name__ == "__main__":
    main()
