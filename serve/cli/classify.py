"""Classify video files locally or on a server; progress is printed to stderr, results to stdout."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.api.options import parse_classify_options
from serve.cli.calls import RETRIES, convert_errors
from serve.cli.output import Output
from serve.cli.progress import show_progress
from serve.cli.result_files import Write, open_result_file
from serve.client import AsyncClient, ProblemError, RetryPolicy
from serve.environment import load_settings
from serve.jobs.results import command_result_line
from serve.jobs.runner import InputProblem, run_inputs
from serve.service import Service

MAX_CONCURRENT_FILES = 4
QUIET = Output(is_quiet=True)
Classify = Callable[[Path], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ClassifyArguments:
    """Arguments of the command."""

    videos: list[Path]
    options: dict[str, Any]
    model: str | None
    repository: Path | None
    server: str | None
    output: Output
    out: Path | None = None  # file for the results


def classify_files(arguments: ClassifyArguments) -> int:
    """Classify each file; report those that fail. Return 1 if any failed, else 0."""
    parse_classify_options(arguments.options)  # rejects invalid options before a model is loaded
    return asyncio.run(_classify_all(arguments))


async def _classify_all(arguments: ClassifyArguments) -> int:
    classifier = _remote_classifier(arguments) if arguments.server else _local_classifier(arguments)
    with ExitStack() as files:
        write = None if arguments.out is None else files.enter_context(open_result_file(arguments.out))
        failures, notices = await _classify_each(classifier, arguments, write)
    if not arguments.output.as_json:
        for notice in notices:
            arguments.output.note(f"note: {notice}")
    return 1 if failures else 0


async def _classify_each(
    classifier: AbstractAsyncContextManager[Classify], arguments: ClassifyArguments, write: Write | None
) -> tuple[int, list[str]]:
    """Classify the files and print or write each result; return the number of failures and the notices."""
    failures = 0
    notices: dict[str, None] = {}  # ordered set; each notice is printed once
    shown = arguments.output if len(arguments.videos) > 1 else QUIET
    async with classifier as classify:
        outcomes = run_inputs(arguments.videos, classify, workers=MAX_CONCURRENT_FILES, is_ordered=True)
        async with aclosing(outcomes):
            with show_progress("classifying", shown) as advance:
                async for outcome in outcomes:
                    path, response, problem = outcome.item, outcome.result, outcome.problem
                    failures += problem is not None
                    line = command_result_line(
                        "classify", index=outcome.index, name=str(path), result=response, problem=problem
                    )
                    if write is not None:
                        write(line)
                    if arguments.output.as_json:
                        print(line, end="", flush=True)
                    elif problem is not None or write is None:
                        _print(path, response, problem)
                    notices.update(dict.fromkeys(_notices(response or {})))
                    advance(outcome.index + 1, len(arguments.videos))
    return failures, list(notices)


def _notices(response: dict[str, Any]) -> list[str]:
    """Return the notice of the model and the warnings about labels."""
    warnings = [warning["detail"] for warning in response.get("vocabulary_warnings", ())]
    return [*filter(None, [response.get("notice")]), *warnings]


@asynccontextmanager
async def _local_classifier(arguments: ClassifyArguments) -> AsyncIterator[Classify]:
    """Yield a function that classifies files with a service in this process."""
    overrides = {"model": arguments.model, "repository": arguments.repository}
    settings = load_settings({name: value for name, value in overrides.items() if value is not None})
    settings.require_extras()
    service = Service(settings)
    try:
        await service.start()
        options = arguments.options

        async def classify(path: Path) -> dict[str, Any]:
            deadline = asyncio.get_running_loop().time() + settings.limits.request_deadline_seconds
            return await service.input_processor.run("classify", path, options, name=path.name, deadline=deadline)

        yield classify
    finally:
        await service.close()


@asynccontextmanager
async def _remote_classifier(arguments: ClassifyArguments) -> AsyncIterator[Classify]:
    """Yield a function that sends files to a server."""
    assert arguments.server is not None
    options = {**arguments.options, **({"model": arguments.model} if arguments.model else {})}
    async with AsyncClient(arguments.server, retries=RetryPolicy(**RETRIES)) as client:

        async def classify(path: Path) -> dict[str, Any]:
            with convert_errors():
                try:
                    return {**await client.classify(path, **options)}
                except ProblemError as error:
                    raise InputProblem({**error.document}) from error

        yield classify


def _print(path: Path, response: dict[str, Any] | None, problem: dict[str, Any] | None) -> None:
    if response is None:
        print(f"{path}: {problem['detail'] if problem else ''}", file=sys.stderr, flush=True)
    else:
        print(path)
        for result in response["results"]:
            value = result["logit"] if result["score"] is None else result["score"]
            print(f"  {value:8.4f}  {result['label']}", flush=True)
