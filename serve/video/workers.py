"""Decoding in child processes, so that no file can take the server down.

Each child has limits of its own and takes one video at a time. One that crashes, hangs, passes a limit or works for a
caller who left is killed and replaced; only that one request fails. Views come back in shared memory, which this
process makes and removes, whatever becomes of the child.
"""

import asyncio
import contextlib
import logging
import math
import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessPool

from serve.errors import (
    ActserveError,
    DecodeLimitExceeded,
    DecoderFault,
    EngineFailure,
    EngineUnavailable,
    Overloaded,
)
from serve.video import child
from serve.video.limits import DecodeSettings
from serve.video.views import DecodedViews, ViewRequest

__all__ = ["DecodePool", "DecodedViews", "ViewRequest"]

MEMORY_PREFIX = "actserve"  # names of shared memory: prefix, process id, random
START_SECONDS = 30.0  # a child that is not there by then is given up
GRACE_SECONDS = 5.0  # beyond the deadline, for the pool to kill the child itself
LARGE_BYTES = 2**24  # views beyond it are copied by a thread, not by the event loop

log = logging.getLogger(__name__)


class _Slot:
    """A place for one child: a pool of one, so that its death touches no other child."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._pool = self._new_pool()
        self.pid: int | None = None  # None while there is no child
        self.jobs = 0  # of this child
        self.job: asyncio.Future[Any] | None = None  # the last one; pebble forgets jobs under way when it stops

    def schedule(
        self, function: Callable[..., Any], *, timeout: float, args: tuple[Any, ...] = (), **kwargs: Any
    ) -> asyncio.Future[Any]:
        """Run in the child; cancelling the future kills it.

        Raises:
            BrokenProcessPool: the child died while idle.
        """
        try:
            return asyncio.wrap_future(self._pool.schedule(function, args=args, kwargs=kwargs, timeout=timeout))
        except RuntimeError as error:  # pebble's word for a pool that is stopped or broken
            raise BrokenProcessPool(str(error)) from error

    async def greet(self) -> None:
        """Wait until the child is there and ready."""
        await asyncio.to_thread(self._start_pool)
        greeting = self.schedule(child.child_pid, timeout=START_SECONDS)
        self.pid = await asyncio.wait_for(greeting, START_SECONDS + GRACE_SECONDS)
        self.jobs = 0

    def _start_pool(self) -> None:
        """Forking waits for the nursery to load its libraries; the event loop must not."""
        if not self._pool.active:
            raise BrokenProcessPool("the pool of this child is broken")

    def replace_pool(self) -> None:
        """Give up the pool with its child and begin anew; blocks for seconds at worst."""
        self.stop()
        self._pool = self._new_pool()

    def stop(self) -> None:
        """Kill the child and end the pool's threads."""
        pid, self.pid = self.pid, None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._pool.stop()
        self._pool.join()

    def _new_pool(self) -> Any:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["serve.video.nursery"])
        return ProcessPool(max_workers=1, initializer=child.prepare, initargs=(self._settings,), context=context)


class DecodePool:
    """Decodes videos in children; the one door of the server to decoding."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._slots: list[_Slot] = []
        self._free: asyncio.Queue[_Slot] = asyncio.LifoQueue()  # the child used last is the warmest
        self._revivals: set[asyncio.Task[None]] = set()
        self._is_open = False
        self.waiting = 0  # requests that wait for a child
        self.running = 0  # requests in a child
        self.jobs = 0  # requests that had a child, so far
        self.restarts = 0  # children replaced, so far
        self.faults = 0  # files on which a decoder failed in a way that is not foreseen, so far

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that are there."""
        return [slot.pid for slot in self._slots if slot.pid is not None]

    async def start(self) -> None:
        """Start all children at once and wait until each is ready.

        Raises:
            EngineUnavailable: a child does not start.
        """
        self._is_open = True
        self._slots = [_Slot(self._settings) for _ in range(self._settings.worker_count())]
        try:
            await asyncio.gather(*(slot.greet() for slot in self._slots))
        except Exception as error:
            await self.close()
            raise EngineUnavailable(f"the decoder does not start: {error}") from error
        for slot in self._slots:
            self._free.put_nowait(slot)

    async def views(self, path: Path, request: ViewRequest) -> DecodedViews:
        """Decode a file into views.

        Raises:
            Overloaded: too many videos wait for a child, or shared memory is full.
            UnsupportedMedia, VideoError: what the file's fault is; `DecodeLimitExceeded` when it cost too much.
            EngineUnavailable: the pool is closed.
        """
        asked = time.perf_counter()
        slot = await self._borrow()
        queue_ms = (time.perf_counter() - asked) * 1000
        if not self._is_open:
            self._free.put_nowait(slot)  # wakes the next who waits
            raise EngineUnavailable("the decoder was closed")
        self.running += 1
        self.jobs += 1
        is_well = False
        try:
            with _shared_memory(math.prod(request.shape)) as memory:
                answer = await self._decode(slot, path, request, memory)
                is_well = True
                if isinstance(answer, ActserveError):
                    raise answer
                return replace(answer, views=await _copy(memory, request.shape), queue_ms=queue_ms)
        finally:
            self.running -= 1
            slot.jobs += 1
            if not self._is_open or (is_well and slot.jobs < self._settings.max_jobs_per_child):
                self._free.put_nowait(slot)
            else:
                self._revive_later(slot, is_worn=is_well)

    async def close(self) -> None:
        """Kill the children; requests under way get `EngineUnavailable`."""
        self._is_open = False
        for task in self._revivals:
            task.cancel()
        for slot in self._slots:
            if slot.job is not None:
                slot.job.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(slot.stop) for slot in self._slots))
        self._slots = []

    async def _borrow(self) -> _Slot:
        if not self._is_open:
            raise EngineUnavailable("the decoder is closed")
        if self._free.empty() and self.waiting >= self._settings.queue_size:
            raise Overloaded(
                f"{self.waiting} videos wait for the decoder already, {self._settings.queue_size} may wait",
                queued=self.waiting, limit=self._settings.queue_size,
            )  # fmt: skip
        self.waiting += 1
        try:
            return await self._free.get()
        finally:
            self.waiting -= 1

    async def _decode(
        self, slot: _Slot, path: Path, request: ViewRequest, memory: SharedMemory
    ) -> DecodedViews | ActserveError:
        """The child's answer or the error it found in the file; raises when the child itself is lost."""
        limit = self._settings.deadline_seconds
        try:
            for attempt in (1, 2):
                try:
                    job = slot.schedule(
                        child.decode_job,
                        timeout=limit,
                        args=(path, request),
                        settings=self._settings,
                        memory=memory.name,
                    )
                    slot.job = job
                    return await asyncio.wait_for(job, limit + GRACE_SECONDS)
                except BrokenProcessPool:  # the child died while idle: this file is not to blame
                    if attempt == 2 or not self._is_open:
                        raise
                    await self._replace(slot)
        except DecoderFault as fault:
            self.faults += 1
            log.error("a decoder failed in a way that is not foreseen", exc_info=fault)  # its note is the traceback
            return fault
        except ActserveError as error:
            return error
        except TimeoutError as error:
            raise DecodeLimitExceeded(
                f"decoding took longer than the {limit:g} s allowed", limit_seconds=limit
            ) from error
        except ProcessExpired as error:
            if not self._is_open:
                raise EngineUnavailable("the decoder was closed") from error
            raise child.death(error.exitcode) from error
        except asyncio.CancelledError:
            if not self._is_open and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise EngineUnavailable("the decoder was closed") from None
            raise
        except BrokenProcessPool as error:
            raise EngineUnavailable("the decoder does not start") from error
        except Exception as error:  # the child lives on, but cannot reach the file or the shared memory
            log.exception("the decode child failed outside of decoding")
            return EngineFailure(f"decoding failed: {type(error).__name__}")
        raise AssertionError("the loop above returns or raises")

    def _revive_later(self, slot: _Slot, *, is_worn: bool) -> None:
        """Bring a lost or worn-out child's place back into service, without keeping the caller waiting."""
        slot.pid = None if not is_worn else slot.pid
        if self._is_open:
            task = asyncio.create_task(self._revive(slot, is_worn=is_worn), name="revive-decode-child")
            self._revivals.add(task)
            task.add_done_callback(self._revivals.discard)

    async def _revive(self, slot: _Slot, *, is_worn: bool) -> None:
        pause = 0.0
        try:
            if is_worn:
                raise BrokenProcessPool("worn out")
            self.restarts += 1
            await slot.greet()  # pebble has put a new child in the place, or will at once
        except Exception:
            while self._is_open:
                await asyncio.sleep(pause)
                pause = min(2 * pause + 0.5, 10.0)
                try:
                    await self._replace(slot)
                    break
                except Exception:
                    log.exception("a decode child does not start; trying again in %.1f s", pause)
        if self._is_open:
            self._free.put_nowait(slot)

    async def _replace(self, slot: _Slot) -> None:
        self.restarts += 1
        await asyncio.to_thread(slot.replace_pool)
        await slot.greet()


@contextlib.contextmanager
def _shared_memory(num_bytes: int) -> Iterator[SharedMemory]:
    """A block that is gone at the end of the context, whatever happened."""
    _refuse_without_room(num_bytes)
    name = f"{MEMORY_PREFIX}-{os.getpid()}-{secrets.token_hex(8)}"
    memory = SharedMemory(name, create=True, size=num_bytes)
    try:
        yield memory
    finally:
        memory.close()
        memory.unlink()


def _refuse_without_room(num_bytes: int) -> None:
    """A full /dev/shm (64 MiB by default in containers) kills whoever writes to it; say so instead."""
    with contextlib.suppress(OSError):
        status = os.statvfs("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory
        free = status.f_bavail * status.f_frsize
        if free < num_bytes:
            raise Overloaded(
                f"the views need {num_bytes} bytes of shared memory, {free} are free",
                needed_bytes=num_bytes,
                free_bytes=free,
            )


async def _copy(memory: SharedMemory, shape: tuple[int, ...]) -> Any:
    views = np.ndarray(shape, dtype=np.uint8, buffer=memory.buf)
    return views.copy() if views.nbytes < LARGE_BYTES else await asyncio.to_thread(views.copy)
