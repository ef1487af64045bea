"""One job for each of many videos, on several decode processes at once."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from serve.video.limits import DecodeSettings
from training.data.decoding.process import DecodeProcess

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # jobs of each process that wait, so that a long list costs no memory


def processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    items: Sequence[Item],
    job: Callable[[DecodeProcess, Item], Result],
    *,
    settings: DecodeSettings,
    workers: int,
) -> Iterator[tuple[Item, Result]]:
    """(item, result) as they are done, in no order; an exception of a job stops everything and is raised here."""
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
            decoder.close()  # ends jobs under way, so the threads can end
        executor.shutdown(wait=True)
