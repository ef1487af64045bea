"""`POST /v1/vocabularies/{name}:calibrate`: fit a threshold for "none of these" from clips."""

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serve import errors
from serve.api.options import CalibrateOptions, checked, gather
from serve.calibration import calibrate
from serve.query import reads_query
from serve.routes.bodies import BINARY, form_body
from serve.routes.dependencies import Author, IfMatch, Prefer, ServiceDep, VocabulariesDep, VocabularyName
from serve.routes.vocabulary_answers import CalibrationChange, CalibrationTrial, change_answer, change_responses
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["vocabularies"])

FIELDS = ("options", *CalibrateOptions.model_fields)
CLIPS = {"type": "array", "items": BINARY, "description": "Clips that show a label and clips that show none."}


@router.post(
    "/vocabularies/{name}:calibrate", summary="Fit temperature and thresholds from clips", response_model=None,
    openapi_extra=form_body("clip", CLIPS, options=CalibrateOptions),
    responses=change_responses(
        CalibrationChange | CalibrationTrial, errors.UnknownLabel, errors.UnknownModel, errors.VideoError,
        errors.ServiceError,
    ),
)  # fmt: skip
@reads_query(*FIELDS)
async def calibrate_vocabulary(
    request: Request,
    service: ServiceDep,
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Send parts named `clip`, and `labels` with the label of each (null: none of the labels). Makes a new version."""
    pipeline = service.pipeline
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
        raise errors.DeadlineExceeded(f"not done within {limits.calibration_deadline_seconds} s") from error
    facts = {
        "acceptance": fitted.acceptance.model_dump(mode="json"),
        "label_thresholds": dict(fitted.label_thresholds),
        "calibration": asdict(fitted.found),
    }
    if options.dry_run:
        return JSONResponse({"name": name, "version": expected, "dry_run": True, **facts})
    made = await vocabularies.commands.accept(
        name, fitted.acceptance, fitted.label_thresholds, expected=expected, author=author
    )
    return await change_answer(vocabularies, made, wait_seconds=wait_seconds, **facts)
