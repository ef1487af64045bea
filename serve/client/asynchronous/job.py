"""One job of the server."""

import json
import time
from asyncio import sleep
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

from serve.client.asynchronous.transport import AsyncTransport
from serve.client.calls import Call, path_of
from serve.client.events import EventParser, JobEvent, JobLine
from serve.client.problems import ServerUnreachable
from serve.client.responses import parse_response
from serve.client.types import JobDetails, JobDocument
from serve.jobs.states import FINISHED

RECONNECT_SECONDS = 1.0
MAX_RECONNECTS = 60  # consecutive, without an event
MIN_WAIT_SECONDS = 1.0  # for a response of the server, if a deadline is near


class AsyncJob:
    """A job; `id` identifies it on the server."""

    def __init__(self, transport: AsyncTransport, job_id: str) -> None:
        self.id = job_id
        self._transport = transport

    async def get(self) -> JobDetails:
        """Return the job with its progress and the delivery attempts of its webhook."""
        return await self._transport.send_for(self._call("GET", "/v1/jobs/{job_id}"), JobDetails)

    async def cancel_or_delete(self) -> JobDocument | None:
        """Cancel the job and return it; if it is finished, delete it with its results and return None."""
        response = await self._transport.send(self._call("DELETE", "/v1/jobs/{job_id}"))
        if response.status_code == HTTPStatus.NO_CONTENT:
            return None
        return parse_response(response, JobDocument)

    async def results(self) -> AsyncIterator[JobLine]:
        """Yield the results of the inputs that are completed so far, in the order of the inputs."""
        async for line in self._transport.lines(self._call("GET", "/v1/jobs/{job_id}/output")):
            yield json.loads(line)

    async def errors(self) -> AsyncIterator[JobLine]:
        """Yield the problems of the inputs that failed so far."""
        async for line in self._transport.lines(self._call("GET", "/v1/jobs/{job_id}/errors")):
            yield json.loads(line)

    async def events(self, last_event_id: str = "0") -> AsyncIterator[JobEvent]:
        """Yield the events after `last_event_id` until the job is finished; an interrupted stream is resumed.

        Raises:
            ServerUnreachable: the server cannot be reached, or did not come back after many attempts.
        """
        async for event in self._events(last_event_id, deadline=None):
            if event is not None:
                yield event

    async def wait(
        self, timeout_seconds: float | None = None, *, on_event: Callable[[JobEvent], object] | None = None
    ) -> JobDetails:
        """Wait until the job is finished and return it; `on_event` is called with each event.

        Raises:
            TimeoutError: the job is not finished after `timeout_seconds`; it continues on the server.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        async for event in self._events("0", deadline=deadline):
            if event is not None and on_event is not None:
                on_event(event)
            if deadline is not None and time.monotonic() >= deadline:
                break
        job = await self.get()
        if job["status"] not in FINISHED:
            raise TimeoutError(f"job {self.id} is {job['status']} after {timeout_seconds} s")
        return job

    async def _events(self, last_event_id: str, *, deadline: float | None) -> AsyncIterator[JobEvent | None]:
        """Yield events, and None when a connection ended or the server is quiet."""
        failures, is_connected = 0, False
        while True:
            try:
                async with self._transport.stream(self._events_call(last_event_id, deadline)) as response:
                    is_connected = True
                    if response.status_code == HTTPStatus.NO_CONTENT:
                        return
                    parser = EventParser()
                    async for line in response.aiter_lines():
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
            await sleep(RECONNECT_SECONDS)

    def _events_call(self, last_event_id: str, deadline: float | None) -> Call:
        seconds = None if deadline is None else max(MIN_WAIT_SECONDS, deadline - time.monotonic())
        headers = {"Last-Event-ID": last_event_id}
        return self._call("GET", "/v1/jobs/{job_id}/events", headers=headers, timeout_seconds=seconds)

    def _call(self, method: str, path: str, **others: Any) -> Call:
        return Call(method=method, path=path_of(path, job_id=self.id), **others)
