"""Run a job for each of many videos in several decode processes."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from serve.video.limits import DecodeSettings
from training.data.decoding.process import DecodeProcess

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PENDING_JOBS = 4  # per process, to limit the memory of queued jobs and their results


def num_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    items: Sequence[Item],
    job: Callable[[DecodeProcess, Item], Result],
    *,
    settings: DecodeSettings,
    workers: int,
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, result) in order of completion; an exception of a job cancels the other jobs and is raised."""
    thread_state = threading.local()
    decoders: list[DecodeProcess] = []

    def run(item: Item) -> tuple[Item, Result]:
        if not hasattr(thread_state, "decoder"):
            thread_state.decoder = DecodeProcess(settings)
            decoders.append(thread_state.decoder)
        return item, job(thread_state.decoder, item)

    executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode")
    pending: set[Future[tuple[Item, Result]]] = set()
    remaining = iter(items)
    try:
        while True:
            while len(pending) < MAX_PENDING_JOBS * workers and (item := next(remaining, None)) is not None:
                pending.add(executor.submit(run, item))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for decoder in decoders:
            decoder.close()  # ends running jobs, so that the threads finish
        executor.shutdown(wait=True)
