"""Streamed responses of a server: lines of results, and the progress of a job."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from serve.cli.calls import open_client
from serve.cli.output import output
from serve.client.calls import Call
from serve.client.types import JobDetails


def stream_lines(server: str, path: str) -> Iterator[str]:
    """Yield the lines of a response while they arrive.

    Raises:
        ActserveError: the server does not respond, or it responds with an error.
    """
    with open_client(server) as client:
        yield from client.lines(Call(method="GET", path=path))


def watch_job(server: str, job_id: str) -> JobDetails:
    """Show the progress of a job on standard error until it is finished; return the job.

    Raises:
        ActserveError: the connection to the server is lost, or there is no such job.
    """
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), disable=not output().shows_progress, transient=True,
    )  # fmt: skip
    with open_client(server) as client, bar:
        task = bar.add_task("validating", total=1.0)
        job = client.job(job_id)
        for event in job.events():
            if event["event"] == "progress":
                bar.update(task, completed=event["data"]["progress"])
            elif event["event"] == "status":
                bar.update(task, description=event["data"]["status"])
        return job.get()
