"""Settings of the server from the environment: every `SERVE_` variable is known, or the start stops."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from serve.errors import ConfigurationError
from serve.settings import ServeSettings
from serve.variables import (
    COMMAND_LINE,
    COMMAND_LINE_PREFIX,
    SETTINGS_PREFIX,
    WHERE,
    describe_unknown,
    refuse_unknown,
    shown,
)


def settings_variables(model: type[BaseModel] = ServeSettings, prefix: str = SETTINGS_PREFIX) -> dict[str, str]:
    """Return variable -> meaning of every setting of the server, including nested groups."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found.update(settings_variables(field.annotation, f"{prefix}{name.upper()}__"))
        else:
            found[f"{prefix}{name.upper()}"] = field.description or ""
    return found


def known_variables() -> set[str]:
    """Return every variable with our prefixes, including groups of settings as JSON."""
    groups = {f"{SETTINGS_PREFIX}{name.upper()}" for name in ServeSettings.model_fields}
    return {*settings_variables(), *groups, *COMMAND_LINE}


def load_settings(given: Mapping[str, Any]) -> ServeSettings:
    """Load the settings of the server; `given` overrides the environment.

    Raises:
        ConfigurationError: a variable is unknown or a value is invalid; names it, the value and what is allowed.
    """
    refuse_unknown(SETTINGS_PREFIX, COMMAND_LINE_PREFIX, known=known_variables())
    try:
        return ServeSettings(**given)
    except SettingsError as error:
        raise ConfigurationError(f"{error}: a group of settings is a JSON object; {WHERE}") from error
    except ValidationError as error:
        raise ConfigurationError("\n".join(_fault(item, given) for item in error.errors(include_url=False))) from error


def _fault(item: Any, given: Mapping[str, Any]) -> str:
    """Describe an invalid setting by the name it was given under."""
    place = [str(part) for part in item["loc"]]
    is_given = bool(place) and place[0] in given
    variable = f"{SETTINGS_PREFIX}{'__'.join(place).upper()}"
    name = f"--{'-'.join(place).replace('_', '-')}" if is_given else variable
    if item["type"] == "extra_forbidden":
        return describe_unknown(variable, settings_variables())
    return f"{name} is {shown(item['input'])}: {item['msg']}"
