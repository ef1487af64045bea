"""`/v1/feedback`: clips with their correct label, stored for training; disabled by default."""

import asyncio
import re
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from serve import errors
from serve.api.options import FeedbackOptions, merge_options, validate_options
from serve.api.problems import problem_responses
from serve.api.responses import FeedbackPage, FeedbackRow, StoredFeedback
from serve.feedback.folder import Correction
from serve.feedback.index import Feedback
from serve.query import accepts_query
from serve.routes.authorization import CallerDep
from serve.routes.bodies import BINARY_SCHEMA, form_body
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import ServiceDep
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token
from serve.routes.slots import check_room, run_in_slot
from serve.service import Service
from serve.text import prompts
from serve.uploads import receive_upload
from serve.video.workers import ViewRequest
from serve.vocabularies.vocabulary import LabelFinder, Vocabulary

router = APIRouter(prefix="/v1", tags=["feedback"])
OPTION_FIELDS = ("options", *FeedbackOptions.model_fields)
SORT_KEY = re.compile(r"[0-9T:.+-]{19,32} [0-9a-f]{32}")  # the format of `_sort_key`
FeedbackId = Annotated[str, Path(description="`id` of the row.", examples=["0123456789abcdef0123456789abcdef"])]


VIDEO_SCHEMA = {**BINARY_SCHEMA, "description": "The clip."}
FOLDER_PROBLEMS = (errors.FeedbackOff, errors.FeedbackUnavailable, errors.EngineUnavailable)
UPLOAD_PROBLEMS = problem_responses(
    *FOLDER_PROBLEMS,
    errors.FeedbackFull,
    errors.UnknownVocabulary,
    errors.StoreUnavailable,
    errors.UploadTooLarge,
    errors.FolderUnavailable,
    errors.UnsupportedMedia,
    errors.InvalidVocabulary,
    errors.VideoError,
    errors.Overloaded,
    errors.DeadlineExceeded,
)


@router.post(
    "/feedback", status_code=201, response_model=StoredFeedback, summary="Correct a classification",
    openapi_extra=form_body("video", VIDEO_SCHEMA, options=FeedbackOptions, required=("label",)),
    responses={
        200: {"model": StoredFeedback, "description": "The clip was already stored with this label."},
        **UPLOAD_PROBLEMS,
    },
)  # fmt: skip
@accepts_query(*OPTION_FIELDS)
async def send_feedback(request: Request, service: ServiceDep, caller: CallerDep) -> JSONResponse:
    """Store a clip and its correct label. The clip is uploaded as for a classification.

    The response is sent after both are stored on disk.
    """
    folder = service.feedback  # raises before the upload is read if feedback is disabled
    limits = service.settings.limits
    check_room(request, service)
    async with (
        request_deadline(request, limits.request_deadline_seconds) as deadline,
        receive_upload(request, service.uploads, limits, fields=OPTION_FIELDS) as upload,
    ):
        options = validate_options(FeedbackOptions, merge_options(upload.fields, upload.query))
        correction = replace(await _make_correction(service, options), key_id=caller.key_id)
        with service.registry.use(None) as runtime:
            contract = runtime.contract
            view_request = ViewRequest(
                sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1
            )  # checks that the clip can be decoded for training
            decoded = await run_in_slot(
                request, service, lambda: service.pool.views(upload.path, view_request), views=1, deadline=deadline
            )
        container = decoded.metadata.container
        row, is_new = await asyncio.to_thread(folder.add, upload.path, correction, container=container)
    stored = StoredFeedback(**_public_fields(row), is_duplicate=not is_new)
    return JSONResponse(stored.model_dump(), status_code=201 if is_new else 200)


@router.get("/feedback", summary="List the feedback", responses=problem_responses(*FOLDER_PROBLEMS))
async def list_feedback(
    service: ServiceDep, caller: CallerDep, page_size: PageSize = 100, page_token: PageToken = None
) -> FeedbackPage:
    """Return the size of the caller's feedback and one page of rows, newest first; clips cannot be downloaded."""
    folder = service.feedback
    visible = [row for row in await asyncio.to_thread(folder.rows) if caller.owns(row.key_id)]
    rows = sorted(visible, key=_sort_key, reverse=True)
    after = read_text_token("feedback", page_token, SORT_KEY)
    remaining = rows if after is None else [row for row in rows if _sort_key(row) < after]
    page = remaining[:page_size]
    return FeedbackPage(
        num_clips=len(rows),
        num_bytes=sum(row.num_bytes for row in rows),
        max_clips=folder.max_clips,
        max_bytes=folder.max_bytes,
        labels=dict(Counter(row.label for row in rows).most_common()),
        feedback=[FeedbackRow(**_public_fields(row)) for row in page],
        next_page_token=make_token("feedback", _sort_key(page[-1])) if len(remaining) > page_size else None,
    )


@router.delete(
    "/feedback/{feedback_id}",
    status_code=204,
    summary="Delete a clip and its row",
    responses=problem_responses(*FOLDER_PROBLEMS, errors.UnknownFeedback),
)
async def remove_feedback(service: ServiceDep, caller: CallerDep, feedback_id: FeedbackId) -> Response:
    """Delete a clip and its row from the feedback folder; this cannot be undone."""
    await asyncio.to_thread(service.feedback.remove, feedback_id, is_visible=lambda row: caller.owns(row.key_id))
    return Response(status_code=204)


async def _make_correction(service: Service, options: FeedbackOptions) -> Correction:
    """Check the labels by the rules of vocabularies; a label of the vocabulary gets its spelling.

    Raises:
        UnknownVocabulary: there is no such vocabulary.
        InvalidVocabulary: a label is not allowed in vocabularies.
    """
    limit = service.settings.limits.max_label_chars
    label = _check_label(options.label, limit)
    correction = Correction(
        label=label,
        predicted=None if options.predicted is None else _check_label(options.predicted, limit),
        request_id=options.request_id,
        note=options.note or None,
    )
    if options.vocabulary is None:
        return correction
    vocabulary = await service.vocabularies.catalogue.resolve(options.vocabulary)
    spelling = await asyncio.to_thread(_find_spelling, vocabulary, label)  # slow for a large vocabulary
    return replace(correction, label=spelling or label, vocabulary=vocabulary.reference, is_new_label=spelling is None)


def _check_label(label: str, limit: int) -> str:
    if len(label) > limit:
        raise errors.InvalidVocabulary(
            f"the label has {len(label)} characters, at most {limit} are allowed", limit=limit
        )
    return prompts.clean_labels([label])[0]


def _find_spelling(vocabulary: Vocabulary, label: str) -> str | None:
    """Return the name of a label as the vocabulary spells it; None if the vocabulary lacks the label."""
    try:
        return LabelFinder(vocabulary)(label).name
    except errors.UnknownLabel:
        return None


def _sort_key(row: Feedback) -> str:
    """Return a unique key that sorts rows by time."""
    return f"{row.created_at} {row.feedback_id}"


def _public_fields(row: Feedback) -> dict[str, Any]:
    fields = {name: value for name, value in vars(row).items() if name not in ("feedback_id", "file", "key_id")}
    return {"id": row.feedback_id, **fields}
