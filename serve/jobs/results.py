"""Result lines (JSON), one per input: of jobs, and of commands with the option `--json`."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from serve.api.problems import INTERNAL_DETAIL, problem_document
from serve.errors import ActserveError, EngineFailure
from serve.jobs.records import InputRow, JobKind, as_json

logger = logging.getLogger(__name__)

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


def to_problem(subject: str, error: Exception) -> dict[str, Any]:
    """Return the problem document of an error for the caller. Details of internal errors are only logged."""
    known = error if isinstance(error, ActserveError) else EngineFailure(str(error))
    problem = problem_document(known)
    if problem["status"] == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s failed", subject, exc_info=error)
        problem["detail"] = INTERNAL_DETAIL
    return problem
