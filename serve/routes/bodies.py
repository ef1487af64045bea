"""Request bodies: reading of JSON bodies with a size limit, and the OpenAPI descriptions of bodies."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel

from serve import errors
from serve.errors import InvalidOption, RequestError, UnsupportedMedia
from serve.json_models import Model, read_model
from serve.uploads import receive_body

BINARY_SCHEMA = {"type": "string", "format": "binary"}
VIDEO_SCHEMA = {**BINARY_SCHEMA, "description": "The video file."}
VIDEO_PROBLEMS = (  # errors of routes that receive a video
    errors.UnknownModel,
    errors.UploadTooLarge,
    errors.FolderUnavailable,
    errors.UnsupportedMedia,
    errors.InvalidVocabulary,
    errors.VideoError,
    errors.Overloaded,
    errors.EngineUnavailable,
    errors.DeadlineExceeded,
    errors.EngineFailure,
)
SCORING_PROBLEMS = (*VIDEO_PROBLEMS, errors.UnknownVocabulary, errors.StoreUnavailable)
OPTIONS_SCHEMA = {
    "type": "string",
    "description": "Options as a JSON object; an option must not also be sent as a field.",
}


def json_body(model: type[BaseModel], *text_types: str, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI request body of a JSON model; `text_types` are alternative media types with a text body."""
    content: dict[str, Any] = {"application/json": {"schema": inline_schema(model)}}
    content.update({text_type: {"schema": {"type": "string"}} for text_type in text_types})
    return {"requestBody": {"required": required, "content": content}}


def form_body(
    part: str,
    schema: dict[str, Any],
    *,
    options: type[BaseModel] | None = None,
    required: tuple[str, ...] = (),
    is_raw_allowed: bool = False,
) -> dict[str, Any]:
    """Return the OpenAPI request body of a multipart form with a file part named `part`.

    Options are form fields, or one form field `options` with a JSON object.
    With `is_raw_allowed`, a raw video body with query parameters is described as well.
    """
    fields = {} if options is None else {"options": OPTIONS_SCHEMA, **inline_schema(options)["properties"]}
    form = {"type": "object", "required": [part, *required], "properties": {part: schema, **fields}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if not is_raw_allowed:
        return {"requestBody": {"required": True, "content": content}}
    content |= {"video/*": {"schema": BINARY_SCHEMA}, "image/*": {"schema": BINARY_SCHEMA}}
    parameters = [] if options is None else [_raw_body_query(options)]
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _raw_body_query(options: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI query parameter of all options: an object that is serialized as `?top_k=3&num_clips=2`."""
    return {
        "name": "options of a raw body",
        "in": "query",
        "required": False,
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "properties": inline_schema(options)["properties"]},
        "example": {},
        "description": "Query parameters for a raw `video/*` or `image/*` body; a form contains them as fields.",
    }


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model with its `$defs` inlined, so that it can be part of another document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(item) for item in value]
        if not isinstance(value, dict):
            return value
        target = definitions[value["$ref"].removeprefix("#/$defs/")] if "$ref" in value else {}
        return {key: inline(item) for key, item in {**target, **value}.items() if key != "$ref"}

    inlined: dict[str, Any] = inline(schema)
    return inlined


def media_type_of(request: Request) -> str:
    """Return `Content-Type` without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(
    request: Request, model: type[Model], *, limit: int, error_type: type[RequestError] = InvalidOption
) -> Model:
    """Receive a JSON body of at most `limit` bytes and validate it.

    Raises:
        UnsupportedMedia: the body has another media type.
        UploadTooLarge: the body is larger than `limit`.
        error_type: the body is not strict JSON, or does not match the model.
    """
    media_type = media_type_of(request)
    if media_type != "application/json":
        raise UnsupportedMedia(f"the body must be application/json, got {media_type!r}")
    return read_model(model, await receive_body(request, limit=limit), error_type=error_type)
