"""Run many inputs: the loop that `actserve classify`, `timeline` and `batch` share.

Each input has one outcome, the result or the problem of a result line (`serve.jobs.results`). An input that fails does
not stop the others. Memory is bounded: inputs are started only as fast as their outcomes are consumed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serve.jobs.results import to_problem

Item = TypeVar("Item")
Result = TypeVar("Result")
STARTED_PER_WORKER = 4  # inputs that may be started or finished and not consumed yet, per worker


class InputProblem(Exception):
    """An input failed with a problem document, e.g. that of a server."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail")))
        self.document = document


class RunStopped(Exception):
    """The cause of this exception stops the whole run: it concerns all inputs."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Item, Result]):
    """The outcome of one input: either `result` or `problem` is not None."""

    index: int  # position of the input in this run
    item: Item
    result: Result | None = None
    problem: dict[str, Any] | None = None


async def run_inputs(
    items: Iterable[Item],
    process: Callable[[Item], Awaitable[Result]],
    *,
    workers: int,
    is_ordered: bool = False,
) -> AsyncGenerator[Outcome[Item, Result], None]:
    """Process inputs with `workers` concurrent calls and yield their outcomes, in order of the inputs or as they end.

    Close the generator (`contextlib.aclosing`) to cancel the inputs in progress.

    Raises:
        RunStopped: `process` raised it.
    """
    free_workers = asyncio.Semaphore(workers)

    async def run(index: int, item: Item) -> Outcome[Item, Result]:
        async with free_workers:
            try:
                return Outcome(index=index, item=item, result=await process(item))
            except RunStopped:
                raise
            except InputProblem as error:
                return Outcome(index=index, item=item, problem=error.document)
            except Exception as error:  # every error is the outcome of its input
                return Outcome(index=index, item=item, problem=to_problem(f"input {index}", error))

    remaining = enumerate(items)
    tasks: deque[asyncio.Task[Outcome[Item, Result]]] = deque()
    try:
        while True:
            while len(tasks) < STARTED_PER_WORKER * workers:
                try:
                    tasks.append(asyncio.create_task(run(*next(remaining))))
                except StopIteration:
                    break
            if not tasks:
                return
            if is_ordered:
                yield await tasks.popleft()
            else:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finished = [task for task in tasks if task.done()]
                tasks = deque(task for task in tasks if not task.done())
                for task in finished:
                    yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
