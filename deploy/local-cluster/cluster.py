"""Two gateways, PostgreSQL and HAProxy as processes on loopback; optionally an existing Triton server.

    python deploy/local-cluster/cluster.py --port 8090 --model demo
    python deploy/local-cluster/cluster.py --triton-url 127.0.0.1:8001

Needs HAProxy and PostgreSQL (`initdb`, `postgres`) on the PATH. A gateway that exits is started again; SIGHUP restarts
the gateways one by one, each after the other is ready. SIGINT or SIGTERM ends the cluster and deletes its data.
"""

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

NOBODY = 65534  # PostgreSQL does not run as root
READY_SECONDS = 600.0
POLL_SECONDS = 0.1
HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 3600s
    timeout server 3600s
    timeout http-request 60s
    option redispatch 1
    retries 3
    retry-on conn-failure
frontend public
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance leastconn
    http-reuse never
    option httpchk
    http-check send meth GET uri /readyz hdr Host localhost
    default-server check inter 200ms fall 1 rise 1
{servers}
"""


class ClusterError(Exception):
    """A process of the cluster does not start."""


class Cluster:
    """The processes of a cluster; all methods block."""

    def __init__(
        self, folder: Path, *, model: str = "demo", port: int = 0, num_gateways: int = 2, variables: dict[str, str]
    ) -> None:
        """`variables` are additional SERVE_* variables of the gateways."""
        self.folder = folder
        self._password = secrets.token_hex(16)
        self._ports = [free_port() for _ in range(num_gateways)]
        self._postgres_port = free_port()
        self.port = port or free_port()
        self._variables = {
            **os.environ,
            "SERVE_MODEL": model,
            "SERVE_STORE_URL": f"postgresql://actserve:{self._password}@127.0.0.1:{self._postgres_port}/postgres",
            "SERVE_DATA_DIR": str(folder / "data"),
            "SERVE_CACHE_DIR": str(folder / "cache"),
            "SERVE_HTTP__UNREADY_SECONDS": "2",  # ten checks of the balancer
            "SERVE_HTTP__DRAIN_SECONDS": "0",
            **variables,
        }
        self._gateways: list[subprocess.Popen[bytes] | None] = [None] * num_gateways
        self._postgres: subprocess.Popen[bytes] | None = None
        self._haproxy: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """URL of the balancer."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start PostgreSQL, the gateways and the balancer, and wait until all are ready.

        Raises:
            ClusterError: a program is missing or does not start.
        """
        for program in ("haproxy", "initdb", "postgres"):
            if shutil.which(program) is None:
                raise ClusterError(f"{program} is not on the PATH")
        self._create_database()
        self.start_postgres()
        for index in range(len(self._ports)):  # the first one creates the tables
            self.start_gateway(index)
            self.wait_until_ready(index)
        servers = "".join(f"    server gateway-{n} 127.0.0.1:{port}\n" for n, port in enumerate(self._ports))
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(HAPROXY.format(port=self.port, servers=servers), encoding="utf-8")
        self._haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(configuration)], stderr=self._log("haproxy"))
        _wait_for(lambda: _status(f"{self.url}/readyz") == 200, "the balancer", self._haproxy)

    def start_postgres(self) -> None:
        """Start PostgreSQL and wait until it accepts connections."""
        command = [
            "postgres", "-D", str(self.folder / "postgres"), "-h", "127.0.0.1", "-p", str(self._postgres_port),
            "-c", "unix_socket_directories=",
        ]  # fmt: skip
        process = self._postgres = subprocess.Popen(command, stderr=self._log("postgres"), **_unprivileged())
        _wait_for(lambda: _accepts_connections(self._postgres_port), "PostgreSQL", process)

    def restart_postgres(self) -> None:
        """Stop PostgreSQL, ending its connections, and start it again."""
        assert self._postgres is not None, "started before"
        self._postgres.send_signal(signal.SIGINT)  # "fast" shutdown
        self._postgres.wait(60)
        self.start_postgres()

    def start_gateway(self, index: int) -> None:
        """Start a gateway."""
        variables = {**self._variables, "SERVE_PORT": str(self._ports[index])}
        log = self._log(f"gateway-{index}")
        self._gateways[index] = subprocess.Popen([sys.executable, "-m", "serve"], env=variables, stdout=log, stderr=log)

    def wait_until_ready(self, index: int) -> None:
        """Wait until a gateway is ready.

        Raises:
            ClusterError: it exits or needs longer than `READY_SECONDS`.
        """
        url = f"http://127.0.0.1:{self._ports[index]}/readyz"
        _wait_for(lambda: _status(url) == 200, f"gateway {index}", self._gateways[index])

    def stop_gateway(self, index: int, *, number: int = signal.SIGTERM) -> int:
        """Send a signal to a gateway and wait until it has exited; return its exit status."""
        gateway = self._gateways[index]
        assert gateway is not None, "started before"
        gateway.send_signal(number)
        return gateway.wait(120)

    def roll(self) -> None:
        """Restart the gateways one by one; the next one is stopped once the restarted one is ready."""
        with self._lock:
            for index in range(len(self._gateways)):
                self.stop_gateway(index)
                self.start_gateway(index)
                self.wait_until_ready(index)
                time.sleep(1.0)  # five checks of the balancer

    def supervise(self) -> None:
        """Start gateways again that have exited."""
        with self._lock:
            for index, gateway in enumerate(self._gateways):
                if gateway is not None and gateway.poll() is not None:
                    print(f"gateway {index} exited with {gateway.returncode}; starting it again", file=sys.stderr)
                    self.start_gateway(index)

    def close(self) -> None:
        """Stop every process."""
        for process in (self._haproxy, *self._gateways):
            if process is not None and process.poll() is None:
                process.terminate()
        for process in (self._haproxy, *self._gateways):
            if process is not None:
                process.wait(60)
        if self._postgres is not None and self._postgres.poll() is None:
            self._postgres.send_signal(signal.SIGINT)
            self._postgres.wait(60)

    def _create_database(self) -> None:
        data = self.folder / "postgres"
        data.mkdir(parents=True)
        password_file = self.folder / "password"
        password_file.write_text(self._password, encoding="utf-8")
        self.folder.chmod(0o711)
        if os.geteuid() == 0:
            for path in (data, password_file):
                os.chown(path, NOBODY, NOBODY)
        password_file.chmod(0o400)
        command = [
            "initdb", "-D", str(data), "-U", "actserve", "--auth=scram-sha-256", f"--pwfile={password_file}",
            "--encoding=UTF8", "--no-sync",
        ]  # fmt: skip
        with self._log("initdb") as log:
            if subprocess.run(command, stdout=log, stderr=log, cwd="/", **_unprivileged()).returncode:
                raise ClusterError(f"initdb failed; see {self.folder / 'initdb.log'}")

    def _log(self, name: str):  # type: ignore[no-untyped-def]  # an open file
        return (self.folder / f"{name}.log").open("ab")


def _unprivileged() -> dict[str, int]:
    return {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  # http on loopback
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _wait_for(is_ready, name: str, process) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + READY_SECONDS
    while not is_ready():
        if process.poll() is not None:
            raise ClusterError(f"{name} exited with {process.returncode}")
        if time.monotonic() > end:
            raise ClusterError(f"{name} is not ready after {READY_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def main() -> int:
    """Run a cluster until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8090, help="port of the balancer")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--triton-url", help="HOST:PORT of a Triton server that has the models")
    options = parser.parse_args()
    variables = {} if options.triton_url is None else {
        "SERVE_ENGINE": "triton", "SERVE_TRITON__URL": options.triton_url,
    }  # fmt: skip
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="actserve-cluster-") as name:
        cluster = Cluster(
            Path(name), model=options.model, port=options.port, num_gateways=options.gateways, variables=variables
        )
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=cluster.roll, daemon=True).start())
        try:
            cluster.start()
            print(f"{options.gateways} gateways behind {cluster.url}; their logs are in {name}", flush=True)
            while not stop.wait(1.0):
                cluster.supervise()
        except ClusterError as error:
            print(f"{error}; logs are in {name} until the end of this process", file=sys.stderr)
            return 1
        finally:
            cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
