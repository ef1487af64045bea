"""Server-sent events of a job, and the lines of its results."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict


class JobEvent(TypedDict):
    """An event of a job: `status` and `input` have a number, `progress` has none."""

    id: str | None
    event: str
    data: dict[str, Any]


class JobLine(TypedDict):
    """The result or the problem of one input of a job."""

    index: int
    input: str
    kind: Literal["classify", "timeline", "embed"]
    result: NotRequired[dict[str, Any]]
    problem: NotRequired[dict[str, Any]]


@dataclass
class EventParser:
    """Parser of `text/event-stream`."""

    _fields: dict[str, str] = field(default_factory=dict)

    def feed(self, line: str) -> JobEvent | None:
        """Read a line without its end; return the event that it completes, if any."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            is_more_data = name == "data" and name in self._fields
            self._fields[name] = f"{self._fields[name]}\n{value}" if is_more_data else value
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return {"id": fields.get("id"), "event": fields.get("event", "message"), "data": json.loads(fields["data"])}
