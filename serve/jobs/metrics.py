"""Prometheus metrics of jobs."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from serve.jobs.queue import QueueStatistics
from serve.jobs.states import FINISHED, UNFINISHED


class JobMetrics:
    """Counters of this process, and gauges of the queue that all server processes of a database share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.inputs = Counter(
            "actserve_job_inputs_total",
            "Inputs of jobs this server worked on, by kind and outcome: completed, failed, retried, stopped, lost.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.webhooks = Counter(
            "actserve_webhook_attempts_total",
            "Attempts to deliver a webhook, by outcome: delivered, retried, failed.",
            ["outcome"],
            registry=registry,
        )
        self._jobs = Gauge("actserve_jobs", "Jobs of the store by status.", ["status"], registry=registry)
        self._inputs = Gauge(
            "actserve_job_queue_inputs", "Inputs of unfinished jobs, pending or running.", ["state"], registry=registry
        )
        self._oldest = Gauge(
            "actserve_oldest_job_age_seconds", "Age of the oldest unfinished job; 0 without one.", registry=registry
        )

    def update(self, statistics: QueueStatistics) -> None:
        """Set the gauges of the queue."""
        for status in (*UNFINISHED, *FINISHED):
            self._jobs.labels(status).set(statistics.jobs.get(status, 0))
        for state in ("pending", "running"):
            self._inputs.labels(state).set(statistics.inputs.get(state, 0))
        self._oldest.set(statistics.oldest_seconds)
