"""What an exploited decode child would try; `attempt` runs inside of a child, as a job, and returns how it ended."""

import ctypes
import errno
import mmap
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.video.child import Job

ALLOWED = "allowed"
NUM_FORKS = 1000
_PTRACE_ATTACH = 16
_CLONE_NEWUSER = 0x10000000


def attempt(job: Job, *, name: str, target: dict[str, Any]) -> str:
    """Return `ALLOWED`, or the name of the error code with which the attempt failed."""
    try:
        ATTEMPTS[name](target)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ALLOWED


def _connect(target: dict[str, Any]) -> None:
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.connect(("127.0.0.1", target["port"]))


def _send_datagram(target: dict[str, Any]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as connection:
        connection.sendto(b"x", ("127.0.0.1", target["port"]))


def _open_file(target: dict[str, Any]) -> None:
    Path(target["file"]).read_bytes()


def _reopen_upload_for_writing(target: dict[str, Any]) -> None:
    del target
    for descriptor in range(3, 10):
        link = Path(f"/proc/self/fd/{descriptor}")
        if link.exists() and not str(link.readlink()).startswith(("socket:", "/memfd:")):
            os.close(os.open(link, os.O_WRONLY))
            return
    raise FileNotFoundError(errno.ENOENT, "there is no /proc")


def _create_file(target: dict[str, Any]) -> None:
    Path(target["file"]).with_name(f"created-{os.getpid()}").write_bytes(b"")


def _read_environment(target: dict[str, Any]) -> None:
    Path(f"/proc/{target['server']}/environ").read_bytes()


def _read_own_secret(target: dict[str, Any]) -> None:
    """Search the memory of this process that held the environment at its start."""
    if target["secret"].encode() not in _initial_environment() and target["secret"] not in "".join(os.environ.values()):
        raise OSError(errno.ENOENT, "no secret")


def _initial_environment() -> bytes:
    library = ctypes.CDLL(None)
    entries = ctypes.POINTER(ctypes.c_char_p).in_dll(library, "environ")
    found = bytearray()
    number = 0
    while (entry := entries[number]) is not None:
        found += entry
        number += 1
    return bytes(found)


def _execute(target: dict[str, Any]) -> None:
    del target
    pid = os.posix_spawn("/bin/true", ["/bin/true"], {})
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise OSError(errno.EACCES, "the program did not run")


def _fork_many(target: dict[str, Any]) -> None:
    """Try to fork many times; one success is enough."""
    del target
    refusal = OSError()
    for _ in range(NUM_FORKS):
        try:
            pid = os.fork()
        except OSError as error:
            refusal = error
            continue
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return
    raise refusal


def _trace(target: dict[str, Any]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    if library.ptrace(_PTRACE_ATTACH, target["victim"], None, None) != 0:
        _raise_error()


def _read_memory(target: dict[str, Any]) -> None:
    os.close(os.open(f"/proc/{target['victim']}/mem", os.O_RDONLY))


def _signal(target: dict[str, Any]) -> None:
    os.kill(target["victim"], signal.SIGCONT)


def _signal_fork_server(target: dict[str, Any]) -> None:
    del target
    os.kill(os.getppid(), signal.SIGCONT)


def _become_administrator(target: dict[str, Any]) -> None:
    """Use a capability over the machine: set its host name, to the one it has."""
    name = target["host"].encode()
    if ctypes.CDLL(None, use_errno=True).sethostname(name, len(name)) != 0:
        _raise_error()


def _enter_namespace(target: dict[str, Any]) -> None:
    """Enter a user namespace, in which a process has all capabilities and reaches more code of the kernel."""
    del target
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        _raise_error()


def _allocate(target: dict[str, Any]) -> None:
    mmap.mmap(-1, target["memory"]).close()


def _open_many(target: dict[str, Any]) -> None:
    del target
    opened = []
    try:
        for _ in range(1000):
            opened.append(os.dup(2))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _raise_error() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


ATTEMPTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "connect to a port of this machine": _connect,
    "send a datagram": _send_datagram,
    "read another upload": _open_file,
    "reopen its own upload for writing": _reopen_upload_for_writing,
    "create a file": _create_file,
    "read /proc/PID/environ of the server": _read_environment,
    "read a secret of the server in its own memory": _read_own_secret,
    "execute a program": _execute,
    f"fork {NUM_FORKS} times": _fork_many,
    "trace another process of the server": _trace,
    "read the memory of another process": _read_memory,
    "signal another process of the server": _signal,
    "signal the fork server": _signal_fork_server,
    "use a capability over the machine": _become_administrator,
    "enter a namespace with new capabilities": _enter_namespace,
    "allocate more memory than allowed": _allocate,
    "open 1000 descriptors": _open_many,
}
