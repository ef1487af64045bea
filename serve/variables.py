"""Environment variables with the prefixes of actserve: those of the command lines; unknown ones are refused.

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
COMMAND_LINE = {
    API_KEY: "API key that the commands send to a server.",
    SERVER: "URL of the server that `actserve vocab`, `models`, `feedback`, `jobs`, `videos`, `search` and `classify` "
    "use; `--server` overrides it.",
}
SETTINGS_PREFIX, COMMAND_LINE_PREFIX = "SERVE_", "ACTSERVE_"
_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_SERVICE_LINK = re.compile(
    r"(?P<service>(?:ACT)?SERVE(?:_[A-Z0-9_]+?)?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


def refuse_unknown(
    *prefixes: str, known: Collection[str] = COMMAND_LINE, environment: Mapping[str, str] | None = None
) -> None:
    """Refuse variables with these prefixes that are not `known`.

    Raises:
        ConfigurationError: names each, and the most similar known one or what set it.
    """
    found = os.environ if environment is None else environment
    faults = []
    for name in sorted(found):
        if name.upper().startswith(prefixes):
            service = _linked_service(name.upper(), found[name])
            if service is not None:
                faults.append(_describe_link(name, found[name], service))
            elif name.upper() not in known:
                faults.append(describe_unknown(name, known))
    if faults:
        raise ConfigurationError("\n".join(faults))


def _linked_service(name: str, value: str) -> str | None:
    """Return the service whose address a container platform put into a variable, if any."""
    link = _SERVICE_LINK.fullmatch(name)
    if link is None and name.endswith("_PORT") and _ADDRESS.match(value):
        return name.removesuffix("_PORT").lower().replace("_", "-")
    return None if link is None else link["service"].lower().replace("_", "-")


def _describe_link(name: str, value: str, service: str) -> str:
    return (
        f"the environment holds {name}={shown(value)}, which is no setting: Kubernetes sets it in every pod beside a "
        f"service called {service!r}. Set `enableServiceLinks: false` in the spec of the pod, or rename the service"
    )


def describe_unknown(name: str, known: Collection[str]) -> str:
    """Describe an unknown variable and the most similar known one."""
    near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
    hint = f"did you mean {near[0]}?" if near else WHERE
    return f"the environment holds {name}, which is unknown: {hint}"


def shown(value: Any) -> str:
    """Return a value for a message."""
    text = value if isinstance(value, str) else str(value)
    return json.dumps(text[:100] + ("..." if len(text) > 100 else ""))


WHERE = "docs/settings.md lists all of them"
