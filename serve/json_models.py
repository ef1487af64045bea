"""Strict validation of pydantic models from JSON text."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError

from serve import strict_json
from serve.errors import InvalidOption, RequestError
from serve.version_numbers import MAX_VERSION

VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION)]  # of a query, which is text
BodyVersionNumber = Annotated[VersionNumber, Field(strict=True)]  # a JSON number, not text, true or false

Model = TypeVar("Model", bound=BaseModel)
MAX_LISTED_ERRORS, MAX_DESCRIBED_ERRORS = 20, 3  # in `errors`, and in the message


def read_model(model_type: type[Model], text: str | bytes, *, error_type: type[RequestError] = InvalidOption) -> Model:
    """Validate a model from JSON text.

    Raises:
        error_type: the text is not strict JSON, or does not match the model.
    """
    try:
        strict_json.loads(text)
        # Unlike Python input, strict JSON input may be an array where a model has a tuple.
        return model_type.model_validate_json(strict_json.decode_text(text), strict=True)
    except strict_json.InvalidJson as error:
        raise error_type(f"the body cannot be read as JSON: {error}") from error
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)[:MAX_LISTED_ERRORS]
        message = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in errors[:MAX_DESCRIBED_ERRORS]
        )
        raise error_type(message, errors=errors) from error
