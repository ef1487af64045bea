"""Run a job for each of many videos on several decode processes."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from serve.video.limits import DecodeSettings
from training.data.decoding.process import DecodeProcess

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # queued jobs per process, to bound memory


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    items: Sequence[Item],
    job: Callable[[DecodeProcess, Item], Result],
    *,
    settings: DecodeSettings,
    workers: int,
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, result) in order of completion; an exception of a job stops all and is raised."""
    own = threading.local()
    decoders: list[DecodeProcess] = []

    def run(item: Item) -> tuple[Item, Result]:
        if not hasattr(own, "decoder"):
            own.decoder = DecodeProcess(settings)
            decoders.append(own.decoder)
        return item, job(own.decoder, item)

    executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode")
    waiting: set[Future[tuple[Item, Result]]] = set()
    left = iter(items)
    try:
        while True:
            while len(waiting) < AHEAD * workers and (item := next(left, None)) is not None:
                waiting.add(executor.submit(run, item))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for decoder in decoders:
            decoder.close()  # ends current jobs, so that the threads end
        executor.shutdown(wait=True)
