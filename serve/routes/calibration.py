"""`POST /v1/vocabularies/{name}:calibrate`: from clips to a threshold for "none of these"."""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serve.calibrating import calibrate
from serve.errors import DeadlineExceeded
from serve.options import CalibrateOptions, checked, gather
from serve.query import reads_query
from serve.routes import preconditions
from serve.routes.changes import Name, expected_version, settled, vocabularies_of
from serve.service import Service
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["vocabularies"])


def _form_schema() -> dict[str, Any]:
    clips = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "Clips, known and not."}
    document = {"type": "string", "description": "Options as one JSON object; each option is given once."}
    options = CalibrateOptions.model_json_schema()["properties"]
    return {"type": "object", "required": ["clip"], "properties": {"clip": clips, "options": document, **options}}


FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}}
FIELDS = ("options", *CalibrateOptions.model_fields)


@router.post(
    "/vocabularies/{name}:calibrate", summary="Fit temperature and thresholds from clips", response_model=None,
    openapi_extra=FORM,
)  # fmt: skip
@reads_query(*FIELDS)
async def calibrate_vocabulary(request: Request, name: Name) -> JSONResponse:
    """Parts named `clip`, and `labels` that say what each shows (null: none of the labels). Makes a new version."""
    service: Service = request.app.state.service
    pipeline, vocabularies = service.pipeline, vocabularies_of(request)
    expected, author = expected_version(request, name), preconditions.author_of(request)
    limits = service.settings.vocabularies
    deadline = asyncio.get_running_loop().time() + limits.calibration_deadline_seconds
    try:
        async with (
            asyncio.timeout_at(deadline),
            received(
                request, service.uploads, service.settings.limits,
                fields=FIELDS, part="clip", max_files=limits.max_calibration_clips,
            ) as upload,
        ):  # fmt: skip
            options = checked(CalibrateOptions, gather(upload.fields, upload.query))
            vocabulary = await vocabularies.commands.require_latest(name, expected)
            fitted = await calibrate(pipeline, vocabulary, upload.files, options, deadline=deadline)
    except TimeoutError as error:
        raise DeadlineExceeded(f"not done within {limits.calibration_deadline_seconds} s") from error
    told = {
        "acceptance": fitted.acceptance.model_dump(mode="json"),
        "label_thresholds": dict(fitted.label_thresholds),
        "calibration": asdict(fitted.found),
    }
    if options.dry_run:
        return JSONResponse({"name": name, "version": expected, "dry_run": True, **told})
    made = await vocabularies.commands.accept(
        name, fitted.acceptance, fitted.label_thresholds, expected=expected, author=author
    )
    return await settled(request, made, **told)
