"""`actserve jobs ...`: process videos in the background on a running server.

actserve jobs create clips/ --kind classify --labels "waving,walking" --watch
actserve jobs results job_0123456789abcdef0123456789abcdef > results.jsonl
"""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from serve.cli.calls import ApiRequest, PrintCurl, Server
from serve.cli.inputs import OptionalInputs, expand_inputs
from serve.cli.options import Kind, KindOption, Labels, ModelName, MoreOptions, VocabularyName, merge_options
from serve.cli.output import command, output
from serve.cli.parameters import Yes, confirm
from serve.client.address import DEFAULT_SERVER
from serve.jobs.states import JobStatus

app = typer.Typer(no_args_is_help=True, help="Process videos in the background on a running server.")
JobId = Annotated[str, typer.Argument(help="Id of a job.")]


@command(app)
def create(
    videos: OptionalInputs = None,
    kind: KindOption = "classify",
    labels: Labels = None,
    vocabulary: VocabularyName = None,
    model: ModelName = None,
    options: MoreOptions = None,
    folder: Annotated[
        str | None, typer.Option(help="Folder on the server, relative to the folder that its operator allows.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(help="Pattern of file names in --folder, such as *.mp4.")] = None,
    url: Annotated[list[str] | None, typer.Option(help="URL of a video; can be given several times.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that is called when the job is finished.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: repeated requests create only one job.")] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Show the progress until the job is finished.")] = False,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Create a job from local video files and folders, a folder on the server, or URLs; print its id."""
    job_options = merge_options(options, {"candidate_labels": labels, "vocabulary": vocabulary, "model": model})
    sources = {"VIDEO": videos, "--folder": folder, "--url": url}
    used = [name for name, value in sources.items() if value]
    if len(used) != 1:
        raise typer.BadParameter(
            f"give exactly one of video files, --folder and --url, got {', '.join(used) or 'none'}"
        )
    if pattern is not None and folder is None:
        raise typer.BadParameter("--pattern needs --folder")
    document = {"kind": kind, "options": job_options, **({} if webhook is None else {"webhook_url": webhook})}
    headers = {} if key is None else {"Idempotency-Key": key}
    if videos:
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in document.items()}
        files = [("video", path) for path in expand_inputs(videos)]
        call = ApiRequest(method="POST", url=_url(server), files=files, fields=fields, headers=headers)
    else:
        filters = {} if pattern is None else {"pattern": pattern}
        source: dict[str, Any] = {"urls": url} if url else {"folder": {"path": folder, **filters}}
        body = json.dumps({**document, **source}).encode()
        headers["Content-Type"] = "application/json"
        call = ApiRequest(method="POST", url=_url(server), body=body, headers=headers)
    if print_curl:
        typer.echo(call.to_curl())
        return
    job = call.send_for_json("id", "status")
    if not (watch_it and output().as_json):  # one document: that of the finished job
        output().result(job, job["id"])
    if watch_it:
        _watch(server, job["id"])


@command(app, "list")
def list_all(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only jobs of this kind.")] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List jobs, newest first: id, kind, status, finished and total inputs, failed inputs, time."""
    filters = "".join(f"&{name}={value}" for name, value in (("status", status), ("kind", kind)) if value is not None)
    token = None
    while True:
        query = f"?page_size=1000{filters}" + (f"&page_token={token}" if token else "")
        page = ApiRequest(method="GET", url=f"{_url(server)}{query}").send_for_json("jobs", "next_page_token")
        for job in page["jobs"]:
            counts = job["request_counts"]
            done = f"{counts['completed'] + counts['failed']}/{counts['total']}"
            columns = (job["id"], job["kind"], job["status"], done, f"{counts['failed']} failed", job["created_at"])
            output().result(job, "\t".join(columns))
        token = page["next_page_token"]
        if token is None:
            return


@command(app)
def show(job_id: JobId, server: Server = DEFAULT_SERVER) -> None:
    """Print a job as JSON, as returned by the server."""
    job = ApiRequest(method="GET", url=_url(server, job_id)).send_for_json("id", "status")
    output().result(job, json.dumps(job, ensure_ascii=False, indent=2))


@command(app)
def watch(job_id: JobId, server: Server = DEFAULT_SERVER) -> None:
    """Show the progress of a job until it is finished; exit with 1 if an input was not completed."""
    _watch(server, job_id)


@command(app)
def cancel(job_id: JobId, yes: Yes = False, print_curl: PrintCurl = False, server: Server = DEFAULT_SERVER) -> None:
    """Cancel a job, or delete a finished one with its results."""
    call = ApiRequest(method="DELETE", url=_url(server, job_id))
    if print_curl:
        typer.echo(call.to_curl())
        return
    confirm(f"Cancel {job_id} on {server}, or delete it with its results?", is_confirmed=yes)
    is_deleted = call.send().status_code == 204
    text = f"{job_id} {'deleted' if is_deleted else 'is being cancelled'}"
    output().change({"id": job_id, "deleted": is_deleted}, text)


@command(app)
def results(
    job_id: JobId,
    errors: Annotated[
        bool, typer.Option("--errors", help="Print the errors of failed inputs instead of results.")
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Print the results of a job so far, one line of JSON per input."""
    from serve.cli.streams import stream_lines

    path = _url("", job_id) + ("/errors" if errors else "/output")
    for line in stream_lines(server, path):
        typer.echo(line)


def _watch(server: str, job_id: str) -> None:
    from serve.cli.streams import watch_job

    job = watch_job(server, job_id)
    counts = job["request_counts"]
    text = f"{job['status']}: {counts['completed']} of {counts['total']} completed, {counts['failed']} failed"
    output().result({**job}, text)
    if job["problem"] is not None:
        typer.echo(job["problem"]["detail"], err=True)
    if job["status"] != "completed" or counts["failed"]:
        raise typer.Exit(1)


def _url(server: str, job_id: str | None = None) -> str:
    return f"{server}/v1/jobs" + ("" if job_id is None else f"/{quote(job_id, safe='')}")
