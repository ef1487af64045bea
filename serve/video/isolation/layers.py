"""The layers that isolate decode children, each applied where the platform allows it; see `docs/security.md`.

The fork server enters the layers of a process once, after it has loaded the libraries, and its children inherit them.
Each child then enters the layers that name the process itself. A layer that fails is reported with its reason.
"""

import ctypes
import importlib
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from serve.video.isolation import landlock, namespaces

_PR_SET_NO_NEW_PRIVS = 38
Layer = tuple[str, Callable[[], None]]
SYSTEM_CALL_FILTER = "seccomp"
LAYERS = (
    "environment", "no_new_privileges", "user_namespace", "network_namespace", "ipc_namespace", "chroot",
    "capabilities", "landlock", SYSTEM_CALL_FILTER,
)  # fmt: skip


@dataclass
class IsolationReport:
    """The layers that a process has entered, in order, and the reasons of those that it could not enter."""

    reached: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def describe_missing(self) -> str:
        """Return the missing layers with their reasons as one line."""
        return ", ".join(f"{name} ({reason})" for name, reason in self.missing.items())


class Isolation:
    """The isolation of one fork server and of each child that is forked from it, with the given layers."""

    def __init__(self, layers: Collection[str]) -> None:
        self._layers = frozenset(layers)
        self.report = IsolationReport()
        self._filter: Any = None

    def enter_process_layers(self) -> None:
        """Enter the layers that children inherit; the process must have loaded all modules that it needs."""
        if SYSTEM_CALL_FILTER in self._layers:
            self._load_filter()
        self._enter(
            ("environment", lambda: None),  # `ForkServer` has started the process with a minimal one
            ("no_new_privileges", _forbid_new_privileges),
            ("user_namespace", namespaces.enter_user_namespace),
            ("network_namespace", namespaces.enter_network_namespace),
            ("ipc_namespace", namespaces.enter_ipc_namespace),
            ("chroot", namespaces.enter_empty_root),
            ("capabilities", namespaces.drop_capabilities),
        )

    def enter_child_layers(self) -> None:
        """Enter the layers of one child; afterwards it can only use its open descriptors and its memory."""
        self._enter(("landlock", landlock.restrict))
        if self._filter is not None:
            self._enter((SYSTEM_CALL_FILTER, self._filter.restrict))

    def _load_filter(self) -> None:
        """Import the filter while files can be opened: it needs libseccomp."""
        try:
            self._filter = importlib.import_module("serve.video.isolation.system_calls")
        except (ImportError, OSError, RuntimeError) as error:
            self.report.missing[SYSTEM_CALL_FILTER] = str(error)

    def _enter(self, *layers: Layer) -> None:
        for name, enter in layers:
            if name not in self._layers:
                continue
            try:
                enter()
            except (OSError, AttributeError) as error:  # AttributeError: the C library lacks the function
                self.report.missing[name] = getattr(error, "strerror", None) or str(error)
            else:
                self.report.reached.append(name)


def parse_report(reached: object, missing: object) -> IsolationReport:
    """Return the report of a message; unknown names are dropped."""
    names: Iterable[object] = reached if isinstance(reached, list) else ()
    reasons = missing if isinstance(missing, dict) else {}
    return IsolationReport(
        reached=[name for name in LAYERS if name in names],
        missing={name: str(reasons[name])[:200] for name in LAYERS if name in reasons},
    )


def _forbid_new_privileges() -> None:
    """Set `no_new_privs`: a program started from here gets no privileges from its file.

    Raises:
        OSError: the platform does not support it.
    """
    if sys.platform != "linux":
        raise OSError(0, "the platform is not Linux")
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
