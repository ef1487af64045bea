"""A real Triton server for tests: the core of the nvidia-pytriton wheel, with a stand-in for the onnxruntime backend.

`make triton` makes the environment it runs in. The stand-in checks a configuration against its graph as strictly as
the native backend, and knows a CPU only.
"""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
import pytest

from tests.waiting import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-triton"
BACKENDS = Path(__file__).parent / "backends"
STOP_SECONDS = 10
REAPING_SECONDS = 2.0  # from the last packet of a process to its exit status
EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")
PYTHON_BACKEND = ("libtriton_python.so", "triton_python_backend_utils.py")
# SIGABRT, SIGBUS: the Python backend loses the lock or the pages of the memory that it shares with its stubs at times
CRASH = "tritonserver ended by itself with -[67]"


def needs_triton() -> pytest.MarkDecorator:
    """Skips where the environment is absent, and fails where REQUIRE_TRITON=1 promised it."""
    is_absent = not (ENVIRONMENT / "ready").exists()  # written last: an install that failed half-way does not count
    if is_absent and os.environ.get("REQUIRE_TRITON") == "1":
        raise RuntimeError(f"REQUIRE_TRITON=1 and no {ENVIRONMENT.name}: run `make triton`")
    return pytest.mark.skipif(is_absent, reason="no Triton core here: `make triton` makes its environment")


class TritonCrash(RuntimeError):
    """The server ended by itself."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a server listens."""

    http: int
    grpc: int
    metrics: int


@dataclass(kw_only=True, eq=False)
class TritonCore:
    """A server that is ready."""

    grpc: str
    http: str
    ports: Ports
    process: subprocess.Popen[bytes]
    log: Path
    is_killed: bool = False

    @property
    def has_crashed(self) -> bool:
        """Return whether the process ended although nothing killed it."""
        return self.process.poll() is not None and not self.is_killed

    def check(self) -> None:
        """Raise `TritonCrash` if the process ended although nothing killed it."""
        if self.has_crashed:
            raise TritonCrash(f"tritonserver ended by itself with {self.process.returncode}: {_last_lines(self.log)}")

    def freeze(self) -> None:
        """Stop all threads, and wait until they are: a signal is delivered later than it is sent."""
        self.process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        states = lambda: [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]  # noqa: E731
        assert eventually(lambda: set(states()) == {"T"})

    def kill(self) -> None:
        """As a crash: no handler runs."""
        self.is_killed = True
        self.process.kill()
        self.process.wait()


RUNNING: set[TritonCore] = set()  # the servers of this process


@contextmanager
def ending_with_its_servers() -> Iterator[None]:
    """Raise `TritonCrash` in the main thread as soon as one of the running servers ends by itself."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        for core in list(RUNNING):
            core.check()

    def watch() -> None:
        while not is_over.wait(0.1):
            if any(core.has_crashed for core in list(RUNNING)):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                return

    is_over = threading.Event()
    before = signal.signal(signal.SIGUSR1, on_signal)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


def raise_crash(error: BaseException) -> None:
    """Raise `TritonCrash` from an error of a test if one of the running servers ended: its clients notice it first."""
    for core in list(RUNNING):
        if eventually(lambda core=core: core.has_crashed, REAPING_SECONDS):  # type: ignore[misc]
            try:
                core.check()
            except TritonCrash as crash:
                raise crash from error


class RestartedCore:
    """One server for many tests; a new one takes its place if it crashed."""

    def __init__(self, repository: Path, folder: Path, options: Sequence[str]) -> None:
        self._start = lambda: triton_core(repository, folder, options=options)
        self._stack = ExitStack()
        self._core: TritonCore | None = None

    def running(self) -> TritonCore:
        """Return the server, started if there is none that runs."""
        if self._core is None or self._core.has_crashed:
            self.close()
            self._core = self._stack.enter_context(self._start())
        return self._core

    def close(self) -> None:
        """Stop the server; a crash was reported to the test that it ended."""
        with suppress(TritonCrash):
            self._stack.close()


def free_ports() -> Ports:
    """Return ports that are free now."""
    sockets = [socket.socket() for _ in range(3)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    numbers = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return Ports(http=numbers[0], grpc=numbers[1], metrics=numbers[2])


@contextmanager
def triton_core(
    repository: Path, folder: Path, *, options: Sequence[str] = EXPLICIT, ports: Ports | None = None
) -> Iterator[TritonCore]:
    """A server on a repository folder; `folder` is for its backends and its log.

    Raises:
        TritonCrash: it ended by itself; with the end of its log.
        RuntimeError: it did not become ready.
    """
    chosen, prefix = ports or free_ports(), f"actserve{uuid.uuid4().hex[:8]}_"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "triton.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            _command(repository, _backends(folder), chosen, prefix, options),
            env=_variables(), stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    core = TritonCore(
        grpc=f"127.0.0.1:{chosen.grpc}", http=f"http://127.0.0.1:{chosen.http}", ports=chosen, process=process, log=log
    )
    try:
        _wait_until_ready(core)
        RUNNING.add(core)
        yield core
        core.check()
    finally:
        RUNNING.discard(core)
        _stop(process)
        for left in Path("/dev/shm").glob(f"{prefix}*"):
            left.unlink(missing_ok=True)


def _site() -> Path:
    return next((ENVIRONMENT / "lib").glob("python3.*")) / "site-packages"


def _tritonserver() -> Path:
    return _site() / "pytriton" / "tritonserver"


def _backends(folder: Path) -> Path:
    """The Python backend with its stub, copied since links are refused, and ours beside it."""
    found, version = folder / "backends", (ENVIRONMENT / "lib").glob("python3.*")
    if not found.exists():
        (found / "python").mkdir(parents=True)
        stub = _tritonserver() / "python_backend_stubs" / next(version).name.removeprefix("python")
        for path in (*(_tritonserver() / "backends" / "python" / name for name in PYTHON_BACKEND),
                     stub / "triton_python_backend_stub"):  # fmt: skip
            shutil.copy2(path, found / "python" / path.name)
        shutil.copytree(BACKENDS, found, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return found


def _variables() -> dict[str, str]:
    """The stub takes the Python it finds first on PATH, and its library from the base of that Python."""
    ask = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    libraries = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {
        **kept,
        "PATH": f"{ENVIRONMENT}/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": f"{libraries}:{_site()}/nvidia_pytriton.libs",
    }


def _command(repository: Path, backends: Path, ports: Ports, prefix: str, options: Sequence[str]) -> list[str]:
    return [
        str(_tritonserver() / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        *(
            f"--{kind}-{what}={value}"
            for kind, port in (("http", ports.http), ("grpc", ports.grpc), ("metrics", ports.metrics))
            for what, value in (("address", "127.0.0.1"), ("port", port))
        ),
        "--exit-timeout-secs=3",
        *(
            f"--backend-config={name},{option}"
            for name in ("python", "onnxruntime")
            for option in (f"shm-region-prefix-name={prefix}", f"stub-timeout-seconds={int(PATIENCE_SECONDS)}")
        ),
        *options,
    ]


def _wait_until_ready(core: TritonCore) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        core.check()
        with suppress(httpx.HTTPError):
            if httpx.get(f"{core.http}/v2/health/ready", timeout=1).status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"tritonserver is not ready after {PATIENCE_SECONDS} s: {_last_lines(core.log)}")


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    faults = [line for line in lines if line.startswith(("E", "error")) or "UNAVAIL" in line]
    return "\n".join(faults[-20:] or lines[-20:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own: the server and its stubs alone
    process.wait()
