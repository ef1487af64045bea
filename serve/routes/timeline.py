"""`POST /v1/timeline`: segments and window scores of a long video."""

import asyncio
import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve.access.authorizer import Caller
from serve.admission.clients import client_of
from serve.api.options import merge_options, validate_options
from serve.api.problems import problem_responses
from serve.jobs.documents import JobFields
from serve.query import accepts_query
from serve.routes.authorization import CallerDep
from serve.routes.bodies import VIDEO_SCHEMA, form_body
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import IdempotencyKey, PreferAsync, ServiceDep
from serve.routes.disconnection import cancel_on_disconnect
from serve.routes.jobs import CREATED, NEW_JOB_PROBLEMS, receive_job_upload, respond_with_job
from serve.service import Service
from serve.timeline.google import GoogleAnnotateVideoResponse, to_google_response
from serve.timeline.options import TimelineOptions
from serve.timeline.responses import TimelineResponse
from serve.uploads import receive_upload
from serve.videos.writer import Origin

router = APIRouter(prefix="/v1", tags=["timeline"])
OPTION_FIELDS = ("options", *TimelineOptions.model_fields)
PROBLEMS = problem_responses(*NEW_JOB_PROBLEMS)


@router.post(
    "/timeline", summary="Segments of a long video", response_model=None,
    responses={200: {"model": TimelineResponse | GoogleAnnotateVideoResponse}, **CREATED, **PROBLEMS},
    openapi_extra=form_body("video", VIDEO_SCHEMA, options=TimelineOptions, is_raw_allowed=True),
)  # fmt: skip
@accepts_query(*OPTION_FIELDS)
async def timeline(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    prefer_async: PreferAsync,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Score sliding windows over a video of any length and merge windows with the same label into segments.

    With `Prefer: respond-async` the response is 202 with a job whose output contains the timeline; `Idempotency-Key`
    applies to that job.
    """
    if prefer_async:
        return await _create_job(request, service, caller, idempotency_key)
    maker = service.timelines  # raises before the upload is read if the server is not ready
    settings = service.settings.timeline
    limits = service.settings.limits.model_copy(update={"max_upload_bytes": settings.max_upload_bytes})
    client = client_of(request)
    service.timelines_in_flight.check(client)
    started = time.perf_counter()
    async with (
        request_deadline(request, settings.deadline_seconds) as deadline,
        receive_upload(request, service.uploads, limits, fields=OPTION_FIELDS) as upload,
    ):
        options = validate_options(TimelineOptions, merge_options(upload.fields, upload.query))
        with service.timelines_in_flight.admit(client):
            work = maker.timeline(
                upload.path, options, deadline=deadline, origin=Origin(filename=upload.filename, key_id=caller.key_id)
            )
            answer = await cancel_on_disconnect(request, work)
    answer.timing_ms["upload"] = round(upload.upload_ms, 2)
    answer.timing_ms["total"] = round((time.perf_counter() - started) * 1000, 2)
    request.state.timing_ms = answer.timing_ms
    service.metrics.timeline_windows.inc(answer.num_windows)
    service.metrics.timeline_video_seconds.inc(answer.video.duration_seconds)
    body = answer if options.format == "actserve" else to_google_response(answer)
    text = await asyncio.to_thread(body.model_dump_json, by_alias=True)
    return Response(text, media_type="application/json")


async def _create_job(request: Request, service: Service, caller: Caller, idempotency_key: str | None) -> Response:
    jobs, settings = service.jobs, service.settings
    with service.job_uploads.admit(client_of(request)):
        async with (
            request_deadline(request, settings.jobs.upload_deadline_seconds),
            receive_job_upload(
                request, service, fields=OPTION_FIELDS, max_bytes=settings.timeline.max_upload_bytes, max_files=1
            ) as upload,
        ):
            options = validate_options(TimelineOptions, merge_options(upload.fields, upload.query))
            fields = JobFields(kind="timeline", options=options.model_dump(mode="json", exclude_unset=True))
            job = await jobs.submit_uploads(fields, upload.files, idempotency_key=idempotency_key, key_id=caller.key_id)
    return respond_with_job(job, **{"Preference-Applied": "respond-async"})
