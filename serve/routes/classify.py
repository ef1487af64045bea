"""`POST /v1/classify`: the top-k labels of a video."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import APIRouter, Request

from serve import errors
from serve.answers import Classification
from serve.options import ClassifyOptions, gather, parse_options
from serve.problems import problem_responses
from serve.query import reads_query
from serve.routes.admission import admitted
from serve.routes.bodies import BINARY, form_body, inlined_schema
from serve.routes.dependencies import ServiceDep
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["classify"])
Answer = TypeVar("Answer")
OPTION_FIELDS = ("options", *ClassifyOptions.model_fields)


VIDEO = {**BINARY, "description": "The video file."}
QUERY = {  # one object that is written as `?top_k=3&num_clips=2`: a form has the same options as its fields
    "name": "options of a raw body",
    "in": "query",
    "required": False,
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "properties": inlined_schema(ClassifyOptions)["properties"]},
    "example": {},
    "description": "Query parameters of a raw `video/*` body; a form has them as its fields.",
}
BODY = {**form_body("video", VIDEO, options=ClassifyOptions, is_raw_allowed=True), "parameters": [QUERY]}
PROBLEMS = problem_responses(
    errors.UnknownModel,
    errors.UnknownVocabulary,
    errors.UploadTooLarge,
    errors.UnsupportedMedia,
    errors.InvalidVocabulary,
    errors.VideoError,
    errors.Overloaded,
    errors.EngineUnavailable,
    errors.StoreUnavailable,
    errors.DeadlineExceeded,
    errors.EngineFailure,
)


@router.post("/classify", responses=PROBLEMS, openapi_extra=BODY, summary="Top-k actions of a video")
@reads_query(*OPTION_FIELDS)
async def classify(request: Request, service: ServiceDep) -> Classification:
    """Score a video against a vocabulary, or against the labels of the request."""
    pipeline = service.pipeline  # raises before the upload is read if the server is not ready
    limits = service.settings.limits
    started = time.perf_counter()
    async with admitted(service):
        deadline = asyncio.get_running_loop().time() + limits.request_deadline_seconds
        try:
            async with (
                asyncio.timeout_at(deadline),
                received(request, service.uploads, limits, fields=OPTION_FIELDS) as upload,
            ):
                options = parse_options(gather(upload.fields, upload.query))
                work = pipeline.classify(upload.path, options, deadline=deadline)
                answer = await _unless_disconnected(request, work)
        except TimeoutError as error:
            raise errors.DeadlineExceeded(f"no answer within {limits.request_deadline_seconds} s") from error
    answer.timing_ms["upload"] = round(upload.upload_ms, 2)
    answer.timing_ms["total"] = round((time.perf_counter() - started) * 1000, 2)
    request.state.timing_ms = answer.timing_ms
    service.metrics.observe_stages(answer.timing_ms)
    return answer


async def _unless_disconnected(request: Request, work: Awaitable[Answer]) -> Answer:
    """Await `work` and return its result; cancel it when the client disconnects.

    Raises:
        ClientDisconnected: the client closed the connection.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise errors.ClientDisconnected("the client disconnected before the answer")
        return task.result()
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
