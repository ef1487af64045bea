"""Loaded once by the process that decode children are forked from, so that a child starts in milliseconds.

Importing this changes the process on purpose and must happen nowhere else: it forgets the environment (store passwords
and the like) and keeps children from loading the server's main module.
"""

import multiprocessing.spawn
import os

KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "TZ",
    "PYTHONPATH",
    "PYTHONWARNINGS",
)


def _forget_environment() -> None:
    for name in set(os.environ) - set(KEPT_VARIABLES):
        del os.environ[name]
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # set before numpy loads: its pool would be forked into every child
    os.environ["OMP_NUM_THREADS"] = "1"


def _skip_main_module(*_: object) -> None:
    """A child runs `serve.video.child` alone; the server's main module would cost it time and memory."""


_forget_environment()
multiprocessing.spawn._fixup_main_from_path = _skip_main_module  # type: ignore[attr-defined]
multiprocessing.spawn._fixup_main_from_name = _skip_main_module  # type: ignore[attr-defined]

import serve.video.child  # noqa: E402  # after the environment is clean
import serve.video.decode  # noqa: E402, F401  # its libraries are what takes long
