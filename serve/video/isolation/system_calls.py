"""A seccomp filter that allows only the system calls that decoding needs; all others fail with `EPERM`.

A child may read and write open descriptors, manage its memory, start threads and receive descriptors from its parent.
It may not open files or sockets, start processes or programs, or trace or signal another process.
"""

import errno
import fcntl
import os

import pyseccomp as seccomp

_ALLOWED = (
    # open descriptors
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "lseek", "_llseek", "close", "close_range",
    "dup", "fstat", "fstat64", "poll", "ppoll", "select", "_newselect", "pselect6", "sendto", "sendmsg", "recvfrom",
    "recvmsg", "getsockopt", "setsockopt",
    # memory
    "mmap", "mmap2", "munmap", "mprotect", "mremap", "madvise", "brk", "membarrier",
    # threads
    "futex", "futex_time64", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "gettid",
    "getpid", "getppid", "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "getcpu", "exit",
    "exit_group", "restart_syscall", "arch_prctl",
    # signals of this process
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack",
    # time and other information
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep",
    "gettimeofday", "time", "times", "getrandom", "getrusage", "sysinfo", "uname", "getuid", "geteuid", "getgid",
    "getegid", "getpriority",
)  # fmt: skip
_CLONE_THREAD = 0x00010000
_AT_EMPTY_PATH = 0x1000
_PR_SET_NAME = 15
_FIONBIO = 0x5421
_DESCRIPTOR_COMMANDS = (fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)


def restrict() -> None:
    """Install the filter in this process, which must have one thread; `no_new_privs` must be set.

    Raises:
        OSError: the kernel does not support filters.
    """
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in _ALLOWED:
        _allow(rules, name)
    _allow(rules, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))  # a thread, not a process
    _add(rules, seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags are in memory; the C library then uses `clone`
    for name in ("tgkill", "tkill", "kill"):  # `abort` sends a signal to its own thread
        _allow(rules, name, seccomp.Arg(0, seccomp.EQ, os.getpid()))
    for name in ("newfstatat", "fstatat64"):  # the C library's `fstat`
        _allow(rules, name, seccomp.Arg(3, seccomp.MASKED_EQ, _AT_EMPTY_PATH, _AT_EMPTY_PATH))
    for name in ("prlimit64", "setpriority"):  # of this process: the limit of processor time, and a low priority
        _allow(rules, name, seccomp.Arg(0 if name == "prlimit64" else 1, seccomp.EQ, 0))
    _allow(rules, "prctl", seccomp.Arg(0, seccomp.EQ, _PR_SET_NAME))
    _allow(rules, "ioctl", seccomp.Arg(1, seccomp.EQ, _FIONBIO))  # `socket.settimeout`
    for name in ("fcntl", "fcntl64"):
        for command in _DESCRIPTOR_COMMANDS:
            _allow(rules, name, seccomp.Arg(1, seccomp.EQ, command))
    rules.load()


def _allow(rules: seccomp.SyscallFilter, name: str, *conditions: seccomp.Arg) -> None:
    _add(rules, seccomp.ALLOW, name, *conditions)


def _add(rules: seccomp.SyscallFilter, action: int, name: str, *conditions: seccomp.Arg) -> None:
    """Add a rule; a system call that this architecture or version of libseccomp does not know stays forbidden."""
    try:
        rules.add_rule(action, name, *conditions)
    except (OSError, ValueError):
        return
