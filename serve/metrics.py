"""Prometheus metrics of one server; each server has its own registry."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


class Metrics:
    """The metrics of one server, one attribute per metric."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "actserve_requests_total",
            "Number of requests, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "actserve_request_seconds",
            "Duration of requests in seconds, by route.",
            ["route"],
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
        self.queued_views = Gauge("actserve_queued_views", "Views waiting for the video graph.", registry=self.registry)
        self.num_batches = Gauge(
            "actserve_batches", "Batches run by the video graphs of the loaded models.", registry=self.registry
        )
        self.num_batched_views = Gauge(
            "actserve_batched_views", "Views run by the video graphs of the loaded models.", registry=self.registry
        )
        self.decode_children_replaced = Gauge(
            "actserve_decode_children_replaced",
            "Decode children replaced since startup because they were killed or exited.",
            registry=self.registry,
        )
        self.decode_faults = Gauge(
            "actserve_decode_faults",
            "Files on which a decoder has failed unexpectedly since startup; the log has the tracebacks.",
            registry=self.registry,
        )

    def observe_stages(self, timing_ms: dict[str, float]) -> None:
        """Record the stage timings of one response, in milliseconds."""
        for stage, milliseconds in timing_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1000)

    def render(self) -> tuple[bytes, str]:
        """Return (body, content type) of `/metrics`."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
