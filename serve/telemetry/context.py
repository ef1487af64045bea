"""The request that the current task processes, for log lines, exemplars and spans."""

from contextvars import ContextVar
from dataclasses import dataclass

_current: ContextVar["RequestContext | None"] = ContextVar("request", default=None)


@dataclass(eq=False)
class RequestContext:
    """Identity of one request; `key_name` is set once the caller is authenticated."""

    request_id: str
    trace_id: str = ""  # 32 hexadecimal digits; empty without a trace
    key_name: str = ""  # name of the caller's API key; empty without a key


def current_request() -> RequestContext | None:
    """Return the request of the current task, or None outside of requests."""
    return _current.get()


def set_current_request(context: RequestContext) -> None:
    """Set the request of the current task and of the tasks and threads that it starts."""
    _current.set(context)


def exemplar() -> dict[str, str] | None:
    """Return the exemplar of an observation in the current task: its trace id, or None without a trace."""
    context = current_request()
    return {"trace_id": context.trace_id} if context is not None and context.trace_id else None
