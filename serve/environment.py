"""Load the settings of the server from the environment; an unknown `SERVE_` variable is an error."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from serve import strict_json
from serve.errors import ConfigurationError
from serve.settings import ServeSettings
from serve.variables import (
    COMMAND_LINE_PREFIX,
    COMMAND_VARIABLES,
    SETTINGS_PREFIX,
    describe_unknown_variable,
    quote_value,
    reject_unknown_variables,
)


def settings_variables(model: type[BaseModel] = ServeSettings, prefix: str = SETTINGS_PREFIX) -> dict[str, str]:
    """Return a dict from environment variable to the description of the setting, including nested groups."""
    descriptions: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            descriptions.update(settings_variables(field.annotation, f"{prefix}{name.upper()}__"))
        else:
            descriptions[f"{prefix}{name.upper()}"] = field.description or ""
    return descriptions


def known_variables() -> set[str]:
    """Return the names of all environment variables that actserve reads, including JSON variables for whole groups."""
    groups = {f"{SETTINGS_PREFIX}{name.upper()}" for name in ServeSettings.model_fields}
    return {*settings_variables(), *groups, *COMMAND_VARIABLES}


def load_settings(overrides: Mapping[str, Any]) -> ServeSettings:
    """Load the settings of the server; `overrides` take precedence over the environment.

    Raises:
        ConfigurationError: a variable is unknown or a value is invalid; the message names the variable, the value and
            the allowed values.
    """
    reject_unknown_variables(SETTINGS_PREFIX, COMMAND_LINE_PREFIX, known=known_variables())
    _check_json_variables(os.environ)
    try:
        return ServeSettings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(
            "\n".join(_describe_error(item, overrides) for item in error.errors(include_url=False))
        ) from error


def _json_variables(model: type[BaseModel], prefix: str = SETTINGS_PREFIX) -> Iterator[tuple[str, type, str]]:
    """Yield the variables whose values are JSON: (name, type of the value, its name for messages)."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield variable, dict, "object"
            yield from _json_variables(field.annotation, f"{variable}__")
        elif get_origin(field.annotation) is tuple:
            yield variable, list, "list"


def _check_json_variables(environment: Mapping[str, str]) -> None:
    """Check the variables that hold a group of settings or a list.

    Raises:
        ConfigurationError: a value is not strict JSON of the right type.
    """
    types = {name: (kind, description) for name, kind, description in _json_variables(ServeSettings)}
    for name, value in environment.items():
        if name.upper() not in types:
            continue
        kind, description = types[name.upper()]
        try:
            is_valid, reason = isinstance(strict_json.loads(value), kind), ""
        except strict_json.InvalidJson as error:
            is_valid, reason = False, f" ({error})"
        if not is_valid:
            shown = f" is {quote_value(value)}: it" if kind is list else ""  # a group may hold secrets
            raise ConfigurationError(f"{name}{shown} must be a JSON {description}{reason}")


def _is_secret(path: list[str]) -> bool:
    """Return whether a setting is a secret, which messages must not show."""
    model: Any = ServeSettings
    for part in path:
        field = getattr(model, "model_fields", {}).get(part.lower())
        model = None if field is None else field.annotation
    return model is SecretStr


def _describe_error(item: Any, overrides: Mapping[str, Any]) -> str:
    """Format an error of a setting, named by its command-line option if it is overridden, otherwise by its variable."""
    path = [str(part) for part in item["loc"]]
    is_override = bool(path) and path[0] in overrides
    variable = f"{SETTINGS_PREFIX}{'__'.join(path).upper()}"
    name = f"--{'-'.join(path).replace('_', '-')}" if is_override else variable
    if item["type"] == "extra_forbidden":
        return describe_unknown_variable(variable, settings_variables())
    value = "" if _is_secret(path) else f" is {quote_value(item['input'])}"
    return f"{name}{value}: {item['msg']}"
