"""JSON bodies that are read by hand: counted while they arrive, read strictly, described in OpenAPI all the same."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel

from serve.errors import InvalidOption, RequestError, UnsupportedMedia
from serve.json_models import Model, read_model
from serve.routes import preconditions
from serve.uploads import received_body


def described(kind: type[BaseModel], *others: str, required: bool = True) -> dict[str, Any]:
    """OpenAPI's request body of a model as JSON, and of `others`, media types of plain text."""
    content: dict[str, Any] = {"application/json": {"schema": inlined_schema(kind)}}
    content.update({other: {"schema": {"type": "string"}} for other in others})
    return {"requestBody": {"required": required, "content": content}}


def inlined_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of a model without references, which would mean another place inside an OpenAPI document."""
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


async def read_json(
    request: Request, kind: type[Model], *, limit: int, refused_with: type[RequestError] = InvalidOption
) -> Model:
    """The model in a JSON body.

    Raises:
        UnsupportedMedia: the body says it is something else.
        UploadTooLarge: it passed `limit` bytes.
        refused_with: it is not strict JSON, or has other fields than the model.
    """
    media_type = preconditions.media_type_of(request)
    if media_type != "application/json":
        raise UnsupportedMedia(f"the body has to be application/json, not {media_type!r}")
    return read_model(kind, await received_body(request, limit=limit), refused_with=refused_with)
