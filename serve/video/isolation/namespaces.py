"""Namespaces, an empty root directory and the capabilities of Linux, for the fork server and thus for its children."""

import ctypes
import os
import tempfile
from pathlib import Path

_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def enter_user_namespace() -> None:
    """Enter a new user namespace, in which this process may enter the others; this process must have one thread.

    Raises:
        OSError: the platform does not allow it.
    """
    _unshare(_CLONE_NEWUSER)


def enter_network_namespace() -> None:
    """Enter a new network namespace; it has no interface.

    Raises:
        OSError: the platform does not allow it.
    """
    _unshare(_CLONE_NEWNET)


def enter_ipc_namespace() -> None:
    """Enter a new namespace of System V IPC and POSIX message queues.

    Raises:
        OSError: the platform does not allow it.
    """
    _unshare(_CLONE_NEWIPC)


def enter_empty_root() -> None:
    """Change the root directory to an empty directory that is already deleted, so that nothing can be created in it.

    Raises:
        OSError: the platform does not allow it, or no temporary directory can be created.
    """
    folder = Path(tempfile.mkdtemp(prefix="actserve-root-"))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        folder.rmdir()
    try:
        os.fchdir(descriptor)
        os.chroot(".")
        os.chdir("/")
    finally:
        os.close(descriptor)


def drop_capabilities() -> None:
    """Give up all capabilities, also those that a new program could get.

    Raises:
        OSError: a capability remains.
    """
    library = ctypes.CDLL(None, use_errno=True)
    number = 0
    while library.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        library.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # fails without CAP_SETPCAP; `no_new_privs` then protects
        number += 1
    library.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    if library.capset(ctypes.byref(header), ctypes.byref((_CapabilitySets * 2)())) != 0:
        _raise_error()


def _unshare(flag: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(flag) != 0:
        _raise_error()


def _raise_error() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
