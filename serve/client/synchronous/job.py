# Generated from serve/client/asynchronous by `python -m serve.client_source`; do not edit.
"""One job of the server."""

import json
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from time import sleep
from typing import Any

from serve.client.calls import Call, path_of
from serve.client.events import EventParser, JobEvent, JobLine
from serve.client.problems import ServerUnreachable
from serve.client.responses import parse_response
from serve.client.synchronous.transport import Transport
from serve.client.types import JobDetails, JobDocument
from serve.jobs.states import FINISHED

RECONNECT_SECONDS = 1.0
MAX_RECONNECTS = 60  # consecutive, without an event
MIN_WAIT_SECONDS = 1.0  # for a response of the server, if a deadline is near


class Job:
    """A job; `id` identifies it on the server."""

    def __init__(self, transport: Transport, job_id: str) -> None:
        self.id = job_id
        self._transport = transport

    def get(self) -> JobDetails:
        """Return the job with its progress and the delivery attempts of its webhook."""
        return self._transport.send_for(self._call("GET", "/v1/jobs/{job_id}"), JobDetails)

    def cancel_or_delete(self) -> JobDocument | None:
        """Cancel the job and return it; if it is finished, delete it with its results and return None."""
        response = self._transport.send(self._call("DELETE", "/v1/jobs/{job_id}"))
        if response.status_code == HTTPStatus.NO_CONTENT:
            return None
        return parse_response(response, JobDocument)

    def results(self) -> Iterator[JobLine]:
        """Yield the results of the inputs that are completed so far, in the order of the inputs."""
        for line in self._transport.lines(self._call("GET", "/v1/jobs/{job_id}/output")):
            yield json.loads(line)

    def errors(self) -> Iterator[JobLine]:
        """Yield the problems of the inputs that failed so far."""
        for line in self._transport.lines(self._call("GET", "/v1/jobs/{job_id}/errors")):
            yield json.loads(line)

    def events(self, last_event_id: str = "0") -> Iterator[JobEvent]:
        """Yield the events after `last_event_id` until the job is finished; an interrupted stream is resumed.

        Raises:
            ServerUnreachable: the server cannot be reached, or did not come back after many attempts.
        """
        for event in self._events(last_event_id, deadline=None):
            if event is not None:
                yield event

    def wait(
        self, timeout_seconds: float | None = None, *, on_event: Callable[[JobEvent], object] | None = None
    ) -> JobDetails:
        """Wait until the job is finished and return it; `on_event` is called with each event.

        Raises:
            TimeoutError: the job is not finished after `timeout_seconds`; it continues on the server.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for event in self._events("0", deadline=deadline):
            if event is not None and on_event is not None:
                on_event(event)
            if deadline is not None and time.monotonic() >= deadline:
                break
        job = self.get()
        if job["status"] not in FINISHED:
            raise TimeoutError(f"job {self.id} is {job['status']} after {timeout_seconds} s")
        return job

    def _events(self, last_event_id: str, *, deadline: float | None) -> Iterator[JobEvent | None]:
        """Yield events, and None when a connection ended or the server is quiet."""
        failures, is_connected = 0, False
        while True:
            try:
                with self._transport.stream(self._events_call(last_event_id, deadline)) as response:
                    is_connected = True
                    if response.status_code == HTTPStatus.NO_CONTENT:
                        return
                    parser = EventParser()
                    for line in response.iter_lines():
                        event = parser.feed(line)
                        yield event
                        if event is not None:
                            last_event_id, failures = event["id"] or last_event_id, 0
                            if event["event"] == "status" and event["data"]["status"] in FINISHED:
                                return
            except ServerUnreachable:
                failures += 1
                if failures > MAX_RECONNECTS or not is_connected:
                    raise
            yield None
            sleep(RECONNECT_SECONDS)

    def _events_call(self, last_event_id: str, deadline: float | None) -> Call:
        seconds = None if deadline is None else max(MIN_WAIT_SECONDS, deadline - time.monotonic())
        headers = {"Last-Event-ID": last_event_id}
        return self._call("GET", "/v1/jobs/{job_id}/events", headers=headers, timeout_seconds=seconds)

    def _call(self, method: str, path: str, **others: Any) -> Call:
        return Call(method=method, path=path_of(path, job_id=self.id), **others)
