"""`/v1/vocabularies/{name}/labels/{label_id}/examples`: a few clips that show a label improve it at once.

Each change makes a version, like any other of the vocabulary: `If-Match`, 200 or 202, rollback.
"""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from serve.errors import DeadlineExceeded, InvalidOption, UploadTooLarge
from serve.routes import preconditions
from serve.routes.changes import Name, expected_version, settled, vocabularies_of
from serve.service import Service
from serve.uploads import Upload, received
from serve.vocabularies.examples import new_clip
from serve.vocabularies.vocabulary import LabelFinder

router = APIRouter(prefix="/v1", tags=["vocabularies"])

PATH = "/vocabularies/{name}/labels/{label_id}/examples"
LabelId = Annotated[str, Path(description="`label_id` of the label, or its name where that holds no slash.")]
VIDEOS = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["video"],
                    "properties": {"video": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "video/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.get(PATH, summary="Example clips of a label")
async def list_examples(request: Request, name: Name, label_id: LabelId) -> dict[str, Any]:
    """Those of NAME's current version, or of NAME@VERSION."""
    vocabulary = await vocabularies_of(request).catalogue.look_up(name)
    label = LabelFinder(vocabulary)(label_id)
    return {"label_id": label.label_id, "label": label.name, "examples": [asdict(item) for item in label.examples]}


@router.post(PATH, summary="Add example clips", response_model=None, openapi_extra=VIDEOS)
async def add_examples(request: Request, name: Name, label_id: LabelId) -> JSONResponse:
    """One or more parts named `video`, or a raw video body; all of them are added or none."""
    service: Service = request.app.state.service
    expected, author = expected_version(request, name), preconditions.author_of(request)
    limits = service.settings.vocabularies
    try:
        async with (
            asyncio.timeout(limits.calibration_deadline_seconds),
            received(request, service.uploads, service.settings.limits, max_files=_room(service)) as upload,
        ):
            _check_sizes(upload, limits.max_example_bytes)
            clips = [await asyncio.to_thread(new_clip, file.path, file.filename) for file in upload.files]
            made, examples = await vocabularies_of(request).commands.add_examples(
                name, label_id, clips, expected=expected, author=author
            )
    except TimeoutError as error:
        raise DeadlineExceeded(f"not done within {limits.calibration_deadline_seconds} s") from error
    return await settled(request, made, examples=[asdict(example) for example in examples])


@router.delete(PATH, summary="Remove all example clips of a label", response_model=None)
async def remove_all_examples(request: Request, name: Name, label_id: LabelId) -> JSONResponse:
    """The label goes back to its text alone."""
    return await _removed(request, name, label_id, None)


@router.delete(PATH + "/{example_id}", summary="Remove an example clip", response_model=None)
async def remove_example(request: Request, name: Name, label_id: LabelId, example_id: str) -> JSONResponse:
    """One example; without any the numbers are those of before."""
    return await _removed(request, name, label_id, example_id)


async def _removed(request: Request, name: str, label_id: str, example_id: str | None) -> JSONResponse:
    expected, author = expected_version(request, name), preconditions.author_of(request)
    made = await vocabularies_of(request).commands.remove_examples(
        name, label_id, example_id, expected=expected, author=author
    )
    return await settled(request, made)


def _room(service: Service) -> int:
    most = service.settings.vocabularies.max_examples_per_label
    if most == 0:
        raise InvalidOption("this server takes no examples (SERVE_VOCABULARIES__MAX_EXAMPLES_PER_LABEL is 0)")
    return most


def _check_sizes(upload: Upload, limit: int) -> None:
    for file in upload.files:
        if file.num_bytes > limit:
            raise UploadTooLarge(
                f"{file.filename!r} has {file.num_bytes} bytes, an example may have {limit}", limit_bytes=limit
            )
