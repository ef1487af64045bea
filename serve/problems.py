"""Errors as RFC 9457 problems: the only module that knows which HTTP status an error has."""

import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve import errors

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

STATUS: dict[type[errors.ActserveError], int] = {
    errors.ActserveError: 500,
    errors.RequestError: 400,
    errors.InvalidOption: 422,
    errors.UnknownModel: 404,
    errors.UnknownVocabulary: 404,
    errors.UploadTooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.InvalidVocabulary: 422,
    errors.MissingPrecondition: 428,
    errors.StaleVersion: 412,
    errors.ActivationUnderWay: 409,
    errors.ModelRefused: 422,
    errors.FeedbackOff: 403,
    errors.UnknownFeedback: 404,
    errors.VideoError: 422,
    errors.UndecodableVideo: 422,
    errors.DecodeLimitExceeded: 422,
    errors.DecoderFault: 422,
    errors.VideoTooShort: 422,
    errors.VideoTooLong: 422,
    errors.PictureTooLarge: 422,
    errors.ServiceError: 500,
    errors.Overloaded: 503,
    errors.EngineUnavailable: 503,
    errors.StoreUnavailable: 503,
    errors.FeedbackUnavailable: 503,
    errors.FeedbackFull: 507,
    errors.DeadlineExceeded: 504,
    errors.EngineFailure: 500,
    errors.ContractError: 500,
}
RETRY_AFTER_SECONDS = 1


def problem_response(
    request_id: str, *, status: int, slug: str, title: str, detail: str, facts: dict[str, Any] | None = None
) -> JSONResponse:
    """A problem with the members every problem has, and the facts beside them."""
    body = {
        **(facts or {}),
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(body, status_code=status, media_type=CONTENT_TYPE, headers=headers)


def describe(error: errors.ActserveError) -> tuple[str, str]:
    """(slug, title) of an error class: `VideoTooShort` -> `video-too-short`, `Video too short`."""
    words = re.findall(r"[A-Z][a-z]+", type(error).__name__)
    return "-".join(words).lower(), " ".join(words).capitalize()


def from_error(error: errors.ActserveError, request_id: str) -> JSONResponse:
    """The problem of one of our errors; internals of a server-side failure stay in the log."""
    status = STATUS[type(error)]
    slug, title = describe(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("request %s: %s", request_id, error, exc_info=error)
        return problem_response(
            request_id, status=status, slug=slug, title=title, detail="the server failed; its log has the cause"
        )
    return problem_response(request_id, status=status, slug=slug, title=title, detail=error.message, facts=error.facts)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem, FastAPI's and Starlette's own included."""

    @app.exception_handler(errors.ActserveError)
    async def _ours(request: Request, error: errors.ActserveError) -> JSONResponse:
        return from_error(error, request_id_of(request))

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [{"field": ".".join(map(str, item["loc"])), "problem": item["msg"]} for item in error.errors()]
        words = "; ".join(f"{fault['field']}: {fault['problem']}" for fault in faults)
        return problem_response(
            request_id_of(request),
            status=422,
            slug="invalid-option",
            title="Invalid option",
            detail=words,
            facts={"errors": faults},
        )

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase
        response = problem_response(
            request_id_of(request),
            status=error.status_code,
            slug=phrase.lower().replace(" ", "-"),
            title=phrase,
            detail=f"{request.method} {request.url.path}: {error.detail}",
        )
        response.headers.update(error.headers or {})
        return response


def unexpected(request_id: str, error: Exception) -> JSONResponse:
    """The problem of an exception nobody expected; the middleware sends it."""
    logger.error("request %s: unexpected failure", request_id, exc_info=error)
    return problem_response(
        request_id,
        status=500,
        slug="internal-error",
        title="Internal error",
        detail="the server failed; its log has the cause",
    )


def request_id_of(request: Request) -> str:
    """Id given by the middleware."""
    return str(request.scope.get("request_id", "unknown"))
