"""Load the settings of the server from the environment; an unknown `SERVE_` variable is an error."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from serve.errors import ConfigurationError
from serve.settings import ServeSettings
from serve.variables import (
    COMMAND_LINE_PREFIX,
    COMMAND_VARIABLES,
    SETTINGS_HINT,
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
    try:
        return ServeSettings(**overrides)
    except SettingsError as error:
        raise ConfigurationError(f"{error}: a group of settings must be a JSON object; {SETTINGS_HINT}") from error
    except ValidationError as error:
        raise ConfigurationError(
            "\n".join(_describe_error(item, overrides) for item in error.errors(include_url=False))
        ) from error


def _describe_error(item: Any, overrides: Mapping[str, Any]) -> str:
    """Format an error of a setting, named by its command-line option if it is overridden, otherwise by its variable."""
    path = [str(part) for part in item["loc"]]
    is_override = bool(path) and path[0] in overrides
    variable = f"{SETTINGS_PREFIX}{'__'.join(path).upper()}"
    name = f"--{'-'.join(path).replace('_', '-')}" if is_override else variable
    if item["type"] == "extra_forbidden":
        return describe_unknown_variable(variable, settings_variables())
    return f"{name} is {quote_value(item['input'])}: {item['msg']}"
