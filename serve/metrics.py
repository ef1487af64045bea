"""Prometheus metrics of one server; each server has its own registry."""

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from serve.telemetry.collectors import ChildProcessCollector, ServerCollector, ServerCounts
from serve.telemetry.context import exemplar
from serve.version import VERSION

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


class Metrics:
    """The metrics of one server, one attribute per metric."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        build = Info("actserve_build", "Release of the server and of Python.", registry=self.registry)
        build.info({"version": VERSION, "python": platform.python_version()})
        self.requests = Counter(
            "actserve_requests_total",
            "Number of requests, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "actserve_request_seconds",
            "Duration of requests in seconds, by route and status class (2xx, 4xx, ...).",
            ["route", "status_class"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "actserve_stage_seconds",
            "Duration of the stages of classifications in seconds, by stage.",
            ["stage"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "actserve_requests_in_flight",
            "Requests that compute or wait for a slot, except timelines.",
            registry=self.registry,
        )
        self.timelines_in_flight = Gauge(
            "actserve_timelines_in_flight", "Timelines in progress.", registry=self.registry
        )
        self.job_uploads = Gauge(
            "actserve_job_uploads", "Jobs whose uploads are being received.", registry=self.registry
        )
        self.uploads = Gauge("actserve_uploads_in_progress", "Uploads that are being received.", registry=self.registry)
        self.body_memory = Gauge(
            "actserve_body_memory_bytes", "Memory of the bodies of requests in progress.", registry=self.registry
        )
        self.event_streams = Gauge("actserve_event_streams", "Open streams of events of jobs.", registry=self.registry)
        self.timeline_windows = Counter(
            "actserve_timeline_windows_total", "Number of windows of finished timelines.", registry=self.registry
        )
        self.timeline_video_seconds = Counter(
            "actserve_timeline_video_seconds_total", "Total duration of the videos of finished timelines in seconds.",
            registry=self.registry,
        )  # fmt: skip
        self.loop_stalls = Histogram(
            "actserve_event_loop_stall_seconds",
            "Duration of stalls of the event loop of more than 100 ms, in seconds.",
            buckets=(0.2, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._server = ServerCollector()
        self.registry.register(self._server)
        self.registry.register(ChildProcessCollector())
        ProcessCollector(registry=self.registry)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Record a request."""
        self.requests.labels(route, status).inc()
        self.request_seconds.labels(route, f"{status // 100}xx").observe(seconds, exemplar())

    def observe_stages(self, timing_ms: dict[str, float]) -> None:
        """Record the stage timings of one response, in milliseconds."""
        for stage, milliseconds in timing_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1000, exemplar())

    def set_counts(self, counts: ServerCounts) -> None:
        """Set the figures of the components of the server."""
        self._server.counts = counts

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return (body, content type) of `/metrics`: OpenMetrics, with exemplars, for clients that accept it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
