"""Streamed responses of a server: lines of results, and the events of a job with a progress bar."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from serve.cli.calls import TIMEOUT_SECONDS, ApiRequest, connection_error, error_detail, key_header
from serve.errors import ActserveError
from serve.jobs.states import FINISHED

RECONNECT_SECONDS = 1.0
MAX_RECONNECTS = 60  # consecutive, without an event


def stream_lines(url: str) -> Iterator[str]:
    """Yield the lines of a response while they arrive.

    Raises:
        ActserveError: the server does not respond, or it responds with an error.
    """
    try:
        with httpx.stream("GET", url, headers=key_header(), timeout=TIMEOUT_SECONDS) as response:
            _raise_for_status(response)
            yield from response.iter_lines()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise connection_error(url, error) from error


def watch_job(url: str) -> dict[str, Any]:
    """Show the progress of the job at a URL on standard error until it is finished; return the job.

    Raises:
        ActserveError: the connection to the server is lost, or there is no such job.
    """
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("validating", total=1.0)
        for kind, data in _events(f"{url}/events"):
            if kind == "progress":
                bar.update(task, completed=data["progress"])
            elif kind == "status":
                bar.update(task, description=data["status"])
    return ApiRequest(method="GET", url=url).send_for_json("id", "status", "request_counts", "problem")


def _events(url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (kind, data) of every event until the job is finished; reconnect if the stream is interrupted."""
    last, failures, is_connected = "0", 0, False
    while True:
        try:
            with httpx.stream(
                "GET", url, headers={"Last-Event-ID": last, **key_header()}, timeout=TIMEOUT_SECONDS
            ) as response:
                _raise_for_status(response)
                is_connected = True
                if response.status_code == httpx.codes.NO_CONTENT:
                    return
                for number, kind, data in _parse_events(response.iter_lines()):
                    last, failures = number or last, 0
                    yield kind, data
                    if kind == "status" and data["status"] in FINISHED:
                        return
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failures += 1
            if failures > MAX_RECONNECTS or not is_connected:
                raise connection_error(url, error) from error
        time.sleep(RECONNECT_SECONDS)


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """Parse server-sent events; yield (id, kind, data)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("id"), fields.get("event", "message"), json.loads(fields["data"])
            fields = {}
        else:
            fields = {}


def _raise_for_status(response: httpx.Response) -> None:
    if response.is_error:
        response.read()
        raise ActserveError(error_detail(response), status=response.status_code)
