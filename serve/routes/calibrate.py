"""`POST /v1/vocabularies/{name}:calibrate`: fit temperature and thresholds for "none of these" from clips."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serve import errors
from serve.api.options import CalibrateOptions, merge_options, validate_options
from serve.calibration import calibrate
from serve.query import accepts_query
from serve.routes.bodies import BINARY_SCHEMA, form_body
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import Author, IfMatch, Prefer, ServiceDep, VocabulariesDep, VocabularyName
from serve.routes.slots import check_room, run_in_slot
from serve.routes.vocabulary_responses import (
    CalibrationDryRun,
    CalibrationResponse,
    change_responses,
    respond_to_change,
)
from serve.uploads import receive_upload

router = APIRouter(prefix="/v1", tags=["vocabularies"])

OPTION_FIELDS = ("options", *CalibrateOptions.model_fields)
CLIPS = {
    "type": "array",
    "items": BINARY_SCHEMA,
    "description": "Clips, each of which shows a label or none of the labels.",
}


@router.post(
    "/vocabularies/{name}:calibrate", summary="Fit temperature and thresholds from clips", response_model=None,
    openapi_extra=form_body("clip", CLIPS, options=CalibrateOptions),
    responses=change_responses(
        CalibrationResponse | CalibrationDryRun, errors.UnknownLabel, errors.UnknownModel, errors.VideoError,
        errors.ServiceError,
    ),
)  # fmt: skip
@accepts_query(*OPTION_FIELDS)
async def calibrate_vocabulary(
    request: Request,
    service: ServiceDep,
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Send form parts named `clip`, and `labels` with the label of each clip (null: none of the labels).

    The result is stored in a new version of the vocabulary.
    """
    pipeline = service.pipeline
    check_room(request, service)
    limits = service.settings.vocabularies
    async with (
        request_deadline(request, limits.calibration_deadline_seconds) as deadline,
        receive_upload(
            request, service.uploads, service.settings.limits,
            fields=OPTION_FIELDS, part="clip", max_files=limits.max_calibration_clips,
        ) as upload,
    ):  # fmt: skip
        options = validate_options(CalibrateOptions, merge_options(upload.fields, upload.query))
        vocabulary = await vocabularies.commands.require_latest(name, expected)
        result = await run_in_slot(
            request,
            service,
            lambda: calibrate(pipeline, vocabulary, upload.files, options, deadline=deadline),
            views=len(upload.files) * options.num_clips * options.num_crops,
            deadline=deadline,
            is_bulk=True,
        )
    details = {
        "acceptance": result.acceptance.model_dump(mode="json"),
        "label_thresholds": dict(result.label_thresholds),
        "calibration": asdict(result.calibration),
    }
    if options.dry_run:
        return JSONResponse({"name": name, "version": expected, "dry_run": True, **details})
    new_version = await vocabularies.commands.set_acceptance(
        name, result.acceptance, result.label_thresholds, expected=expected, author=author
    )
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds, **details)
