"""Classify video files locally or on a server; progress is printed to stderr, results to stdout."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serve.api.options import parse_classify_options
from serve.api.problems import problem_document
from serve.cli.calls import connection_error, foreign_server_error, key_header
from serve.environment import load_settings
from serve.errors import ActserveError
from serve.jobs.results import command_result_line
from serve.service import Service

MAX_CONCURRENT_FILES = 4
Classify = Callable[[Path], Awaitable[dict[str, Any]]]


class RemoteProblem(Exception):
    """The server responded with a problem document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail")))
        self.document = document


@dataclass(frozen=True, kw_only=True)
class ClassifyArguments:
    """Arguments of the command."""

    videos: list[Path]
    options: dict[str, Any]
    model: str | None
    repository: Path | None
    server: str | None
    as_json: bool


def classify_files(arguments: ClassifyArguments) -> int:
    """Classify each file; report those that fail. Return 1 if any failed, else 0."""
    parse_classify_options(arguments.options)  # rejects invalid options before a model is loaded
    return asyncio.run(_classify_all(arguments))


async def _classify_all(arguments: ClassifyArguments) -> int:
    classifier = _remote_classifier(arguments) if arguments.server else _local_classifier(arguments)
    failures = 0
    notices: dict[str, None] = {}  # ordered set; each notice is printed once
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=len(arguments.videos) < 2, transient=True,
    )  # fmt: skip
    async with classifier as classify:
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_FILES)
        with bar:
            task = bar.add_task("classifying", total=len(arguments.videos))
            tasks = [asyncio.ensure_future(_classify_one(classify, path, semaphore)) for path in arguments.videos]
            for index, (path, next_result) in enumerate(zip(arguments.videos, tasks, strict=True)):
                response, problem = await next_result
                failures += problem is not None
                if arguments.as_json:
                    line = command_result_line(
                        "classify", index=index, name=str(path), result=response, problem=problem
                    )
                    print(line, end="", flush=True)
                else:
                    _print(path, response, problem)
                notices.update(dict.fromkeys(_notices(response or {})))
                bar.advance(task)
    if not arguments.as_json:
        for notice in notices:
            print(f"note: {notice}", file=sys.stderr)
    return 1 if failures else 0


def _notices(response: dict[str, Any]) -> list[str]:
    """Return the notice of the model and the warnings about labels."""
    warnings = [warning["detail"] for warning in response.get("vocabulary_warnings", ())]
    return [*filter(None, [response.get("notice")]), *warnings]


async def _classify_one(
    classify: Classify, path: Path, semaphore: asyncio.Semaphore
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Classify one file; return (response, None) or (None, problem)."""
    async with semaphore:
        try:
            return await classify(path), None
        except RemoteProblem as error:
            return None, error.document
        except ActserveError as error:
            return None, problem_document(error)


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
    async with httpx.AsyncClient(base_url=arguments.server, headers=key_header(), timeout=300) as client:

        async def classify(path: Path) -> dict[str, Any]:
            try:
                with path.open("rb") as stream:
                    response = await client.post(
                        "/v1/classify", files={"video": stream}, data={"options": json.dumps(options)}
                    )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise connection_error(str(arguments.server), error) from error
            try:
                document: dict[str, Any] = response.json()
            except ValueError as error:
                raise foreign_server_error(str(arguments.server)) from error
            if response.is_error:
                raise RemoteProblem(document)
            return document

        yield classify


def _print(path: Path, response: dict[str, Any] | None, problem: dict[str, Any] | None) -> None:
    if response is None:
        print(f"{path}: {problem['detail'] if problem else ''}", file=sys.stderr, flush=True)
    else:
        print(path)
        for result in response["results"]:
            value = result["logit"] if result["score"] is None else result["score"]
            print(f"  {value:8.4f}  {result['label']}", flush=True)
