"""`POST /v1/classify`: the top-k labels of a video."""

import time

from fastapi import APIRouter, Request

from serve.api.options import ClassifyOptions, merge_options, parse_classify_options
from serve.api.problems import problem_responses
from serve.api.responses import Classification
from serve.query import accepts_query
from serve.routes.authorization import CallerDep
from serve.routes.bodies import SCORING_PROBLEMS, VIDEO_SCHEMA, form_body
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import ServiceDep
from serve.routes.slots import check_room, run_in_slot
from serve.uploads import receive_upload
from serve.videos.writer import Origin

router = APIRouter(prefix="/v1", tags=["classify"])
OPTION_FIELDS = ("options", *ClassifyOptions.model_fields)

BODY = form_body("video", VIDEO_SCHEMA, options=ClassifyOptions, is_raw_allowed=True)
PROBLEMS = problem_responses(*SCORING_PROBLEMS)


@router.post("/classify", responses=PROBLEMS, openapi_extra=BODY, summary="Top-k actions of a video")
@accepts_query(*OPTION_FIELDS)
async def classify(request: Request, service: ServiceDep, caller: CallerDep) -> Classification:
    """Score a video against a vocabulary, or against the labels of the request."""
    pipeline = service.pipeline  # raises before the upload is read if the server is not ready
    limits = service.settings.limits
    check_room(request, service)
    started = time.perf_counter()
    async with (
        request_deadline(request, limits.request_deadline_seconds) as deadline,
        receive_upload(request, service.uploads, limits, fields=OPTION_FIELDS) as upload,
    ):
        options = parse_classify_options(merge_options(upload.fields, upload.query))
        origin = Origin(filename=upload.filename, key_id=caller.key_id)
        answer = await run_in_slot(
            request,
            service,
            lambda: pipeline.classify(upload.path, options, deadline=deadline, origin=origin),
            views=options.num_clips * options.num_crops,
            deadline=deadline,
        )
    answer.timing_ms["upload"] = round(upload.upload_ms, 2)
    answer.timing_ms["total"] = round((time.perf_counter() - started) * 1000, 2)
    request.state.timing_ms = answer.timing_ms
    service.metrics.observe_stages(answer.timing_ms)
    return answer
