"""Result lines (JSON), one per input: of jobs, and of commands with the option `--json`."""

from collections.abc import Mapping
from typing import Any

from serve.jobs.records import InputRow, JobKind, as_json

# Characters that some programs treat as line breaks. In JSON they occur only in strings, where they can be escaped.
ESCAPED_LINE_SEPARATORS = {ord(character): f"\\u{ord(character):04x}" for character in "\u0085\u2028\u2029"}


def result_line(kind: JobKind, *, index: int, name: str, member: str, value: str) -> str:
    """Return a line in which `member` ("result" or "problem") has the JSON text `value` as its value."""
    head = as_json({"index": index, "input": name, "kind": kind})
    return f'{head[:-1]},"{member}":{value}}}'.translate(ESCAPED_LINE_SEPARATORS) + "\n"


def job_result_line(kind: JobKind, row: InputRow) -> str:
    """Return the result line of a finished input of a job."""
    if row.result is not None:
        return result_line(kind, index=row.index, name=row.name, member="result", value=row.result)
    assert row.problem is not None, "an input is completed or failed"
    return result_line(kind, index=row.index, name=row.name, member="problem", value=row.problem)


def command_result_line(
    kind: JobKind, *, index: int, name: str, result: Mapping[str, Any] | None, problem: Mapping[str, Any] | None
) -> str:
    """Return the result line of an input that a command processed."""
    member, value = ("result", result) if problem is None else ("problem", problem)
    return result_line(kind, index=index, name=name, member=member, value=as_json(value))
