"""Errors as RFC 9457 problems; only this module maps errors to HTTP statuses.

The exception handlers and the OpenAPI document both use the table `STATUS`.
"""

import logging
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from serve import errors

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499  # nginx's status for logs; it is never sent
INTERNAL_DETAIL = "internal error; see the server log for the cause"
MISSING_IF_MATCH_DETAIL = "send the header If-Match with the ETag of the version to change; GET returns the ETag"

STATUS: dict[type[errors.ActserveError], int] = {
    errors.ActserveError: 500,
    errors.RequestError: 400,
    errors.InvalidOption: 422,
    errors.UnknownModel: 404,
    errors.UnknownVocabulary: 404,
    errors.UnknownLabel: 404,
    errors.UnknownExample: 404,
    errors.ClientDisconnected: CLIENT_CLOSED_REQUEST,
    errors.UploadTooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.InvalidVocabulary: 422,
    errors.MissingPrecondition: 428,
    errors.StaleVersion: 412,
    errors.ActivationUnderWay: 409,
    errors.ModelRefused: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.QuotaExceeded: 429,
    errors.UnknownKey: 404,
    errors.InvalidHeaders: 400,
    errors.SlowHeaders: 408,
    errors.SlowBody: 408,
    errors.MisdirectedRequest: 421,
    errors.CrossOrigin: 403,
    errors.FeedbackOff: 403,
    errors.UnknownFeedback: 404,
    errors.UnknownJob: 404,
    errors.IdempotencyKeyReused: 422,
    errors.NotEnabled: 403,
    errors.AddressRefused: 422,
    errors.FetchFailed: 422,
    errors.UnknownVideo: 404,
    errors.StaleVideo: 409,
    errors.VideoError: 422,
    errors.UndecodableVideo: 422,
    errors.DecodeLimitExceeded: 422,
    errors.DecoderFault: 422,
    errors.VideoTooShort: 422,
    errors.VideoTooLong: 422,
    errors.PictureTooLarge: 422,
    errors.ServiceError: 500,
    errors.Overloaded: 503,
    errors.ServerStopping: 503,
    errors.EngineUnavailable: 503,
    errors.ProviderUnavailable: 503,
    errors.StoreUnavailable: 503,
    errors.StoreFull: 507,
    errors.FeedbackUnavailable: 503,
    errors.FeedbackFull: 507,
    errors.JobsFull: 507,
    errors.JobFolderUnavailable: 503,
    errors.InputAbandoned: 500,
    errors.VideoStoreFull: 507,
    errors.DiskFull: 507,
    errors.FolderUnavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.EngineFailure: 500,
    errors.ConfigurationError: 500,
    errors.BackupRefused: 500,
    errors.ContractError: 500,
}
RETRY_AFTER_SECONDS = 1
COMMON_ERRORS: tuple[type[errors.ActserveError], ...] = (
    errors.InvalidOption,
)  # errors of every route: see `serve.query.check_request_line`
PROBLEM_CONTENT = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class Problem(BaseModel):
    """RFC 9457 problem; extension members are machine-readable details of the error."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`/problems/NAME`, see the table of problems.")
    title: str
    status: int
    detail: str = Field(description="What was found and what is allowed.")
    request_id: str = Field(description="Value of the header `X-Request-Id`.")


def problem_response(
    request_id: str, *, status: int, slug: str, title: str, detail: str, extensions: dict[str, Any] | None = None
) -> JSONResponse:
    """Return a problem response; `extensions` are additional members of the body."""
    body = {
        **(extensions or {}),
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    seconds = str(body.get("retry_after_seconds", RETRY_AFTER_SECONDS))
    headers = {
        401: {"WWW-Authenticate": 'Bearer realm="actserve"'},
        429: {"Retry-After": seconds},
        503: {"Retry-After": seconds},
    }
    return JSONResponse(body, status_code=status, media_type=CONTENT_TYPE, headers=headers.get(status))


def problem_responses(*error_classes: type[errors.ActserveError]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that may raise these errors or subclasses of them."""
    titles: dict[int, dict[str, None]] = {}  # status -> ordered set of titles
    for error_class in (*COMMON_ERRORS, *error_classes):
        for subclass in (error_class, *_subclasses(error_class)):
            if STATUS[subclass] != CLIENT_CLOSED_REQUEST:
                titles.setdefault(STATUS[subclass], {})[describe(subclass)[1]] = None
    return {
        status: {"description": "; ".join(names), "content": PROBLEM_CONTENT}
        for status, names in sorted(titles.items())
    }


def _subclasses(error_class: type[errors.ActserveError]) -> Iterator[type[errors.ActserveError]]:
    for child in error_class.__subclasses__():
        yield child
        yield from _subclasses(child)


def describe(error_class: type[errors.ActserveError]) -> tuple[str, str]:
    """Return the slug and the title of an error class.

    >>> describe(errors.VideoTooShort)
    ('video-too-short', 'Video too short')
    """
    words = re.findall(r"[A-Z][a-z]+", error_class.__name__)
    return "-".join(words).lower(), " ".join(words).capitalize()


def problem_document(error: errors.ActserveError) -> dict[str, Any]:
    """Return the problem document of an error that is not the response to a request, e.g. of one input of a job."""
    slug, title = describe(type(error))
    return {
        **error.details,
        "type": f"/problems/{slug}",
        "title": title,
        "status": STATUS[type(error)],
        "detail": error.message,
    }


def from_error(error: errors.ActserveError, request_id: str) -> JSONResponse:
    """Return the problem response of an error; an internal error is only described in the log."""
    status = STATUS[type(error)]
    slug, title = describe(type(error))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("request %s: %s", request_id, error, exc_info=error)
        return problem_response(request_id, status=status, slug=slug, title=title, detail=INTERNAL_DETAIL)
    return problem_response(
        request_id, status=status, slug=slug, title=title, detail=error.message, extensions=error.details
    )


def install(app: FastAPI) -> None:
    """Register handlers that convert every error to a problem, including errors of FastAPI and Starlette."""

    @app.exception_handler(errors.ActserveError)
    async def _handle_actserve_error(request: Request, error: errors.ActserveError) -> JSONResponse:
        return from_error(error, request_id_of(request))

    @app.exception_handler(RequestValidationError)
    async def _handle_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        if any((item["type"], item["loc"]) == ("missing", ("header", "If-Match")) for item in error.errors()):
            return from_error(errors.MissingPrecondition(MISSING_IF_MATCH_DETAIL), request_id_of(request))
        problems = [{"field": ".".join(map(str, item["loc"])), "problem": item["msg"]} for item in error.errors()]
        message = "; ".join(f"{item['field']}: {item['problem']}" for item in problems)
        return problem_response(
            request_id_of(request),
            status=422,
            slug="invalid-option",
            title="Invalid option",
            detail=message,
            extensions={"errors": problems},
        )

    @app.exception_handler(HTTPException)
    async def _handle_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase
        response = problem_response(
            request_id_of(request),
            status=error.status_code,
            slug=phrase.lower().replace(" ", "-"),
            title=phrase,
            detail=f"{request.method} {request.url.path[:200]}: {error.detail}",
        )
        response.headers.update(error.headers or {})
        return response


def from_unexpected_exception(request_id: str, error: BaseException) -> JSONResponse:
    """Log an unexpected exception and return its problem response, which the middleware sends."""
    logger.error("request %s: unexpected exception", request_id, exc_info=error)
    return problem_response(
        request_id,
        status=500,
        slug="internal-error",
        title="Internal error",
        detail=INTERNAL_DETAIL,
    )


def request_id_of(request: Request) -> str:
    """Return the id that the middleware assigned to the request."""
    return str(request.scope.get("request_id", "unknown"))
