"""Spans of the request that the current task processes; nothing happens where traces are off.

The tracer of a server is an argument of its middleware, which sets it for the tasks of each request; so the stages need
no reference to it. `serve.telemetry.otel` has the tracer that exports.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

Attributes = Mapping[str, str | int | float]
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class RequestSpan(Protocol):
    """The span of a request."""

    trace_id: str  # 32 hexadecimal digits, or empty without a trace

    def finish(self, *, route: str, status: int) -> None:
        """Set what is known at the end of the request."""
        ...


class Tracer(Protocol):
    """Makes spans."""

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[RequestSpan]:
        """Return the span of a request; the header `traceparent` names its parent."""
        ...

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[None]:
        """Return a span below the current one."""
        ...

    def propagation_headers(self) -> dict[str, str]:
        """Return the headers that pass the current span to another server."""
        ...

    def close(self) -> None:
        """Export what is left."""
        ...


class UntracedRequest:
    """A request without a span of this server; it keeps the trace id of the client for log lines."""

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id

    def finish(self, *, route: str, status: int) -> None:
        """Do nothing."""


class NoTracer:
    """The tracer of a server whose traces are off."""

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[RequestSpan]:
        """Return a request with the trace id of the header `traceparent`, if it is valid."""
        match = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        return nullcontext(UntracedRequest("" if match is None else match[1]))

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def propagation_headers(self) -> dict[str, str]:
        """Return no headers."""
        return {}

    def close(self) -> None:
        """Do nothing."""


NO_TRACER = NoTracer()
_tracer: ContextVar[Tracer] = ContextVar("tracer", default=NO_TRACER)


@contextmanager
def request_span(tracer: Tracer, method: str, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
    """Open the span of a request; spans of the tasks started in the block are below it."""
    token = _tracer.set(tracer)
    try:
        with tracer.request(method, headers) as span:
            yield span
    finally:
        _tracer.reset(token)


def span(name: str, **attributes: str | int | float) -> AbstractContextManager[None]:
    """Return a span of a stage of the current request; outside of requests it does nothing."""
    return _tracer.get().span(name, attributes)


def propagation_headers() -> dict[str, str]:
    """Return the headers (`traceparent`) that pass the current span to another server; empty without a trace."""
    return _tracer.get().propagation_headers()
