"""Many video files through the pipeline in process, or through a server: progress on stderr, answers on stdout."""

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

from serve.cli.calls import no_answer, not_actserve
from serve.environment import load_settings
from serve.errors import ActserveError
from serve.options import parse_options
from serve.problems import describe
from serve.service import Service

CONCURRENT_FILES = 4
Classify = Callable[[Path], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the command line asked for."""

    videos: list[Path]
    options: dict[str, Any]
    model: str | None
    repository: Path | None
    server: str | None
    as_json: bool


def classify_files(order: Order) -> int:
    """Classify each file; a file that fails is reported and the others go on. Returns 1 if any failed."""
    parse_options(order.options)  # wrong options are told before any model is loaded
    return asyncio.run(_classify_all(order))


async def _classify_all(order: Order) -> int:
    joined = _on_server(order) if order.server else _in_process(order)
    failures = 0
    notices: dict[str, None] = {}  # each said once, in order
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=len(order.videos) < 2, transient=True,
    )  # fmt: skip
    async with joined as classify:
        turns = asyncio.Semaphore(CONCURRENT_FILES)
        with bar:
            task = bar.add_task("classifying", total=len(order.videos))
            for next_answer in [asyncio.ensure_future(_one(classify, path, turns)) for path in order.videos]:
                answer = await next_answer
                failures += "problem" in answer
                _show(answer, as_json=order.as_json)
                notices.update(dict.fromkeys(_notices(answer)))
                bar.advance(task)
    if not order.as_json:
        for notice in notices:
            print(f"note: {notice}", file=sys.stderr)
    return 1 if failures else 0


def _notices(answer: dict[str, Any]) -> list[str]:
    """What a reader should know of the model and of the labels."""
    warnings = [warning["detail"] for warning in answer.get("vocabulary_warnings", ())]
    return [*filter(None, [answer.get("notice")]), *warnings]


async def _one(classify: Classify, path: Path, turns: asyncio.Semaphore) -> dict[str, Any]:
    async with turns:
        try:
            return {"video": str(path), **await classify(path)}
        except ActserveError as error:
            slug, title = describe(type(error))
            problem = {**error.facts, "type": f"/problems/{slug}", "title": title, "detail": error.message}
            return {"video": str(path), "problem": problem}


@asynccontextmanager
async def _in_process(order: Order) -> AsyncIterator[Classify]:
    """The server's own service without HTTP."""
    given = {"model": order.model, "repository": order.repository}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    settings.require_extras()
    service = Service(settings)
    try:
        await service.start()
        options = parse_options(order.options)

        async def classify(path: Path) -> dict[str, Any]:
            deadline = asyncio.get_running_loop().time() + settings.limits.request_deadline_seconds
            answer = await service.pipeline.classify(path, options, deadline=deadline)
            return answer.model_dump(mode="json")

        yield classify
    finally:
        await service.close()


@asynccontextmanager
async def _on_server(order: Order) -> AsyncIterator[Classify]:
    """A running server over HTTP."""
    assert order.server is not None
    options = {**order.options, **({"model": order.model} if order.model else {})}
    async with httpx.AsyncClient(base_url=order.server, timeout=300) as client:

        async def classify(path: Path) -> dict[str, Any]:
            try:
                with path.open("rb") as stream:
                    response = await client.post(
                        "/v1/classify", files={"video": stream}, data={"options": json.dumps(options)}
                    )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise no_answer(str(order.server), error) from error
            try:
                answer: dict[str, Any] = response.json()
            except ValueError as error:
                raise not_actserve(str(order.server)) from error
            return {"problem": answer} if response.is_error else answer

        yield classify


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    elif "problem" in answer:
        print(f"{answer['video']}: {answer['problem']['detail']}", file=sys.stderr, flush=True)
    else:
        print(answer["video"])
        for result in answer["results"]:
            shown = result["logit"] if result["score"] is None else result["score"]
            print(f"  {shown:8.4f}  {result['label']}", flush=True)
