"""`POST /v1/classify`: the top-k labels of a video."""

import asyncio
import time

from fastapi import APIRouter, Request

from serve import errors
from serve.answers import Classification
from serve.options import ClassifyOptions, gather, parse_options
from serve.problems import problem_responses
from serve.query import reads_query
from serve.routes.admission import admitted
from serve.routes.bodies import BINARY, form_body
from serve.routes.dependencies import ServiceDep
from serve.routes.disconnection import unless_disconnected
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["classify"])
OPTION_FIELDS = ("options", *ClassifyOptions.model_fields)


VIDEO = {**BINARY, "description": "The video file."}
BODY = form_body("video", VIDEO, options=ClassifyOptions, is_raw_allowed=True)
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
                answer = await unless_disconnected(request, work)
        except TimeoutError as error:
            raise errors.DeadlineExceeded(f"no answer within {limits.request_deadline_seconds} s") from error
    answer.timing_ms["upload"] = round(upload.upload_ms, 2)
    answer.timing_ms["total"] = round((time.perf_counter() - started) * 1000, 2)
    request.state.timing_ms = answer.timing_ms
    service.metrics.observe_stages(answer.timing_ms)
    return answer
