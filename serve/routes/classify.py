"""`POST /v1/classify`: one video in, the top-k labels out."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from serve.answers import Classification, Problem
from serve.errors import DeadlineExceeded, InvalidOption
from serve.options import ClassifyOptions, gather, parse_options
from serve.query import reads_query
from serve.routes.admission import admitted
from serve.service import Service
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["classify"])
Answer = TypeVar("Answer")
OPTION_FIELDS = ("options", *ClassifyOptions.model_fields)


def _form_schema() -> dict[str, Any]:
    options = ClassifyOptions.model_json_schema()["properties"]
    video = {"type": "string", "format": "binary", "description": "The video file."}
    document = {"type": "string", "description": "Options as one JSON object; each option is given once."}
    return {"type": "object", "required": ["video"], "properties": {"video": video, "options": document, **options}}


REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _form_schema()},
            "video/*": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "parameters": [  # one object that is written as `?top_k=3&num_clips=2`: a form has the same options as its fields
        {
            "name": "options of a raw body",
            "in": "query",
            "required": False,
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "properties": ClassifyOptions.model_json_schema()["properties"]},
            "example": {},
            "description": "Query parameters of a raw `video/*` body; a form has them as its fields.",
        }
    ],
}
PROBLEM_DOCUMENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": PROBLEM_DOCUMENT}
    for status, text in {
        404: "Unknown model or vocabulary",
        413: "Upload too large",
        415: "Not a video, or a container or codec outside the allowed list",
        422: "Unusable options, labels or video",
        503: "Overloaded or starting; Retry-After says when",
        504: "Deadline exceeded",
    }.items()
}


@router.post("/classify", responses=PROBLEMS, openapi_extra=REQUEST_BODY, summary="Top-k actions of a video")
@reads_query(*OPTION_FIELDS)
async def classify(request: Request) -> Classification:
    """Score a video against a vocabulary or against labels of the request alone."""
    service: Service = request.app.state.service
    pipeline = service.pipeline  # not ready: refused before the upload is read
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
            raise DeadlineExceeded(f"no answer within {limits.request_deadline_seconds} s") from error
    answer.timing_ms["upload"] = round(upload.upload_ms, 2)
    answer.timing_ms["total"] = round((time.perf_counter() - started) * 1000, 2)
    request.state.timing_ms = answer.timing_ms
    service.metrics.observe_stages(answer.timing_ms)
    return answer


async def _unless_disconnected(request: Request, work: Awaitable[Answer]) -> Answer:
    """The result of `work`, which is cancelled when the client goes away: nobody decodes for nobody."""
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise InvalidOption("the client went away")
        return task.result()
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
