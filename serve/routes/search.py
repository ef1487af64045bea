"""`/v1/search`: windows of stored videos that a text describes, or that look like an example."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from serve import errors
from serve.api.options import merge_options, validate_options
from serve.api.problems import problem_responses
from serve.query import accepts_query, read_query
from serve.retrieval.options import MAX_TOP_K, ExampleSearchOptions, SearchOptions
from serve.retrieval.responses import SearchResponse
from serve.routes.bodies import SCORING_PROBLEMS, VIDEO_SCHEMA, form_body, json_body, media_type_of, read_json
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import ServiceDep
from serve.routes.slots import check_room, run_in_slot
from serve.routes.videos import SCORE_PROBLEMS, CreatedAfter, CreatedBefore, Owner, TagFilter
from serve.uploads import receive_upload

router = APIRouter(prefix="/v1", tags=["stored videos"])
OPTION_FIELDS = ("options", *SearchOptions.model_fields)
_FORM = form_body("video", VIDEO_SCHEMA, options=SearchOptions, is_raw_allowed=True)
BODY = {
    **_FORM,
    "requestBody": {
        "required": True,
        "content": {
            **json_body(ExampleSearchOptions)["requestBody"]["content"],
            **_FORM["requestBody"]["content"],
        },
    },
}


@router.get("/search", summary="Search windows by a text", responses=problem_responses(*SCORE_PROBLEMS))
async def search_by_text(
    request: Request,
    service: ServiceDep,
    owner: Owner,
    q: Annotated[
        str,
        Query(
            description="Text that describes the windows; it is filled into the templates of the model.",
            examples=["a person opens a door"],
        ),
    ],
    top_k: Annotated[int, Query(ge=1, le=MAX_TOP_K, description="Number of windows to return, best first.")] = 10,
    tag: TagFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    model: Annotated[
        str | None, Query(description="A model, `name` or `name@version`; by default that of the server.")
    ] = None,
) -> SearchResponse:
    """Return the windows of stored videos with the largest cosine with the text."""
    search = service.library.search
    options = SearchOptions(
        top_k=top_k, tag=tag, created_after=created_after, created_before=created_before, model=model
    )
    async with request_deadline(request, service.settings.limits.request_deadline_seconds) as deadline:
        return await run_in_slot(
            request, service, lambda: search.by_text(q, options, key_id=owner), views=1, deadline=deadline
        )


@router.post(
    "/search",
    summary="Search windows by an example",
    openapi_extra=BODY,
    responses=problem_responses(*SCORING_PROBLEMS, errors.UnknownVideo, errors.StaleVideo),
)
@accepts_query(*OPTION_FIELDS)
async def search_by_example(request: Request, service: ServiceDep, owner: Owner) -> SearchResponse:
    """Return the windows that look like a part of a stored video (JSON), or like a clip (form or raw body)."""
    search, limits = service.library.search, service.settings.limits
    check_room(request, service)
    async with request_deadline(request, limits.request_deadline_seconds) as deadline:
        if media_type_of(request) == "application/json":
            read_query(request, ())  # the options are in the body
            wanted = await read_json(request, ExampleSearchOptions, limit=limits.max_field_bytes)
            return await run_in_slot(
                request, service, lambda: search.by_example(wanted, key_id=owner), views=1, deadline=deadline
            )
        async with receive_upload(request, service.uploads, limits, fields=OPTION_FIELDS) as upload:
            options = validate_options(SearchOptions, merge_options(upload.fields, upload.query))
            return await run_in_slot(
                request,
                service,
                lambda: search.by_clip(upload.path, options, deadline=deadline, key_id=owner),
                views=1,
                deadline=deadline,
            )
