"""Pool of decode children for asyncio, so that no file can crash the server; see `decode_child.py`.

Each child has resource limits and decodes one video at a time. A child that crashes, hangs, exceeds a limit or works
for a disconnected client is killed and replaced; only that request fails. Views are returned in anonymous shared
memory, which is freed at the end of the request, even if the child or this process dies.
"""

import asyncio
import contextlib
import fcntl
import logging
import math
import mmap
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import UInt8Array
from serve.background import is_background
from serve.errors import ActserveError, DecoderFault, EngineFailure, EngineUnavailable, Overloaded
from serve.video.decode_child import ChildExited, ChildLost, DecodeChild, JobResult, make_fork_server
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.limits import DecodeSettings
from serve.video.metadata import VideoMetadata
from serve.video.view_request import DecodedViews, ViewRequest

__all__ = ["DecodePool", "DecodedViews", "ViewRequest"]

JOB, BACKGROUND_JOB = "serve.video.views_job:decode_views", "serve.video.views_job:decode_views_in_background"
MAX_INLINE_COPY_BYTES = 2**24  # larger views are copied in a thread, not on the event loop
WATCH_SECONDS = 1.0  # between checks for stopped children
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.5, 10.0  # pause between attempts to start a child; doubled each time

log = logging.getLogger(__name__)


class _Slot:
    """One slot of the pool: its current child, the job that it runs, and the threads for its blocking calls."""

    def __init__(self, job: str, threads: ThreadPoolExecutor) -> None:
        self.job = job
        self.threads = threads
        self.child: DecodeChild | None = None
        self.call: Future[JobResult] | None = None  # the most recent call, which may still run in a thread
        self.jobs = 0  # number of jobs of the current child

    def start(self, server: ForkServer, settings: DecodeSettings) -> None:
        """Replace the child with a new one; blocks until the new child is ready.

        Raises:
            ForkServerError: the child does not start.
        """
        self.close()
        self.child, self.jobs = DecodeChild(server, settings), 0

    def kill(self) -> None:
        """Kill the child without waiting for its exit."""
        if self.child is not None:
            self.child.kill()

    def close(self) -> None:
        """Kill the child and wait for its exit."""
        self.kill()
        if self.call is not None:
            wait([self.call])  # the channel must not be closed while a thread reads from it
        child, self.child = self.child, None
        if child is not None:
            child.close()


class DecodePool:
    """Decodes videos in child processes; all decoding in the server uses this pool."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._server = make_fork_server("serve.video.views_job", "serve.video.window_job", settings=settings)
        self._threads = ThreadPoolExecutor(2 * settings.worker_count() + 1, thread_name_prefix="decode")
        self._background_threads = ThreadPoolExecutor(thread_name_prefix="decode-background")
        self._slots: list[_Slot] = []
        self._background: set[_Slot] = set()  # slots of background requests, in addition to `_slots`
        self._free: asyncio.Queue[_Slot] = asyncio.LifoQueue()  # the most recently used child has warm caches
        self._dedicated: set[DecodeChild] = set()  # children of long requests, outside of the slots
        self._replacements: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._is_open = False
        self.waiting = 0  # requests waiting for a child
        self.running = 0  # requests being decoded
        self.jobs = 0  # total number of requests passed to a child
        self.restarts = 0  # total number of children replaced
        self.faults = 0  # total number of files on which a decoder failed unexpectedly

    @property
    def pids(self) -> list[int]:
        """Process ids of the current children."""
        return [slot.child.pid for slot in self._slots if slot.child is not None]

    @property
    def isolation(self) -> list[str]:
        """The layers of isolation that the decode children have entered."""
        children = (slot.child for slot in self._slots)
        return next((child.isolation.reached for child in children if child is not None), [])

    @property
    def is_open(self) -> bool:
        """Whether the pool has been started and not closed."""
        return self._is_open

    async def start(self) -> None:
        """Start all children and wait until each is ready.

        Raises:
            EngineUnavailable: a child does not start.
        """
        self._is_open = True
        self._slots = [_Slot(JOB, self._threads) for _ in range(self._settings.worker_count())]
        try:
            await asyncio.gather(*(self._start(slot) for slot in self._slots))
        except ForkServerError as error:
            await self.close()
            raise EngineUnavailable(f"the decoder did not start: {error}") from error
        for slot in self._slots:
            self._free.put_nowait(slot)
        self._log_isolation()
        self._watch = asyncio.create_task(self._kill_stopped_children(), name="watch-decode-children")

    async def _kill_stopped_children(self) -> None:
        """Kill children that a signal has stopped, such as SIGSTOP; their requests are repeated in new children."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            slots = [slot.child for slot in (*self._slots, *self._background) if slot.child is not None]
            for child in (*slots, *self._dedicated):
                if child.is_stopped():
                    log.warning("the decode process %d is stopped and will be replaced", child.pid)
                    child.kill()

    def _log_isolation(self) -> None:
        """Log the layers of isolation, and why others are missing."""
        report = next(slot.child.isolation for slot in self._slots if slot.child is not None)
        if self._settings.isolation == "off":
            log.warning("decode processes are not isolated, because SERVE_DECODE__ISOLATION=off")
            return
        log.info("decode processes are isolated by: %s", ", ".join(report.reached))
        for layer, reason in report.missing.items():
            log.warning("decode processes are not isolated by %s: %s", layer, reason)

    async def views(self, path: Path, request: ViewRequest) -> DecodedViews:
        """Decode a file into views; a background request gets its own child, with low priority.

        Raises:
            Overloaded: the queue is full, or there is not enough memory for the views.
            UnsupportedMedia, VideoError: the file cannot be used; `DecodeLimitExceeded` if it exceeded a limit.
            EngineUnavailable: the pool is closed, or no child can be started.
            EngineFailure: the child could not read the file.
        """
        if is_background():
            return await self._decode_in_background(path, request)
        queued_at = time.perf_counter()
        slot = await self._acquire_slot()
        queue_ms = (time.perf_counter() - queued_at) * 1000
        if not self._is_open:
            self._free.put_nowait(slot)  # wake the next waiting request
            raise EngineUnavailable("the decoder was closed")
        self.running += 1
        self.jobs += 1
        is_alive = False
        try:
            with shared_memory(math.prod(request.shape)) as (descriptor, block):
                result = await self._run_job(slot, path, request, descriptor)
                is_alive = True
                if isinstance(result, ActserveError):
                    raise result
                views = await _copy_views(block, request.shape)
                return _make_result(result.value, views, queue_ms=queue_ms)
        finally:
            self.running -= 1
            slot.jobs += 1
            if not self._is_open or (is_alive and slot.jobs < self._settings.max_jobs_per_child):
                self._free.put_nowait(slot)
            else:
                self._replace_later(slot)

    async def _decode_in_background(self, path: Path, request: ViewRequest) -> DecodedViews:
        """Decode a file in a child that is started for this request, so that no slot of `_slots` is occupied."""
        if not self._is_open:
            raise EngineUnavailable("the decoder is closed")
        slot = _Slot(BACKGROUND_JOB, self._background_threads)
        self._background.add(slot)
        starting = asyncio.ensure_future(self._start(slot))
        try:
            await asyncio.shield(starting)
            with shared_memory(math.prod(request.shape)) as (descriptor, block):
                result = await self._run_job(slot, path, request, descriptor)
                if isinstance(result, ActserveError):
                    raise result
                return _make_result(result.value, await _copy_views(block, request.shape), queue_ms=0.0)
        except ForkServerError as error:
            raise EngineUnavailable("the decoder did not start") from error
        finally:
            self._background.discard(slot)
            slot.kill()
            await asyncio.wait([starting])
            await asyncio.to_thread(slot.close)

    @contextlib.asynccontextmanager
    async def dedicated_child(self) -> AsyncIterator[DecodeChild]:
        """Start an additional child for one long request; it is killed at the end of the block.

        All calls of the child must have returned before the end of the block.

        Raises:
            EngineUnavailable: the pool is closed, or the child does not start.
        """
        if not self._is_open:
            raise EngineUnavailable("the decoder is closed")
        starting = asyncio.create_task(asyncio.to_thread(DecodeChild, self._server, self._settings))
        try:
            child = await asyncio.shield(starting)
        except ForkServerError as error:
            raise EngineUnavailable("the decoder did not start") from error
        except asyncio.CancelledError:
            starting.add_done_callback(_close_unused)
            raise
        self._dedicated.add(child)
        try:
            yield child
        finally:
            self._dedicated.discard(child)
            child.kill()
            await asyncio.to_thread(child.close)

    async def close(self) -> None:
        """Kill the children; requests in progress get `EngineUnavailable`."""
        self._is_open = False
        if self._watch is not None:
            self._watch.cancel()
        for slot in (*self._slots, *self._background):
            slot.kill()
        for child in self._dedicated:
            child.kill()
        for task in self._replacements:
            task.cancel()
        await asyncio.gather(*self._replacements, return_exceptions=True)
        await asyncio.to_thread(self._background_threads.shutdown)
        await asyncio.to_thread(self._threads.shutdown)  # calls of killed children return, and running starts complete
        await asyncio.gather(*(asyncio.to_thread(slot.close) for slot in self._slots))
        self._slots = []
        await asyncio.to_thread(self._server.close)

    async def _start(self, slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(slot.threads, slot.start, self._server, self._settings)

    async def _acquire_slot(self) -> _Slot:
        if not self._is_open:
            raise EngineUnavailable("the decoder is closed")
        if self._free.empty() and self.waiting >= self._settings.queue_size:
            raise Overloaded(
                f"the queue of the decoder is full: {self.waiting} videos are waiting, "
                f"at most {self._settings.queue_size} may; try again later",
                queued=self.waiting, limit=self._settings.queue_size,
            )  # fmt: skip
        self.waiting += 1
        try:
            return await self._free.get()
        finally:
            self.waiting -= 1

    async def _run_job(
        self, slot: _Slot, path: Path, request: ViewRequest, descriptor: int
    ) -> JobResult | ActserveError:
        """Return the result of the job or its error; raise if the child itself is lost.

        If the child dies, the job is repeated once in a new child: a healthy file must not pay for a process that was
        killed. A file on which the second child crashes too is the cause.
        """
        deadline = time.monotonic() + self._settings.deadline_seconds
        try:
            try:
                return await self._call(slot, path, request, descriptor, deadline)
            except (ChildExited, ChildLost) as death:
                if not self._is_open or (isinstance(death, ChildLost) and not death.is_repeatable):
                    raise
                log.warning("a decode process died (%s); its video is decoded again", death or "while it was idle")
            self.restarts += 1
            await self._start(slot)
            return await self._call(slot, path, request, descriptor, deadline)
        except DecoderFault as fault:
            self.faults += 1
            log.error(
                "a decoder failed unexpectedly", exc_info=fault
            )  # the traceback of the child is a note of `fault`
            return fault
        except ActserveError as error:
            return error
        except ChildLost as lost:
            if not self._is_open:
                raise EngineUnavailable("the decoder was closed") from lost
            raise lost.reason from lost
        except (ChildExited, ForkServerError) as error:
            raise EngineUnavailable("the decoder did not start") from error
        except OSError as error:  # the child can still be used, but it could not read the file
            log.exception("the decode child could not read the file")
            return EngineFailure(f"decoding failed: {type(error).__name__}")

    async def _call(self, slot: _Slot, path: Path, request: ViewRequest, descriptor: int, deadline: float) -> JobResult:
        if slot.child is None:
            raise ChildExited
        slot.call = slot.threads.submit(
            slot.child.call, slot.job, path, {"request": request}, memory=descriptor, deadline=deadline
        )
        try:
            return await asyncio.wrap_future(slot.call)
        except asyncio.CancelledError:
            slot.kill()
            raise

    def _replace_later(self, slot: _Slot) -> None:
        """Replace the child of the slot in the background."""
        self.restarts += 1
        task = asyncio.create_task(self._replace(slot), name="replace-decode-child")
        self._replacements.add(task)
        task.add_done_callback(self._replacements.discard)

    async def _replace(self, slot: _Slot) -> None:
        pause = MIN_RETRY_SECONDS
        try:
            while self._is_open:
                try:
                    await self._start(slot)
                    return
                except ForkServerError:
                    log.exception("a decode child did not start; trying again in %.1f s", pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_RETRY_SECONDS)
        finally:
            self._free.put_nowait(slot)


def _close_unused(starting: asyncio.Task[DecodeChild]) -> None:
    """Close the child of a cancelled request; in a thread, because closing waits for the exit of the child."""
    if not starting.cancelled() and starting.exception() is None:
        threading.Thread(target=starting.result().close, daemon=True).start()


@contextlib.contextmanager
def shared_memory(num_bytes: int) -> Iterator[tuple[int, mmap.mmap]]:
    """Yield anonymous shared memory as (descriptor, mapping); it is closed at the end of the block.

    Raises:
        Overloaded: there is not enough memory.
    """
    try:
        descriptor = _create_memory_file(num_bytes)
    except OSError as error:
        raise Overloaded(
            f"there is not enough memory for {num_bytes} bytes of views; try again later", needed_bytes=num_bytes
        ) from error
    try:
        block = mmap.mmap(descriptor, num_bytes)
        try:
            yield descriptor, block
        finally:
            with contextlib.suppress(BufferError):  # a thread may still copy from the mapping, which is freed after it
                block.close()
    finally:
        os.close(descriptor)


def _create_memory_file(num_bytes: int) -> int:
    """Create an unnamed file; on Linux its size is sealed, so that a child cannot shrink it while it is read."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("actserve-views", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, num_bytes)
        if sys.platform == "linux":
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


async def _copy_views(block: mmap.mmap, shape: tuple[int, ...]) -> UInt8Array:
    views = np.frombuffer(block, dtype=np.uint8).reshape(shape)
    return views.copy() if views.nbytes < MAX_INLINE_COPY_BYTES else await asyncio.to_thread(views.copy)


def _make_result(value: dict[str, Any], views: UInt8Array, *, queue_ms: float) -> DecodedViews:
    return DecodedViews(
        views=views,
        metadata=VideoMetadata(**value["metadata"]),
        frame_indices=np.asarray(value["frame_indices"], dtype=np.int64),
        pts_seconds=np.asarray(value["pts_seconds"], dtype=np.float64),
        decode_ms=float(value["decode_ms"]),
        preprocess_ms=float(value["preprocess_ms"]),
        queue_ms=queue_ms,
    )
