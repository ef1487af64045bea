"""`/v1/feedback`: clips with their right label, kept for training; off by default."""

import asyncio
import re
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from serve import errors
from serve.api.answers import FeedbackPage, FeedbackRow, KeptFeedback
from serve.api.options import FeedbackOptions, checked, gather
from serve.api.problems import problem_responses
from serve.feedback.folder import Correction
from serve.feedback.index import Feedback
from serve.query import reads_query
from serve.routes.authorization import CallerDep
from serve.routes.bodies import BINARY, form_body
from serve.routes.dependencies import ServiceDep
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token
from serve.service import Service
from serve.text import prompts
from serve.uploads import received
from serve.video.workers import ViewRequest
from serve.vocabularies.vocabulary import LabelFinder, Vocabulary

router = APIRouter(prefix="/v1", tags=["feedback"])
FIELDS = ("options", *FeedbackOptions.model_fields)
PLACE = re.compile(r"[0-9T:.+-]{19,32} [0-9a-f]{32}")  # the format of `_place`
FeedbackId = Annotated[str, Path(description="`id` of the row.")]


VIDEO = {**BINARY, "description": "The clip."}
FOLDER_PROBLEMS = (errors.FeedbackOff, errors.FeedbackUnavailable, errors.EngineUnavailable)
UPLOAD_PROBLEMS = problem_responses(
    *FOLDER_PROBLEMS,
    errors.FeedbackFull,
    errors.UnknownVocabulary,
    errors.StoreUnavailable,
    errors.UploadTooLarge,
    errors.UnsupportedMedia,
    errors.InvalidVocabulary,
    errors.VideoError,
    errors.Overloaded,
    errors.DeadlineExceeded,
)


@router.post(
    "/feedback", status_code=201, response_model=KeptFeedback, summary="Correct an answer",
    openapi_extra=form_body("video", VIDEO, options=FeedbackOptions, required=("label",)),
    responses={
        200: {"model": KeptFeedback, "description": "The clip is kept under this label already."},
        **UPLOAD_PROBLEMS,
    },
)  # fmt: skip
@reads_query(*FIELDS)
async def send_feedback(request: Request, service: ServiceDep, caller: CallerDep) -> JSONResponse:
    """Keep a clip and its right label, uploaded as for a classification. The answer follows once both are on disk."""
    folder = service.feedback  # raises before the upload is read if feedback is off
    limits = service.settings.limits
    with service.in_flight.admitted():
        try:
            async with (
                asyncio.timeout(limits.request_deadline_seconds),
                received(request, service.uploads, limits, fields=FIELDS) as upload,
            ):
                options = checked(FeedbackOptions, gather(upload.fields, upload.query))
                correction = replace(await _correction(service, options), key_id=caller.key_id)
                with service.registry.use(None) as runtime:
                    rules = runtime.contract
                    wanted = ViewRequest(
                        sampling=rules.sampling, preprocess=rules.preprocess, num_clips=1, num_crops=1
                    )  # as a training run would read it
                    decoded = await service.pool.views(upload.path, wanted)
                container = decoded.metadata.container
                row, is_new = await asyncio.to_thread(folder.add, upload.path, correction, container=container)
        except TimeoutError as error:
            raise errors.DeadlineExceeded(f"not done within {limits.request_deadline_seconds} s") from error
    kept = KeptFeedback(**_shown(row), is_duplicate=not is_new)
    return JSONResponse(kept.model_dump(), status_code=201 if is_new else 200)


@router.get("/feedback", summary="List the feedback", responses=problem_responses(*FOLDER_PROBLEMS))
async def list_feedback(
    service: ServiceDep, caller: CallerDep, page_size: PageSize = 100, page_token: PageToken = None
) -> FeedbackPage:
    """Return counts and a page of the caller's rows, newest first; clips cannot be downloaded."""
    folder = service.feedback
    visible = [row for row in await asyncio.to_thread(folder.rows) if caller.owns(row.key_id)]
    rows = sorted(visible, key=_place, reverse=True)
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
    "/feedback/{feedback_id}",
    status_code=204,
    summary="Erase a clip and its row",
    responses=problem_responses(*FOLDER_PROBLEMS, errors.UnknownFeedback),
)
async def remove_feedback(service: ServiceDep, caller: CallerDep, feedback_id: FeedbackId) -> Response:
    """Erase both; they are deleted from the folder when the answer is sent."""
    await asyncio.to_thread(service.feedback.remove, feedback_id, is_visible=lambda row: caller.owns(row.key_id))
    return Response(status_code=204)


async def _correction(service: Service, options: FeedbackOptions) -> Correction:
    """Check the options by the rules of vocabularies; a known label gets the spelling of the vocabulary.

    Raises:
        UnknownVocabulary: there is no such vocabulary.
        InvalidVocabulary: a label is not allowed in vocabularies.
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
    known = await asyncio.to_thread(_known, vocabulary, label)  # slow for a large vocabulary
    return replace(found, label=known or label, vocabulary=vocabulary.reference, is_new_label=known is None)


def _checked_label(label: str, limit: int) -> str:
    if len(label) > limit:
        raise errors.InvalidVocabulary(
            f"the label has {len(label)} characters, at most {limit} are allowed", limit=limit
        )
    return prompts.check_labels([label])[0]


def _known(vocabulary: Vocabulary, label: str) -> str | None:
    try:
        return LabelFinder(vocabulary)(label).name
    except errors.UnknownLabel:
        return None


def _place(row: Feedback) -> str:
    """Return the position of a row in time; it is unique."""
    return f"{row.created_at} {row.feedback_id}"


def _shown(row: Feedback) -> dict[str, Any]:
    shown = {name: value for name, value in vars(row).items() if name not in ("feedback_id", "file", "key_id")}
    return {"id": row.feedback_id, **shown}
