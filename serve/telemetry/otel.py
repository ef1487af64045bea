"""Traces with OpenTelemetry, exported with OTLP over HTTP; needs the extra `telemetry`.

The variables `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE` and `OTEL_RESOURCE_ATTRIBUTES` of
OpenTelemetry apply as its specification describes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve.telemetry.spans import Attributes
from serve.version import VERSION

_PROPAGATOR = TraceContextTextMapPropagator()


class OtelRequest:
    """The span of a request."""

    def __init__(self, span: trace.Span, method: str) -> None:
        self._span = span
        self._method = method
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def finish(self, *, route: str, status: int) -> None:
        """Name the span after the route and set the status; only server errors mark the span as failed."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(trace.StatusCode.ERROR)


class OtelTracer:
    """Records spans and exports them in the background; a collector that does not respond slows no request down."""

    def __init__(self, endpoint: str, *, sample_ratio: float, service_name: str, instance: str) -> None:
        """Start the exporter to a collector; `instance` distinguishes the servers of one name."""
        resource = Resource.create(
            {SERVICE_NAME: service_name, SERVICE_VERSION: VERSION, SERVICE_INSTANCE_ID: instance}
        )
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBasedTraceIdRatio(sample_ratio), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("actserve", VERSION)

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[OtelRequest]:
        """Open the span of a request."""
        parent = _PROPAGATOR.extract(headers)
        with self._tracer.start_as_current_span(
            method, context=parent, kind=trace.SpanKind.SERVER, attributes={"http.request.method": method}
        ) as span:
            yield OtelRequest(span, method)

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[None]:
        """Open a span below the current one; an exception marks it as failed."""
        with self._tracer.start_as_current_span(name, attributes=dict(attributes)):
            yield

    def propagation_headers(self) -> dict[str, str]:
        """Return the headers of the W3C trace context of the current span."""
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers)
        return headers

    def close(self) -> None:
        """Export the remaining spans and stop; blocks for a few seconds if the collector does not respond."""
        self._provider.shutdown()
