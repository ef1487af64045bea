"""Landlock of Linux: forbid a process to open files, to use TCP, and to signal processes outside of its domain.

The system calls have no wrapper in the C library. Rights that the kernel does not know yet are left out, as the
interface requires. Source: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same numbers on all architectures
_GET_ABI = 1  # flag of `landlock_create_ruleset`
# ABI -> number of file system rights; each right is one bit, in order.
_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_ABI, _SCOPE_ABI = 4, 6
_ALL_NETWORK_RIGHTS = 0b11  # bind and connect TCP sockets
_ALL_SCOPES = 0b11  # abstract UNIX sockets, signals


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def abi_version() -> int:
    """Return the version of the interface.

    Raises:
        OSError: the kernel does not support Landlock, or it is disabled.
    """
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_GET_ABI))


def restrict() -> None:
    """Forbid this process everything that Landlock handles; `no_new_privs` must be set.

    Raises:
        OSError: the kernel does not support Landlock, or it is disabled.
    """
    version = abi_version()
    ruleset = _Ruleset(
        handled_access_fs=(1 << _NUM_FILE_RIGHTS[min(version, max(_NUM_FILE_RIGHTS))]) - 1,
        handled_access_net=_ALL_NETWORK_RIGHTS if version >= _NETWORK_ABI else 0,
        scoped=_ALL_SCOPES if version >= _SCOPE_ABI else 0,
    )
    size = 8 if version < _NETWORK_ABI else 16 if version < _SCOPE_ABI else 24
    descriptor = _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        _call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
