"""Prometheus collectors that read their values when `/metrics` is requested: the server's components and processes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psutil
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # views; SERVE_BATCH__MAX_VIEWS is at most 64


@dataclass(frozen=True, kw_only=True)
class ServerCounts:
    """Figures of the components of a server at one time; counts are totals since startup."""

    is_ready: bool = False
    engines: Mapping[str, str] = field(default_factory=dict)  # `name@version` -> engine, of the active models
    queued_views: int = 0
    batch_sizes: Mapping[int, int] = field(default_factory=dict)  # views -> number of runs of a video graph
    decodes_waiting: int = 0
    decodes_running: int = 0
    decode_failures: Mapping[str, int] = field(default_factory=dict)  # problem -> number of files
    decode_faults: int = 0
    decode_children_replaced: int = 0
    activations: Mapping[str, int] = field(default_factory=dict)  # outcome -> number
    encodings: Mapping[str, int] = field(default_factory=dict)  # outcome -> number
    encoding_seconds: float = 0.0
    encodings_queued: int = 0


class ServerCollector(Collector):
    """Metrics of `counts`, which the owner replaces before each collection."""

    def __init__(self) -> None:
        self.counts = ServerCounts()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        counts = self.counts
        yield GaugeMetricFamily("actserve_ready", "1 if `/readyz` returns 200, else 0.", value=float(counts.is_ready))
        models = InfoMetricFamily(
            "actserve_model", "Active model versions and the engine that runs each of them.", labels=("model", "engine")
        )
        for reference, engine in counts.engines.items():
            models.add_metric((reference, engine), {})
        yield models
        yield from self._collect_decoding()
        yield GaugeMetricFamily(
            "actserve_queued_views", "Views waiting for the video graph.", value=counts.queued_views
        )
        yield _batch_histogram(counts.batch_sizes)
        yield _counter(
            "actserve_activations", "Activations of model versions, by outcome: active, failed.",
            "outcome", {"active": 0, "failed": 0} | dict(counts.activations),
        )  # fmt: skip
        yield _counter(
            "actserve_vocabulary_encodings", "Encoded versions of vocabularies, by outcome: current, failed.",
            "outcome", {"current": 0, "failed": 0} | dict(counts.encodings),
        )  # fmt: skip
        yield CounterMetricFamily(
            "actserve_vocabulary_encoding_seconds", "Time spent encoding vocabularies in seconds.",
            value=counts.encoding_seconds,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "actserve_vocabulary_encodings_queued", "Vocabularies waiting to be encoded.", value=counts.encodings_queued
        )

    def _collect_decoding(self) -> Iterator[Metric]:
        counts = self.counts
        yield GaugeMetricFamily(
            "actserve_decode_queue_videos", "Videos waiting for a decode child.", value=counts.decodes_waiting
        )
        yield GaugeMetricFamily("actserve_decodes_in_progress", "Videos being decoded.", value=counts.decodes_running)
        yield _counter(
            "actserve_decode_failures", "Videos that could not be decoded, by problem.", "problem",
            counts.decode_failures,
        )  # fmt: skip
        yield CounterMetricFamily(
            "actserve_decode_faults",
            "Files on which a decoder has failed unexpectedly; the log has the tracebacks.",
            value=counts.decode_faults,
        )
        yield CounterMetricFamily(
            "actserve_decode_children_replaced",
            "Decode children replaced because they were killed or exited.",
            value=counts.decode_children_replaced,
        )


class ChildProcessCollector(Collector):
    """Memory and CPU time of the processes below the server: the fork server and the decode children."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; processes that exit meanwhile are left out."""
        count, resident, cpu = 0, 0, 0.0
        parent = psutil.Process()
        own = parent.cpu_times()
        cpu += own.children_user + own.children_system  # of children that have exited
        for child in parent.children(recursive=True):
            try:
                with child.oneshot():
                    times, memory = child.cpu_times(), child.memory_info().rss
            except psutil.Error:
                continue
            count += 1
            resident += memory
            cpu += times.user + times.system + times.children_user + times.children_system
        yield GaugeMetricFamily("actserve_child_processes", "Child processes of the server.", value=count)
        yield GaugeMetricFamily(
            "actserve_child_processes_resident_memory_bytes",
            "Sum of the resident memory of the child processes in bytes; pages they share count for each.",
            value=resident,
        )
        yield CounterMetricFamily(
            "actserve_child_processes_cpu_seconds",
            "CPU time of the child processes in seconds, including those that have exited.",
            value=cpu,
        )


def _counter(name: str, documentation: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def _batch_histogram(sizes: Mapping[int, int]) -> HistogramMetricFamily:
    buckets = [
        (str(float(limit)), float(sum(number for size, number in sizes.items() if size <= limit)))
        for limit in BATCH_BUCKETS
    ]
    return HistogramMetricFamily(
        "actserve_batch_views",
        "Views per run of the video graph; with Triton, views per call.",
        buckets=[*buckets, ("+Inf", float(sum(sizes.values())))],
        sum_value=float(sum(size * number for size, number in sizes.items())),
    )
