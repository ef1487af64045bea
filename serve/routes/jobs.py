"""`/v1/jobs`: many or long videos, processed in the background."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from serve import errors
from serve.admission.clients import client_of
from serve.admission.concurrency import ConcurrencyLimit
from serve.api.options import parse_json_object, validate_options
from serve.api.problems import problem_responses
from serve.errors import InvalidOption
from serve.jobs.documents import JobDetails, JobDocument, JobFields, JobInput, JobPage, to_job_details, to_job_document
from serve.jobs.records import InputRow, Job, JobKind
from serve.jobs.results import job_result_line
from serve.jobs.service import JobService, translate_disk_errors
from serve.jobs.states import FINISHED, JobStatus
from serve.jobs.store import unknown_job
from serve.routes.authorization import CallerDep
from serve.routes.bodies import BINARY_SCHEMA, SCORING_PROBLEMS, form_body, json_body, media_type_of, read_json
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import IdempotencyKey, JobId, ServiceDep
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token
from serve.service import Service
from serve.uploads import Upload, receive_upload

router = APIRouter(prefix="/v1", tags=["jobs"])
JSON_LINES, EVENTS = "application/jsonl", "text/event-stream"
SORT_KEY = re.compile(r"[0-9]{1,12}\.[0-9]{1,9} job_[0-9a-f]{32}")  # the format of `_sort_key`
ROWS_PER_QUERY = 50
EVENTS_PER_QUERY = 200
POLL_SECONDS = 0.3
MAX_QUIET_POLLS = 40  # polls without an event after which a comment keeps the connection open

VIDEOS = {"type": "array", "items": BINARY_SCHEMA, "description": "The video files."}
_FORM = form_body("video", VIDEOS, options=JobFields, required=("kind",))["requestBody"]["content"]
_JSON = json_body(JobInput)["requestBody"]["content"]
BODY = {"requestBody": {"required": True, "content": {**_FORM, **_JSON}}}
STORE_PROBLEMS = (errors.EngineUnavailable, errors.StoreUnavailable)
NEW_JOB_PROBLEMS = (
    *SCORING_PROBLEMS,
    errors.IdempotencyKeyReused,
    errors.NotEnabled,
    errors.AddressRefused,
    errors.JobsFull,
    errors.JobFolderUnavailable,
)
LOCATION = {"Location": {"description": "URL of the job.", "schema": {"type": "string"}}}
CREATED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobDocument, "description": "The job is stored.", "headers": LOCATION}
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {"description": "One JSON object per line.", "content": {JSON_LINES: {"schema": {"type": "string"}}}}
}
StatusFilter = Annotated[JobStatus | None, Query(description="Only jobs with this status.")]
KindFilter = Annotated[JobKind | None, Query(description="Only jobs of this kind.")]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID", pattern=r"^[0-9]{1,9}$", description="Number of the last event that the client received."
    ),
]


async def _job_of_caller(service: ServiceDep, caller: CallerDep, job_id: JobId) -> Job:
    """Return the job of the path.

    Raises:
        UnknownJob: there is none with this id, or it belongs to another API key.
    """
    job = await asyncio.to_thread(service.jobs.store.load, job_id)
    if not caller.owns(job.key_id):
        raise unknown_job(job_id)
    return job


JobDep = Annotated[Job, Depends(_job_of_caller)]


class EventStream(EventSourceResponse):
    """A stream of events, counted while it is open.

    Raises:
        Overloaded: there are too many streams; raised before the response starts.
    """

    def __init__(self, events: AsyncIterator[bytes], streams: ConcurrencyLimit, client: str) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.admit(self._client):
            await super().__call__(scope, receive, send)


@router.post(
    "/jobs", status_code=202, response_model=None, summary="Process videos in the background",
    responses={**CREATED, **problem_responses(*NEW_JOB_PROBLEMS)}, openapi_extra=BODY,
)  # fmt: skip
async def create_job(
    request: Request, service: ServiceDep, caller: CallerDep, idempotency_key: IdempotencyKey = None
) -> JSONResponse:
    """Create a job for one or more videos: uploads of a form, or, with a JSON body, a folder on the server or URLs.

    The response is sent after the job is stored durably.
    """
    jobs = service.jobs  # raises before the upload is read if the server is not ready
    settings = service.settings.jobs
    if media_type_of(request) == "application/json":
        job_input = await read_json(request, JobInput, limit=service.settings.limits.max_field_bytes)
        return respond_with_job(await jobs.submit(job_input, idempotency_key=idempotency_key, key_id=caller.key_id))
    with service.job_uploads.admit(client_of(request)):
        async with (
            request_deadline(request, settings.upload_deadline_seconds),
            receive_job_upload(
                request,
                service,
                fields=tuple(JobFields.model_fields),
                max_bytes=settings.max_upload_bytes,
                max_files=settings.max_inputs,
            ) as upload,
        ):
            job = await jobs.submit_uploads(
                _parse_fields(upload), upload.files, idempotency_key=idempotency_key, key_id=caller.key_id
            )
    return respond_with_job(job)


@router.get("/jobs", summary="List jobs", responses=problem_responses(*STORE_PROBLEMS))
async def list_jobs(
    service: ServiceDep,
    caller: CallerDep,
    status: StatusFilter = None,
    kind: KindFilter = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> JobPage:
    """Return a page of the caller's jobs, newest first."""
    store = service.jobs.store
    key = read_text_token("jobs", page_token, SORT_KEY)
    after = None if key is None else (float(key.split()[0]), key.split()[1])
    key_id = None if caller.is_admin else caller.key_id
    jobs = await asyncio.to_thread(
        store.page, status=status, kind=kind, key_id=key_id, after=after, limit=page_size + 1
    )
    page = jobs[:page_size]
    return JobPage(
        jobs=[to_job_document(job) for job in page],
        next_page_token=make_token("jobs", _sort_key(page[-1])) if len(jobs) > page_size else None,
    )


@router.get("/jobs/{job_id}", summary="One job", responses=problem_responses(errors.UnknownJob, *STORE_PROBLEMS))
async def show_job(service: ServiceDep, job: JobDep) -> JobDetails:
    """Return a job with its progress and the delivery attempts of its webhook."""
    return to_job_details(job, await asyncio.to_thread(service.jobs.store.delivery, job.id))


@router.delete(
    "/jobs/{job_id}", status_code=204, response_model=None, summary="Cancel or delete a job",
    responses={
        202: {"model": JobDocument, "description": "The job was not finished and is being cancelled."},
        204: {"description": "The job was finished and was deleted with its results."},
        **problem_responses(errors.UnknownJob, *STORE_PROBLEMS),
    },
)  # fmt: skip
async def cancel_or_delete_job(service: ServiceDep, job: JobDep) -> Response:
    """Cancel a job that is not finished; delete a finished one with its results."""
    jobs = service.jobs
    if await jobs.delete(job.id):
        return Response(status_code=204)
    return JSONResponse(to_job_document(await jobs.cancel(job.id)).model_dump(mode="json"), status_code=202)


@router.get(
    "/jobs/{job_id}/output", response_class=StreamingResponse, summary="Results of a job",
    responses={**LINES, **problem_responses(errors.UnknownJob, *STORE_PROBLEMS)},
)  # fmt: skip
async def job_output(service: ServiceDep, job: JobDep) -> StreamingResponse:
    """Stream one line per completed input, in the order of the inputs."""
    return await _stream_rows(service.jobs, job, "completed")


@router.get(
    "/jobs/{job_id}/errors", response_class=StreamingResponse, summary="Problems of the inputs of a job",
    responses={**LINES, **problem_responses(errors.UnknownJob, *STORE_PROBLEMS)},
)  # fmt: skip
async def job_errors(service: ServiceDep, job: JobDep) -> StreamingResponse:
    """Stream one line with the RFC 9457 problem of each failed input."""
    return await _stream_rows(service.jobs, job, "failed")


@router.get(
    "/jobs/{job_id}/events", response_class=Response, response_model=None, summary="Progress of a job",
    responses={
        200: {"description": "Server-sent events.", "content": {EVENTS: {"schema": {"type": "string"}}}},
        204: {"description": "The job is finished, and the client has received its last event."},
        **problem_responses(errors.UnknownJob, errors.Overloaded, *STORE_PROBLEMS),
    },
)  # fmt: skip
async def job_events(request: Request, service: ServiceDep, job: JobDep, last_event_id: LastEventId = None) -> Response:
    """Stream the events of a job until it is finished: `status` and `input` (numbered), and `progress`.

    With `Last-Event-ID`, an interrupted stream continues after that event.
    """
    after = int(last_event_id or 0)
    if after > job.num_events:
        raise InvalidOption(f"Last-Event-ID must be at most {job.num_events}, got {after}", num_events=job.num_events)
    if job.status in FINISHED and after == job.num_events:
        return Response(status_code=204)
    return EventStream(_stream_events(service, job.id, after), service.event_streams, client_of(request))


def respond_with_job(job: Job, **headers: str) -> JSONResponse:
    """Return the 202 response for a new job."""
    document = to_job_document(job).model_dump(mode="json")
    return JSONResponse(document, status_code=202, headers={"Location": f"/v1/jobs/{job.id}", **headers})


@asynccontextmanager
async def receive_job_upload(
    request: Request, service: Service, *, fields: Sequence[str], max_bytes: int, max_files: int
) -> AsyncIterator[Upload]:
    """Receive uploads into the job folder; see `receive_upload`.

    Raises:
        JobsFull: the limit of stored jobs is reached.
        JobFolderUnavailable: the folder cannot be written.
    """
    await service.jobs.require_room()
    limits = service.settings.limits.model_copy(update={"max_upload_bytes": max_bytes})
    folder = service.jobs.folder.incoming
    async with (
        translate_disk_errors(),
        receive_upload(request, folder, limits, fields=fields, max_files=max_files) as upload,
    ):
        yield upload


async def _stream_rows(jobs: JobService, job: Job, state: Literal["completed", "failed"]) -> StreamingResponse:
    first = await _read_rows(jobs, job.id, state, -1)  # an error before the first line is sent as a problem

    async def lines() -> AsyncIterator[str]:
        rows = first
        while rows:
            for row in rows:
                yield job_result_line(job.kind, row)
            rows = await _read_rows(jobs, job.id, state, rows[-1].index) if len(rows) == ROWS_PER_QUERY else []

    return StreamingResponse(lines(), media_type=JSON_LINES)


async def _read_rows(
    jobs: JobService, job_id: str, state: Literal["completed", "failed"], after: int
) -> list[InputRow]:
    return await asyncio.to_thread(jobs.store.inputs, job_id, state=state, after=after, limit=ROWS_PER_QUERY)


async def _stream_events(service: Service, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield the events after number `after`; stop early if the server stops or the job is deleted."""
    store = service.jobs.store
    quiet, progress = 0, -1.0
    while not service.is_stopping:
        try:
            job, events = await asyncio.to_thread(store.events, job_id, after=after, limit=EVENTS_PER_QUERY)
        except (errors.UnknownJob, errors.StoreUnavailable):
            return
        quiet += 1
        for event in events:
            yield format_sse_event(data_str=event.data, event=event.kind, id=str(event.number))
            after, quiet = event.number, 0
        if job.status in FINISHED and len(events) < EVENTS_PER_QUERY:
            return
        if job.progress != progress:
            progress, quiet = job.progress, 0
            yield format_sse_event(data_str=f'{{"progress":{progress:.4f}}}', event="progress")
        if quiet >= MAX_QUIET_POLLS:
            quiet = 0
            yield b": waiting\n\n"
        if len(events) < EVENTS_PER_QUERY:
            await asyncio.sleep(POLL_SECONDS)


def _parse_fields(upload: Upload) -> JobFields:
    """Validate the form fields of a job."""
    document: dict[str, Any] = {}
    for name, values in upload.fields.items():
        if len(values) > 1:
            raise InvalidOption(f"the form has `{name}` {len(values)} times; send it once")
        document[name] = parse_json_object(values[0]) if name == "options" else values[0]
    return validate_options(JobFields, document)


def _sort_key(job: Job) -> str:
    """Return a unique key that sorts jobs by time."""
    return f"{job.created_at!r} {job.id}"
