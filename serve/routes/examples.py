"""`/v1/vocabularies/{name}/labels/{label_id}/examples`: example clips of a label.

Each change creates a new version of the vocabulary with the usual rules: `If-Match`, 200 or 202, rollback.
"""

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from serve import errors
from serve.api.problems import problem_responses
from serve.routes.bodies import BINARY_SCHEMA, form_body
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import (
    Author,
    CatalogueDep,
    IfMatch,
    LabelId,
    Prefer,
    ServiceDep,
    VocabulariesDep,
    VocabularyName,
)
from serve.routes.slots import check_room, run_in_slot
from serve.routes.vocabulary_responses import (
    READ_PROBLEMS,
    ChangeResponse,
    ExampleList,
    ExamplesResponse,
    change_responses,
    respond_to_change,
)
from serve.service import Service
from serve.uploads import Upload, receive_upload
from serve.vocabularies.example_clips import hash_clip
from serve.vocabularies.vocabulary import LabelFinder

router = APIRouter(prefix="/v1", tags=["vocabularies"])

PATH = "/vocabularies/{name}/labels/{label_id}/examples"
ExampleId = Annotated[
    str, Path(description="`example_id` of an example.", examples=["0123456789abcdef0123456789abcdef"])
]


@router.get(
    PATH, summary="List the example clips of a label",
    responses=problem_responses(*READ_PROBLEMS, errors.UnknownLabel, errors.InvalidVocabulary),
)  # fmt: skip
async def list_examples(catalogue: CatalogueDep, name: VocabularyName, label_id: LabelId) -> ExampleList:
    """Return the example clips of a label in the current version of NAME, or in NAME@VERSION."""
    label = LabelFinder(await catalogue.look_up(name))(label_id)
    return ExampleList(label_id=label.label_id, label=label.name, examples=list(label.examples))


@router.post(
    PATH, summary="Add example clips", response_model=None,
    openapi_extra=form_body("video", {"type": "array", "items": BINARY_SCHEMA}, is_raw_allowed=True),
    responses=change_responses(
        ExamplesResponse, errors.UnknownLabel, errors.VideoError, errors.DeadlineExceeded, errors.Overloaded,
        errors.FolderUnavailable,
    ),
)  # fmt: skip
async def add_examples(
    request: Request,
    service: ServiceDep,
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    label_id: LabelId,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Send form parts named `video`, or a raw video body. Either all clips are added or none."""
    check_room(request, service)
    limits = service.settings.vocabularies
    async with (
        request_deadline(request, limits.calibration_deadline_seconds) as deadline,
        receive_upload(request, service.uploads, service.settings.limits, max_files=_max_files(service)) as upload,
    ):
        _check_sizes(upload, limits.max_example_bytes)
        clips = [await asyncio.to_thread(hash_clip, file.path, file.filename) for file in upload.files]
        new_version, examples = await run_in_slot(
            request,
            service,
            lambda: vocabularies.commands.add_examples(name, label_id, clips, expected=expected, author=author),
            views=len(clips),
            deadline=deadline,
            is_bulk=True,
        )
    added = [asdict(example) for example in examples]
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds, examples=added)


@router.delete(
    PATH, summary="Remove all example clips of a label", response_model=None,
    responses=change_responses(ChangeResponse, errors.UnknownLabel, errors.UnknownExample, has_body=False),
)  # fmt: skip
async def remove_all_examples(
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    label_id: LabelId,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Remove all examples; the label is then scored by its text alone."""
    new_version = await vocabularies.commands.remove_examples(name, label_id, None, expected=expected, author=author)
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds)


@router.delete(
    PATH + "/{example_id}", summary="Remove an example clip", response_model=None,
    responses=change_responses(ChangeResponse, errors.UnknownLabel, errors.UnknownExample, has_body=False),
)  # fmt: skip
async def remove_example(
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    label_id: LabelId,
    example_id: ExampleId,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Remove one example; a label without examples is scored by its text alone."""
    new_version = await vocabularies.commands.remove_examples(
        name, label_id, example_id, expected=expected, author=author
    )
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds)


def _max_files(service: Service) -> int:
    limit = service.settings.vocabularies.max_examples_per_label
    if limit == 0:
        raise errors.InvalidOption("examples are disabled (SERVE_VOCABULARIES__MAX_EXAMPLES_PER_LABEL is 0)")
    return limit


def _check_sizes(upload: Upload, limit: int) -> None:
    for file in upload.files:
        if file.num_bytes > limit:
            raise errors.UploadTooLarge(
                f"an example must have at most {limit} bytes, {file.filename!r} has {file.num_bytes}", limit_bytes=limit
            )
