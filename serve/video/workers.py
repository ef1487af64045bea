"""Pool of decode children for asyncio, so that no file can crash the server; see `decode_child.py`.

Each child has resource limits and decodes one video at a time. A child that crashes, hangs, exceeds a limit or works
for a disconnected client is killed and replaced; only that request fails. Views are returned in anonymous shared memory
that is freed at the end of the request, even if the child or this process dies.
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
from serve.video.decode_child import ChildExited, ChildLost, DecodeChild, JobResult
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.limits import DecodeSettings
from serve.video.metadata import VideoMetadata
from serve.video.view_request import DecodedViews, ViewRequest

__all__ = ["DecodePool", "DecodedViews", "ViewRequest"]

JOB, BACKGROUND_JOB = "serve.video.views_job:views", "serve.video.views_job:background_views"
LARGE_BYTES = 2**24  # larger views are copied in a thread, not on the event loop
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0  # between attempts to start a child

log = logging.getLogger(__name__)


class _Slot:
    """One slot of the pool, with its current child, the job it runs and the threads that wait for it."""

    def __init__(self, job: str, threads: ThreadPoolExecutor) -> None:
        self.job = job
        self.threads = threads
        self.child: DecodeChild | None = None
        self.call: Future[JobResult] | None = None  # the most recent call; a thread may still wait in it
        self.jobs = 0  # number of jobs of this child

    def start(self, server: ForkServer, settings: DecodeSettings) -> None:
        """Replace the child by a new one; blocks during the fork.

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
    """Decodes videos in children; all decoding of the server uses this pool."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._server = ForkServer(["serve.video.views_job", "serve.video.window_job"])
        self._threads = ThreadPoolExecutor(2 * settings.worker_count() + 1, thread_name_prefix="decode")
        self._background_threads = ThreadPoolExecutor(thread_name_prefix="decode-background")
        self._slots: list[_Slot] = []
        self._background: set[_Slot] = set()  # of background work, beside the slots of interactive requests
        self._free: asyncio.Queue[_Slot] = asyncio.LifoQueue()  # the most recently used child has warm caches
        self._own: set[DecodeChild] = set()  # children of long requests
        self._revivals: set[asyncio.Task[None]] = set()
        self._is_open = False
        self.waiting = 0  # requests that wait for a child
        self.running = 0  # requests in a child
        self.jobs = 0  # requests that were passed to a child, so far
        self.restarts = 0  # children replaced, so far
        self.faults = 0  # files on which a decoder failed unexpectedly, so far

    @property
    def pids(self) -> list[int]:
        """Process ids of the current children."""
        return [slot.child.pid for slot in self._slots if slot.child is not None]

    @property
    def is_open(self) -> bool:
        """Whether the pool was started and not closed."""
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

    async def views(self, path: Path, request: ViewRequest) -> DecodedViews:
        """Decode a file into views; for background work in a child of its own, of low priority.

        Raises:
            Overloaded: the queue is full, or there is no memory for the views.
            UnsupportedMedia, VideoError: the file cannot be used; `DecodeLimitExceeded` if it exceeded a limit.
            EngineUnavailable: the pool is closed.
        """
        if is_background():
            return await self._views_beside(path, request)
        asked = time.perf_counter()
        slot = await self._borrow()
        queue_ms = (time.perf_counter() - asked) * 1000
        if not self._is_open:
            self._free.put_nowait(slot)  # wakes the next waiting request
            raise EngineUnavailable("the decoder was closed")
        self.running += 1
        self.jobs += 1
        is_alive = False
        try:
            with shared_memory(math.prod(request.shape)) as (descriptor, block):
                answer = await self._ask(slot, path, request, descriptor)
                is_alive = True
                if isinstance(answer, ActserveError):
                    raise answer
                views = await _copy(block, request.shape)
                return _decoded(answer.value, views, queue_ms=queue_ms)
        finally:
            self.running -= 1
            slot.jobs += 1
            if not self._is_open or (is_alive and slot.jobs < self._settings.max_jobs_per_child):
                self._free.put_nowait(slot)
            else:
                self._replace_later(slot)

    async def _views_beside(self, path: Path, request: ViewRequest) -> DecodedViews:
        """Decode a file in a child that is started for it and takes no slot of interactive requests."""
        if not self._is_open:
            raise EngineUnavailable("the decoder is closed")
        slot = _Slot(BACKGROUND_JOB, self._background_threads)
        self._background.add(slot)
        starting = asyncio.ensure_future(self._start(slot))
        try:
            await asyncio.shield(starting)
            with shared_memory(math.prod(request.shape)) as (descriptor, block):
                answer = await self._ask(slot, path, request, descriptor)
                if isinstance(answer, ActserveError):
                    raise answer
                return _decoded(answer.value, await _copy(block, request.shape), queue_ms=0.0)
        except ForkServerError as error:
            raise EngineUnavailable("the decoder did not start") from error
        finally:
            self._background.discard(slot)
            slot.kill()
            await asyncio.wait([starting])
            await asyncio.to_thread(slot.close)

    @contextlib.asynccontextmanager
    async def own_child(self) -> AsyncIterator[DecodeChild]:
        """Start a child for one long request, beside those of short ones; it is killed when the block ends.

        No thread may use the child at the end of the block.

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
        self._own.add(child)
        try:
            yield child
        finally:
            self._own.discard(child)
            child.kill()
            await asyncio.to_thread(child.close)

    async def close(self) -> None:
        """Kill the children; requests in progress get `EngineUnavailable`."""
        self._is_open = False
        for slot in (*self._slots, *self._background):
            slot.kill()
        for child in self._own:
            child.kill()
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)
        await asyncio.to_thread(self._background_threads.shutdown)
        await asyncio.to_thread(self._threads.shutdown)  # calls of killed children end, and running starts complete
        await asyncio.gather(*(asyncio.to_thread(slot.close) for slot in self._slots))
        self._slots = []
        await asyncio.to_thread(self._server.close)

    async def _start(self, slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(slot.threads, slot.start, self._server, self._settings)

    async def _borrow(self) -> _Slot:
        if not self._is_open:
            raise EngineUnavailable("the decoder is closed")
        if self._free.empty() and self.waiting >= self._settings.queue_size:
            raise Overloaded(
                f"{self.waiting} videos wait for the decoder, at most {self._settings.queue_size} may; try again later",
                queued=self.waiting, limit=self._settings.queue_size,
            )  # fmt: skip
        self.waiting += 1
        try:
            return await self._free.get()
        finally:
            self.waiting -= 1

    async def _ask(self, slot: _Slot, path: Path, request: ViewRequest, descriptor: int) -> JobResult | ActserveError:
        """Return the child's answer or the error of the file; raise if the child itself is lost."""
        try:
            try:
                return await self._call(slot, path, request, descriptor)
            except ChildExited:  # it died while idle: this file is not the cause
                if not self._is_open:
                    raise
                self.restarts += 1
                await self._start(slot)
                return await self._call(slot, path, request, descriptor)
        except DecoderFault as fault:
            self.faults += 1
            log.error("a decoder failed unexpectedly", exc_info=fault)  # its note is the traceback
            return fault
        except ActserveError as error:
            return error
        except ChildLost as lost:
            if not self._is_open:
                raise EngineUnavailable("the decoder was closed") from lost
            raise lost.reason from lost
        except (ChildExited, ForkServerError) as error:
            raise EngineUnavailable("the decoder did not start") from error
        except OSError as error:  # the child still works, but cannot read the file
            log.exception("the decode child failed outside of decoding")
            return EngineFailure(f"decoding failed: {type(error).__name__}")

    async def _call(self, slot: _Slot, path: Path, request: ViewRequest, descriptor: int) -> JobResult:
        if slot.child is None:
            raise ChildExited
        arguments = {"path": path, "request": request}
        slot.call = slot.threads.submit(slot.child.call, slot.job, arguments, descriptors=[descriptor])
        try:
            return await asyncio.wrap_future(slot.call)
        except asyncio.CancelledError:
            slot.kill()
            raise

    def _replace_later(self, slot: _Slot) -> None:
        """Replace the child in the background."""
        self.restarts += 1
        task = asyncio.create_task(self._replace(slot), name="replace-decode-child")
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    async def _replace(self, slot: _Slot) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while self._is_open:
                try:
                    await self._start(slot)
                    return
                except ForkServerError:
                    log.exception("a decode child did not start; trying again in %.1f s", pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            self._free.put_nowait(slot)


def _close_unused(starting: asyncio.Task[DecodeChild]) -> None:
    """Close the child of a cancelled request, in a thread, because that waits for its exit."""
    if not starting.cancelled() and starting.exception() is None:
        threading.Thread(target=starting.result().close, daemon=True).start()


@contextlib.contextmanager
def shared_memory(num_bytes: int) -> Iterator[tuple[int, mmap.mmap]]:
    """Yield anonymous shared memory as (descriptor, mapping); it is closed at the end of the block.

    Raises:
        Overloaded: there is not enough memory.
    """
    try:
        descriptor = _memory_file(num_bytes)
    except OSError as error:
        raise Overloaded(
            f"there is no memory for {num_bytes} bytes of views; try again later", needed_bytes=num_bytes
        ) from error
    try:
        block = mmap.mmap(descriptor, num_bytes)
        try:
            yield descriptor, block
        finally:
            with contextlib.suppress(
                BufferError
            ):  # a thread may still copy from it; then the mapping ends with the copy
                block.close()
    finally:
        os.close(descriptor)


def _memory_file(num_bytes: int) -> int:
    """Create an unnamed file; on Linux it is sealed, so that a child cannot shrink it while it is read."""
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


async def _copy(block: mmap.mmap, shape: tuple[int, ...]) -> UInt8Array:
    views = np.frombuffer(block, dtype=np.uint8).reshape(shape)
    return views.copy() if views.nbytes < LARGE_BYTES else await asyncio.to_thread(views.copy)


def _decoded(value: dict[str, Any], views: UInt8Array, *, queue_ms: float) -> DecodedViews:
    return DecodedViews(
        views=views,
        metadata=VideoMetadata(**value["metadata"]),
        frame_indices=np.asarray(value["frame_indices"], dtype=np.int64),
        pts_seconds=np.asarray(value["pts_seconds"], dtype=np.float64),
        decode_ms=float(value["decode_ms"]),
        preprocess_ms=float(value["preprocess_ms"]),
        queue_ms=queue_ms,
    )
