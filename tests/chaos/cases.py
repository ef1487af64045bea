"""The cases: each sets a server up, applies one fault, states what is expected, and checks the recovery."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.chaos.world import Case, Checks, Outcome, World, fill, small_disk, start_world
from tests.running_server import ROOT
from tests.waiting import eventually

DISK_BYTES = 4 * 2**20


def killed_decode_child(folder: Path) -> Outcome:
    """SIGKILL of a decode child."""
    with start_world(folder) as world:
        checks = Checks()
        for child in world.decode_children():
            child.send_signal(signal.SIGKILL)
        checks.expect(world.classify().status_code == 200, "the next request is answered")
        return Outcome("the next request gets 200 from a new child", "automatic", tuple(checks.failures))


def stopped_decode_child(folder: Path) -> Outcome:
    """SIGSTOP of a decode child."""
    with start_world(folder) as world:
        checks = Checks()
        for child in world.decode_children():
            child.send_signal(signal.SIGSTOP)
        checks.expect(world.classify().status_code == 200, "the request is answered by a new child")
        return Outcome("the child is replaced, the request gets 200", "automatic", tuple(checks.failures))


def killed_fork_server(folder: Path) -> Outcome:
    """SIGKILL of the fork server of the decode children."""
    with start_world(folder) as world:
        checks = Checks()
        world.fork_server().kill()
        status = world.classify().status_code
        checks.expect(status in (200, 503), f"the request is answered with 200 or 503, not {status}")
        checks.expect(eventually(lambda: world.classify().status_code == 200), "later requests are answered")
        return Outcome("requests get 200, or 503 until a new one has started", "automatic", tuple(checks.failures))


def killed_server(folder: Path) -> Outcome:
    """SIGKILL of the server."""
    checks = Checks()
    with start_world(folder) as world:
        acknowledged = [name for name in ("one", "two", "three") if world.put_vocabulary(name).is_success]
        checks.expect(len(acknowledged) == 3, f"changes are acknowledged: {acknowledged}")
        world.server.process.kill()
        world.server.process.wait()
    (left,) = (folder / "uploads").glob("actserve-uploads-*")
    with start_world(folder) as world:
        checks.expect(not left.exists(), "the uploads of the killed server are deleted")
        for name in acknowledged:
            found = world.put_vocabulary(name).status_code
            checks.expect(found == 412, f"the vocabulary {name} still exists")
    return Outcome("connections close", "the next start keeps each acknowledged change and deletes the uploads",
                   tuple(checks.failures))  # fmt: skip


def deleted_upload_folder(folder: Path) -> Outcome:
    """The folder of uploads is deleted, with its parent."""
    with start_world(folder) as world:
        checks = Checks()
        uploads = folder / "uploads"
        uploads.rename(folder / "gone")
        response = world.classify()
        checks.expect(response.json()["type"] == "/problems/folder-unavailable", f"a clear problem: {response.text}")
        checks.expect("uploads" in world.degraded(), "/readyz names the uploads")
        checks.expect("environment" in world.ready()["isolation"], "/readyz lists the layers of isolation")
        uploads.mkdir()
        checks.expect(world.classify().status_code == 200, "requests are answered when the parent is back")
        checks.expect(world.degraded() == "", "/readyz is clean")
        return Outcome("503, degraded: uploads", "automatic once the parent folder exists", tuple(checks.failures))


def full_upload_disk(folder: Path) -> Outcome:
    """The disk of the uploads is full."""
    with small_disk(folder / "uploads", num_bytes=DISK_BYTES) as disk, start_world(folder) as world:
        checks = Checks()
        filler = fill(disk)
        response = world.classify()
        checks.expect(response.status_code == 507, f"507, not {response.status_code}: {response.text}")
        checks.expect("uploads is full" in world.degraded(), "/readyz names the disk")
        filler.unlink()
        checks.expect(world.classify().status_code == 200, "requests are answered when there is room")
        checks.expect(world.degraded() == "", "/readyz is clean")
        return Outcome("507, degraded: uploads", "automatic once there is room", tuple(checks.failures))


def full_data_disk(folder: Path) -> Outcome:
    """The disk of the data folder is full."""
    data = folder / "cache" / "data"
    with small_disk(data, num_bytes=DISK_BYTES), start_world(folder) as world:
        checks = Checks()
        filler = fill(data)
        response = world.put_vocabulary("refused")
        checks.expect(response.status_code == 507, f"507, not {response.status_code}: {response.text}")
        checks.expect("database is full" in world.degraded(), "/readyz names the disk")
        checks.expect(world.classify().status_code == 200, "classification goes on")
        filler.unlink()
        checks.expect(world.put_vocabulary("refused").is_success, "changes work when there is room")
        return Outcome("changes get 507, classification 200, degraded: database", "automatic once there is room",
                       tuple(checks.failures))  # fmt: skip


def damaged_database(folder: Path) -> Outcome:
    """The file of the SQLite database is overwritten under a running server."""
    with start_world(folder) as world:
        checks = Checks()
        database = folder / "cache" / "data" / "actserve.db"
        with database.open("r+b") as stream:
            stream.write(b"\xa5" * database.stat().st_size)
        checks.expect(eventually(lambda: "damaged" in world.degraded(), 30), "/readyz says that it is damaged")
        response = world.put_vocabulary("refused")
        checks.expect(response.status_code == 503, f"503, not {response.status_code}: {response.text}")
        response = world.classify()  # the keys are in the database: without it, nobody can be authorized
        checks.expect(response.status_code == 503, f"503, not {response.status_code}: {response.text}")
        checks.expect(not _has_traceback(world), "no traceback in the log")
    return Outcome("503, since keys cannot be checked, degraded: database", "restore a backup, restart",
                   tuple(checks.failures))  # fmt: skip


def damaged_database_at_start(folder: Path) -> Outcome:
    """The file of the SQLite database is no database at the start."""
    data = folder / "cache" / "data"
    data.mkdir(parents=True)
    (data / "actserve.db").write_bytes(b"\xa5" * 8192)
    run = subprocess.run(
        [sys.executable, "-m", "serve"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
        env={"PATH": "/usr/bin:/bin", "SERVE_DATA_DIR": str(data), "SERVE_CACHE_DIR": str(folder / "cache"),
             "SERVE_MODEL": "demo", "SERVE_PORT": "0"},
    )  # fmt: skip
    checks = Checks()
    output = run.stdout + run.stderr
    checks.expect(run.returncode != 0, "the start fails")
    checks.expect("damaged" in output and "Traceback" not in output, f"a clear message: {output[-500:]}")
    return Outcome("the start fails with a message of one line", "restore a backup", tuple(checks.failures))


def two_servers(folder: Path) -> Outcome:
    """Two servers use one data folder."""
    with start_world(folder) as first:
        other = folder / "other"
        other.mkdir()
        with start_world(other, SERVE_DATA_DIR=str(folder / "cache" / "data")) as second:
            checks = Checks()
            checks.expect(first.put_vocabulary("shared").is_success, "a change is acknowledged")
            checks.expect(second.put_vocabulary("shared").status_code == 412, "the other server knows it")
        checks.expect(first.classify().status_code == 200, "the first goes on when the second stops")
    return Outcome("each sees the changes of the other", "not needed", tuple(checks.failures))


def _has_traceback(world: World) -> bool:
    return any("Traceback" in line for line in world.server.log)


CASES: dict[str, Case] = {
    "kill -9 of a decode child": killed_decode_child,
    "SIGSTOP of a decode child": stopped_decode_child,
    "kill -9 of the fork server": killed_fork_server,
    "kill -9 of the server": killed_server,
    "upload folder deleted": deleted_upload_folder,
    "upload disk full": full_upload_disk,
    "data disk full": full_data_disk,
    "database damaged, running": damaged_database,
    "database damaged, at start": damaged_database_at_start,
    "two servers on one folder": two_servers,
}
