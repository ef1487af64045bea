"""`/v1/videos`: stored videos, listed, deleted, and scored again without decoding."""

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from serve import errors
from serve.api.options import ScoreOptions, Tag
from serve.api.problems import problem_responses
from serve.repository import ModelReference
from serve.retrieval.options import Moment, RescorePageOptions
from serve.retrieval.rescoring import page_position
from serve.retrieval.responses import (
    ScoredPage,
    StoredClassification,
    StoredVideoInfo,
    StoredVideoPage,
    describe_stored_video,
)
from serve.routes.authorization import CallerDep
from serve.routes.bodies import json_body, read_json
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import ServiceDep
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token
from serve.routes.slots import check_room, run_in_slot
from serve.timeline.google import GoogleAnnotateVideoResponse, to_google_response
from serve.timeline.options import SegmentOptions
from serve.timeline.responses import TimelineResponse
from serve.videos.records import VideoFilter, timestamp

router = APIRouter(prefix="/v1", tags=["stored videos"])
PLACE = re.compile(r"[0-9T:.+-]{19,32} [0-9a-f]{32}")  # the format of `page_position`
VideoId = Annotated[
    str,
    Path(
        max_length=200,
        description="`video_id` of the response to the request that stored it.",
        examples=["0123456789abcdef0123456789abcdef"],
    ),
]
TagFilter = Annotated[Tag | None, Query(description="Videos with this tag.")]
ModelFilter = Annotated[
    str | None, Query(max_length=300, description="Videos that this model made, `name` or `name@version`.")
]
CreatedAfter = Annotated[Moment | None, Query(description="Videos stored at this time or later, RFC 3339.")]
CreatedBefore = Annotated[Moment | None, Query(description="Videos stored before this time, RFC 3339.")]


async def _owner(caller: CallerDep) -> str | None:
    """Return the API key whose videos the caller sees; None for all."""
    return None if caller.is_admin else caller.key_id


Owner = Annotated[str | None, Depends(_owner)]
VIEWS_OF_A_PAGE = 4  # scoring a page of stored videos takes about as long as encoding so many views
STORE_PROBLEMS = (errors.StoreUnavailable, errors.EngineUnavailable)
SCORE_PROBLEMS = (
    *STORE_PROBLEMS,
    errors.UnknownModel,
    errors.UnknownVocabulary,
    errors.InvalidVocabulary,
    errors.UploadTooLarge,
    errors.FolderUnavailable,
    errors.UnsupportedMedia,
    errors.Overloaded,
    errors.DeadlineExceeded,
    errors.EngineFailure,
)
VIDEO_PROBLEMS = (*SCORE_PROBLEMS, errors.UnknownVideo, errors.StaleVideo)


@router.get("/videos", summary="List stored videos", responses=problem_responses(*STORE_PROBLEMS, errors.UnknownModel))
async def list_videos(
    service: ServiceDep,
    owner: Owner,
    tag: TagFilter = None,
    model: ModelFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> StoredVideoPage:
    """Return a page of stored videos, newest first."""
    library = service.library
    reference = None if model is None else ModelReference.parse(model)
    chosen = VideoFilter(
        key_id=owner,
        tag=tag,
        model_name=None if reference is None else reference.name,
        model_version=None if reference is None else reference.version,
        created_after=None if created_after is None else timestamp(created_after),
        created_before=None if created_before is None else timestamp(created_before),
    )
    after = _place(page_token)
    found = await asyncio.to_thread(library.store.page, chosen, after=after, limit=page_size + 1)
    page = found[:page_size]
    return StoredVideoPage(
        videos=[describe_stored_video(video, is_stale=library.rescorer.is_stale(video)) for video in page],
        next_page_token=make_token("videos", page_position(page[-1])) if len(found) > page_size else None,
    )


@router.get(
    "/videos/{video_id}", summary="One stored video", responses=problem_responses(*STORE_PROBLEMS, errors.UnknownVideo)
)
async def get_video(service: ServiceDep, owner: Owner, video_id: VideoId) -> StoredVideoInfo:
    """Return the metadata of a stored video; its features cannot be downloaded."""
    library = service.library
    video = await asyncio.to_thread(library.store.get, video_id, key_id=owner)
    return describe_stored_video(video, is_stale=library.rescorer.is_stale(video))


@router.delete(
    "/videos/{video_id}",
    status_code=204,
    summary="Delete a stored video",
    responses=problem_responses(*STORE_PROBLEMS, errors.UnknownVideo),
)
async def delete_video(service: ServiceDep, owner: Owner, video_id: VideoId) -> Response:
    """Delete its metadata and features from the database and from memory."""
    await service.library.delete(video_id, key_id=owner)
    return Response(status_code=204)


@router.post(
    "/videos/{video_id}:classify",
    summary="Score a stored video again",
    responses=problem_responses(*VIDEO_PROBLEMS),
    openapi_extra=json_body(ScoreOptions),
)
async def classify_video(
    request: Request, service: ServiceDep, owner: Owner, video_id: VideoId
) -> StoredClassification:
    """Score the stored features against a vocabulary, or against the labels of the request."""
    rescorer, limits = service.library.rescorer, service.settings.limits
    check_room(request, service)
    async with request_deadline(request, limits.request_deadline_seconds) as deadline:
        options = await read_json(request, ScoreOptions, limit=limits.max_field_bytes)
        return await run_in_slot(
            request, service, lambda: rescorer.classify(video_id, options, key_id=owner), views=1, deadline=deadline
        )


@router.post(
    "/videos/{video_id}:timeline", summary="Segments of a stored video", response_model=None,
    responses={200: {"model": TimelineResponse | GoogleAnnotateVideoResponse}, **problem_responses(*VIDEO_PROBLEMS)},
    openapi_extra=json_body(SegmentOptions),
)  # fmt: skip
async def timeline_video(request: Request, service: ServiceDep, owner: Owner, video_id: VideoId) -> Response:
    """Score the stored windows and join those that show a label to segments."""
    rescorer, limits = service.library.rescorer, service.settings.limits
    check_room(request, service)
    async with request_deadline(request, limits.request_deadline_seconds) as deadline:
        options = await read_json(request, SegmentOptions, limit=limits.max_field_bytes)
        answer = await run_in_slot(
            request, service, lambda: rescorer.timeline(video_id, options, key_id=owner), views=1, deadline=deadline
        )
        body = answer if options.format == "actserve" else to_google_response(answer)
        text = await asyncio.to_thread(body.model_dump_json, by_alias=True)
    return Response(text, media_type="application/json")


@router.post(
    "/videos:classify",
    summary="Score all stored videos that a filter selects",
    responses=problem_responses(*SCORE_PROBLEMS),
    openapi_extra=json_body(RescorePageOptions),
)
async def classify_videos(request: Request, service: ServiceDep, owner: Owner) -> ScoredPage:
    """Score a page of stored videos, newest first, with one vocabulary."""
    rescorer, limits = service.library.rescorer, service.settings.limits
    check_room(request, service)
    async with request_deadline(request, limits.request_deadline_seconds) as deadline:
        options = await read_json(request, RescorePageOptions, limit=limits.max_field_bytes)
        after = _place(options.page_token)
        page, last = await run_in_slot(
            request,
            service,
            lambda: rescorer.page(options, after=after, key_id=owner),
            views=VIEWS_OF_A_PAGE,
            deadline=deadline,
        )
    page.next_page_token = None if last is None else make_token("videos", last)
    return page


def _place(page_token: str | None) -> tuple[str, str] | None:
    """Return (created_at, video_id) of the video after which a page starts."""
    found = read_text_token("videos", page_token, PLACE)
    if found is None:
        return None
    created_at, _, video_id = found.partition(" ")
    return created_at, video_id
