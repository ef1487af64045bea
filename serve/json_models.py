"""Pydantic models from JSON text, read strictly."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError

from serve import strict_json
from serve.errors import InvalidOption, RequestError
from serve.version_numbers import MAX_VERSION

VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION)]

Model = TypeVar("Model", bound=BaseModel)
SHOWN_FAULTS, DESCRIBED_FAULTS = 20, 3


def read_model(kind: type[Model], text: str | bytes, *, refused_with: type[RequestError] = InvalidOption) -> Model:
    """Validate a model from JSON text.

    Raises:
        refused_with: the text is not strict JSON, or has other fields than the model.
    """
    try:
        strict_json.loads(text)
        return kind.model_validate_json(strict_json.decoded(text))  # a strict model takes a JSON array for a tuple
    except strict_json.InvalidJson as error:
        raise refused_with(f"the body cannot be read as JSON: {error}") from error
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)[:SHOWN_FAULTS]
        words = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:DESCRIBED_FAULTS]
        )
        raise refused_with(words, errors=faults) from error
