"""Request bodies: JSON that is counted while it arrives and read strictly, and their schemas for OpenAPI."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel

from serve import errors
from serve.errors import InvalidOption, RequestError, UnsupportedMedia
from serve.json_models import Model, read_model
from serve.uploads import received_body

BINARY = {"type": "string", "format": "binary"}
VIDEO = {**BINARY, "description": "The video file."}
VIDEO_PROBLEMS = (
    errors.UnknownModel,
    errors.UploadTooLarge,
    errors.UnsupportedMedia,
    errors.InvalidVocabulary,
    errors.VideoError,
    errors.Overloaded,
    errors.EngineUnavailable,
    errors.DeadlineExceeded,
    errors.EngineFailure,
)  # of requests with a video
SCORING_PROBLEMS = (*VIDEO_PROBLEMS, errors.UnknownVocabulary, errors.StoreUnavailable)
OPTIONS_DOCUMENT = {"type": "string", "description": "Options as one JSON object; each option is given once."}


def json_body(kind: type[BaseModel], *others: str, required: bool = True) -> dict[str, Any]:
    """Return OpenAPI's request body of a model as JSON, or of `others`, media types of plain text."""
    content: dict[str, Any] = {"application/json": {"schema": inlined_schema(kind)}}
    content.update({other: {"schema": {"type": "string"}} for other in others})
    return {"requestBody": {"required": required, "content": content}}


def form_body(
    part: str,
    schema: dict[str, Any],
    *,
    options: type[BaseModel] | None = None,
    required: tuple[str, ...] = (),
    is_raw_allowed: bool = False,
) -> dict[str, Any]:
    """Return OpenAPI's request body of a form: the file part, and the options as fields or as one document."""
    fields = {} if options is None else {"options": OPTIONS_DOCUMENT, **inlined_schema(options)["properties"]}
    form = {"type": "object", "required": [part, *required], "properties": {part: schema, **fields}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if not is_raw_allowed:
        return {"requestBody": {"required": True, "content": content}}
    content["video/*"] = {"schema": BINARY}
    parameters = [] if options is None else [_query_of_raw_body(options)]
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _query_of_raw_body(options: type[BaseModel]) -> dict[str, Any]:
    """Return OpenAPI's parameter of all options: one object that is written as `?top_k=3&num_clips=2`."""
    return {
        "name": "options of a raw body",
        "in": "query",
        "required": False,
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "properties": inlined_schema(options)["properties"]},
        "example": {},
        "description": "Query parameters of a raw `video/*` body; a form has them as its fields.",
    }


def inlined_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model without `$defs`, whose references would not resolve inside a document."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, list):
            return [inlined(item) for item in value]
        if not isinstance(value, dict):
            return value
        target = definitions[value["$ref"].removeprefix("#/$defs/")] if "$ref" in value else {}
        return {key: inlined(item) for key, item in {**target, **value}.items() if key != "$ref"}

    found: dict[str, Any] = inlined(schema)
    return found


def media_type_of(request: Request) -> str:
    """Return `Content-Type` without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(
    request: Request, kind: type[Model], *, limit: int, refused_with: type[RequestError] = InvalidOption
) -> Model:
    """Read a model from a JSON body.

    Raises:
        UnsupportedMedia: the body has another type.
        UploadTooLarge: it has more than `limit` bytes.
        refused_with: it is not strict JSON, or has other fields than the model.
    """
    media_type = media_type_of(request)
    if media_type != "application/json":
        raise UnsupportedMedia(f"the body has to be application/json, not {media_type!r}")
    return read_model(kind, await received_body(request, limit=limit), refused_with=refused_with)
