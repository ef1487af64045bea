"""`/v1/feedback`: clips with the label they should have had, kept to train on; only where the operator asks for it."""

import asyncio
import re
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from serve.answers import FeedbackPage, FeedbackRow, KeptFeedback, Problem
from serve.errors import DeadlineExceeded, InvalidVocabulary, UnknownVocabulary
from serve.feedback.folder import Correction
from serve.feedback.index import Feedback
from serve.options import FeedbackOptions, checked, gather
from serve.query import reads_query
from serve.routes.admission import admitted
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token
from serve.service import Service
from serve.text import prompts
from serve.uploads import received
from serve.video.workers import ViewRequest
from serve.vocabularies.vocabulary import LabelFinder, Vocabulary

router = APIRouter(prefix="/v1", tags=["feedback"])
FIELDS = ("options", *FeedbackOptions.model_fields)
PLACE = re.compile(r"[0-9T:.+-]{19,32} [0-9a-f]{32}")  # as `_place` writes it
FeedbackId = Annotated[str, Path(description="`id` of the row.")]


def _request_body() -> dict[str, Any]:
    options = FeedbackOptions.model_json_schema()["properties"]
    video = {"type": "string", "format": "binary", "description": "The clip."}
    document = {"type": "string", "description": "Options as one JSON object; each option is given once."}
    form = {
        "type": "object",
        "required": ["video", "label"],
        "properties": {"video": video, "options": document, **options},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    texts = {
        403: "This server keeps no feedback",
        404: "Unknown vocabulary or feedback",
        413: "Upload too large",
        415: "Not a video, or a container or codec outside the allowed list",
        422: "Unusable options, label or video",
        503: "Overloaded or starting, or the folder cannot be used; Retry-After says when",
        504: "Deadline exceeded",
        507: "No room for more feedback",
    }
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "description": texts[status], "content": content} for status in statuses}


@router.post(
    "/feedback", status_code=201, response_model=KeptFeedback, summary="Correct an answer",
    openapi_extra=_request_body(),
    responses={
        200: {"model": KeptFeedback, "description": "The same clip is kept under this label already"},
        **_problems(403, 404, 413, 415, 422, 503, 504, 507),
    },
)  # fmt: skip
@reads_query(*FIELDS)
async def send_feedback(request: Request) -> JSONResponse:
    """Keep a clip and its right label, one upload as for a classification; answered once both are safely on disk."""
    service: Service = request.app.state.service
    folder = service.feedback  # switched off: refused before the upload is read
    limits = service.settings.limits
    async with admitted(service):
        try:
            async with (
                asyncio.timeout(limits.request_deadline_seconds),
                received(request, service.uploads, limits, fields=FIELDS) as upload,
            ):
                correction = await _correction(service, checked(FeedbackOptions, gather(upload.fields, upload.query)))
                with service.registry.use(None) as runtime:
                    rules = runtime.contract
                    wanted = ViewRequest(
                        sampling=rules.sampling, preprocess=rules.preprocess, num_clips=1, num_crops=1
                    )  # what a training run would read of it
                    decoded = await service.pool.views(upload.path, wanted)
                container = decoded.metadata.container
                row, is_new = await asyncio.to_thread(folder.add, upload.path, correction, container=container)
        except TimeoutError as error:
            raise DeadlineExceeded(f"not done within {limits.request_deadline_seconds} s") from error
    kept = KeptFeedback(**_shown(row), is_duplicate=not is_new)
    return JSONResponse(kept.model_dump(), status_code=201 if is_new else 200)


@router.get("/feedback", summary="What is kept", responses=_problems(403, 422, 503))
async def list_feedback(request: Request, page_size: PageSize = 100, page_token: PageToken = None) -> FeedbackPage:
    """Counts, and rows by pages, newest first; clips themselves are not handed out."""
    service: Service = request.app.state.service
    folder = service.feedback
    rows = sorted(await asyncio.to_thread(folder.rows), key=_place, reverse=True)
    after = read_text_token("feedback", page_token, PLACE)
    rest = rows if after is None else [row for row in rows if _place(row) < after]
    page = rest[:page_size]
    return FeedbackPage(
        num_clips=len(rows),
        num_bytes=sum(row.num_bytes for row in rows),
        max_clips=folder.max_clips,
        max_bytes=folder.max_bytes,
        labels=dict(Counter(row.label for row in rows).most_common()),
        feedback=[FeedbackRow(**_shown(row)) for row in page],
        next_page_token=make_token("feedback", _place(page[-1])) if len(rest) > page_size else None,
    )


@router.delete(
    "/feedback/{feedback_id}", status_code=204, summary="Erase a clip and its row", responses=_problems(403, 404, 503)
)
async def remove_feedback(request: Request, feedback_id: FeedbackId) -> Response:
    """Both are gone from the folder when this is answered."""
    service: Service = request.app.state.service
    await asyncio.to_thread(service.feedback.remove, feedback_id)
    return Response(status_code=204)


async def _correction(service: Service, options: FeedbackOptions) -> Correction:
    """Options checked by the rules of vocabularies; a label the vocabulary has is spelt as there.

    Raises:
        UnknownVocabulary: there is no such vocabulary.
        InvalidVocabulary: a label no vocabulary may have.
    """
    limit = service.settings.limits.max_label_chars
    label = _checked_label(options.label, limit)
    found = Correction(
        label=label,
        predicted=None if options.predicted is None else _checked_label(options.predicted, limit),
        request_id=options.request_id,
        note=options.note or None,
    )
    if options.vocabulary is None:
        return found
    vocabulary = await service.vocabularies.catalogue.resolve(options.vocabulary)
    known = await asyncio.to_thread(_known, vocabulary, label)  # a large vocabulary takes a while
    return replace(found, label=known or label, vocabulary=vocabulary.reference, is_new_label=known is None)


def _checked_label(label: str, limit: int) -> str:
    if len(label) > limit:
        raise InvalidVocabulary(f"the label has {len(label)} characters, at most {limit} are allowed", limit=limit)
    return prompts.check_labels([label])[0]


def _known(vocabulary: Vocabulary, label: str) -> str | None:
    try:
        return LabelFinder(vocabulary)(label).name
    except UnknownVocabulary:
        return None


def _place(row: Feedback) -> str:
    """Where a row stands in time; no two share it."""
    return f"{row.created_at} {row.feedback_id}"


def _shown(row: Feedback) -> dict[str, Any]:
    told = {name: value for name, value in vars(row).items() if name not in ("feedback_id", "file")}
    return {"id": row.feedback_id, **told}
