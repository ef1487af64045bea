"""Environment variables of the commands, and rejection of unknown variables with the prefixes of actserve.

The variables of the server are read in `serve.environment`.
"""

import difflib
import json
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from serve.errors import ConfigurationError

SERVER = "ACTSERVE_SERVER"
API_KEY = "ACTSERVE_API_KEY"
COMMAND_VARIABLES = {
    API_KEY: "API key that the commands and the Python client send to a server.",
    SERVER: "URL of the server that `actserve vocab`, `models`, `feedback`, `jobs`, `videos`, `search`, `classify` "
    "and the Python client use; `--server` overrides it.",
}
SETTINGS_PREFIX, COMMAND_LINE_PREFIX = "SERVE_", "ACTSERVE_"
SETTINGS_HINT = "docs/settings.md lists all variables"
_LINK_URL = re.compile(r"(tcp|udp|sctp)://")
_SERVICE_LINK = re.compile(  # variables that Kubernetes derives from the names of services
    r"(?P<service>(?:ACT)?SERVE(?:_[A-Z0-9_]+?)?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


def reject_unknown_variables(
    *prefixes: str, known: Collection[str] = COMMAND_VARIABLES, environment: Mapping[str, str] | None = None
) -> None:
    """Check that every variable with one of these prefixes is `known`.

    Raises:
        ConfigurationError: some are not; the message names each of them, with the most similar known variable or the
            service from which Kubernetes derived it.
    """
    values = os.environ if environment is None else environment
    problems = []
    for name in sorted(values):
        if name.upper().startswith(prefixes):
            service = _linked_service(name.upper(), values[name])
            if service is not None:
                problems.append(_describe_link(name, values[name], service))
            elif name.upper() not in known:
                problems.append(describe_unknown_variable(name, known))
    if problems:
        raise ConfigurationError("\n".join(problems))


def _linked_service(name: str, value: str) -> str | None:
    """Return the service from which Kubernetes derived a variable, or None."""
    link = _SERVICE_LINK.fullmatch(name)
    if link is None and name.endswith("_PORT") and _LINK_URL.match(value):
        return name.removesuffix("_PORT").lower().replace("_", "-")
    return None if link is None else link["service"].lower().replace("_", "-")


def _describe_link(name: str, value: str, service: str) -> str:
    return (
        f"the environment variable {name}={quote_value(value)} is not a setting: Kubernetes sets it because there is a "
        f"service named {service!r}. Set `enableServiceLinks: false` in the pod spec, or rename the service"
    )


def describe_unknown_variable(name: str, known: Collection[str]) -> str:
    """Return the message for an unknown variable, with the most similar known variable."""
    matches = difflib.get_close_matches(name.upper(), sorted(known), n=1)
    hint = f"did you mean {matches[0]}?" if matches else SETTINGS_HINT
    return f"the environment variable {name} is unknown: {hint}"


def quote_value(value: Any) -> str:
    """Return a value for a message: quoted, and cut after 100 characters."""
    text = str(value)
    return json.dumps(text[:100] + ("..." if len(text) > 100 else ""))
