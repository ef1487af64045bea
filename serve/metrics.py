"""Prometheus metrics of one server; each server has its own registry."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


class Metrics:
    """Counters and histograms by name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "actserve_requests_total", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "actserve_request_seconds",
            "Time of a request by route.",
            ["route"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "actserve_stage_seconds",
            "Time of a classification by stage.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("actserve_requests_in_flight", "Classifications in progress.", registry=self.registry)
        self.timelines_in_flight = Gauge(
            "actserve_timelines_in_flight", "Timelines in progress.", registry=self.registry
        )
        self.job_uploads = Gauge("actserve_job_uploads", "Jobs whose uploads arrive.", registry=self.registry)
        self.event_streams = Gauge("actserve_event_streams", "Streams of events of jobs.", registry=self.registry)
        self.timeline_windows = Counter(
            "actserve_timeline_windows_total", "Windows of finished timelines.", registry=self.registry
        )
        self.timeline_video_seconds = Counter(
            "actserve_timeline_video_seconds_total", "Length of the videos of finished timelines.",
            registry=self.registry,
        )  # fmt: skip
        self.queued_views = Gauge("actserve_queued_views", "Views waiting for the video graph.", registry=self.registry)
        self.batches = Gauge("actserve_batches", "Runs of the video graph so far.", registry=self.registry)
        self.batched_views = Gauge("actserve_batched_views", "Views in those runs so far.", registry=self.registry)
        self.decode_restarts = Gauge(
            "actserve_decode_children_replaced",
            "Decode children that were killed or died so far.",
            registry=self.registry,
        )
        self.decode_faults = Gauge(
            "actserve_decode_faults",
            "Files on which a decoder failed unexpectedly so far; the log has the tracebacks.",
            registry=self.registry,
        )

    def observe_stages(self, timing_ms: dict[str, float]) -> None:
        """Record the stage timings of one answer (milliseconds)."""
        for stage, milliseconds in timing_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1000)

    def render(self) -> tuple[bytes, str]:
        """Return (body, content type) of `/metrics`."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
