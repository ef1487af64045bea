"""Lines of results, one for each input: of the files of a job and of commands with `--json`."""

from collections.abc import Mapping
from typing import Any

from serve.jobs.records import InputRow, JobKind, as_json

# Characters that some readers take for the end of a line; in JSON they occur inside of texts alone.
LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\u0085\u2028\u2029"}


def result_line(kind: JobKind, *, index: int, name: str, member: str, value: str) -> str:
    """Return a line whose `member` (result or problem) has a JSON text as its value."""
    head = as_json({"index": index, "input": name, "kind": kind})
    return f'{head[:-1]},"{member}":{value}}}'.translate(LINE_ENDS) + "\n"


def line_of_row(kind: JobKind, row: InputRow) -> str:
    """Return the line of a finished input of a job."""
    if row.result is not None:
        return result_line(kind, index=row.number, name=row.name, member="result", value=row.result)
    assert row.problem is not None, "an input is completed or failed"
    return result_line(kind, index=row.number, name=row.name, member="problem", value=row.problem)


def line_of_answer(
    kind: JobKind, *, index: int, name: str, result: Mapping[str, Any] | None, problem: Mapping[str, Any] | None
) -> str:
    """Return the line of an input that a command processed."""
    member, value = ("result", result) if problem is None else ("problem", problem)
    return result_line(kind, index=index, name=name, member=member, value=as_json(value))
