"""Transport of views to a Triton server: system shared memory if it runs on this host, else the gRPC message."""

import asyncio
import logging
import os
import secrets
from bisect import insort
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from serve.arrays import UInt8Array
from serve.engines.triton_server import Place, RegionUnknown, TritonServer, reason_of
from serve.errors import ContractError, EngineUnavailable, ServiceError

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Call = Callable[[Place | None], Awaitable[Answer]]

MEMORY_PREFIX = "actserve-triton"
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory
ALIGNMENT = 64  # bytes


class ViewTransport:
    """Passes views to one server; `name` describes the transport in use."""

    def __init__(self, server: TritonServer, *, mode: Literal["auto", "always", "never"], num_bytes: int) -> None:
        self._server = server
        self._mode = mode
        self._num_bytes = num_bytes
        self._region: SharedRegion | None = None
        self._is_registered = False
        self._registrations = 0
        self._turn = asyncio.Lock()
        self.name = "message"

    async def open(self) -> None:
        """Create a region and register it with the server, unless the mode is `never`.

        Raises:
            ContractError: the mode is `always` and shared memory cannot be used.
        """
        if self._mode == "never":
            return
        try:
            self._region = SharedRegion(self._num_bytes)
            await self._register()
        except (OSError, ServiceError) as error:
            if self._mode == "always":
                raise ContractError(
                    f"the Triton server at {self._server.url} cannot use shared memory: {reason_of(error)}",
                    field="triton.shared_memory",
                ) from error
            self._fall_back(error)

    async def send(self, views: UInt8Array, call: Call[Answer]) -> Answer:
        """Make a call with the place of the views in shared memory, or with None to send them in the message.

        If the server has lost the region, e.g. after a restart, register it again.

        Raises:
            EngineUnavailable: the mode is `always` and the server can no longer open the region.
        """
        if self._region is None or not self._is_registered:
            return await call(None)
        registrations = self._registrations
        with self._region.lend(views) as place:
            try:
                return await call(place)
            except RegionUnknown:
                await self.renew(registrations)
            try:
                return await call(place if self._is_registered else None)
            except RegionUnknown as error:
                raise EngineUnavailable("the Triton server lost the shared memory region again") from error

    async def renew(self, registrations: int | None = None) -> None:
        """Register again, unless another caller already did: then the count differs from `registrations`.

        Raises:
            EngineUnavailable: see `send`.
        """
        async with self._turn:
            if self._region is None or registrations not in (None, self._registrations):
                return
            try:
                await self._register()
            except ServiceError as error:
                self._is_registered = False
                if self._mode == "always":
                    raise EngineUnavailable("the Triton server cannot use shared memory any more") from error
                self._fall_back(error)

    async def close(self, *, is_read: bool) -> None:
        """Unregister and remove the region.

        If a running call may still read it (`is_read`), it stays registered, so that the server can finish reading.
        """
        if self._region is None:
            return
        region, self._region = self._region, None
        try:
            if self._is_registered and not is_read:
                await self._server.unregister(region.name)
        except (ServiceError, RegionUnknown) as error:
            logger.info("the Triton server did not unregister the shared memory region: %s", reason_of(error))
        finally:
            region.close()

    async def _register(self) -> None:
        assert self._region is not None, "open() makes it"
        await self._server.register(self._region.name, key=self._region.key, num_bytes=self._region.num_bytes)
        self._is_registered = True
        self._registrations += 1
        self.name = "shared memory"

    def _fall_back(self, error: Exception) -> None:
        self.name = f"message (no shared memory: {reason_of(error)})"
        logger.warning("views are sent to the Triton server at %s by %s", self._server.url, self.name)


class SharedRegion:
    """Shared memory of `num_bytes` under a unique name; removed by `close` or at the end of the process.

    Raises:
        OSError: shared memory is not available, or there is too little of it.
    """

    def __init__(self, num_bytes: int) -> None:
        self.name = f"{MEMORY_PREFIX}-{os.getpid()}-{secrets.token_hex(8)}"
        self.num_bytes = num_bytes
        self._lent: list[tuple[int, int]] = []  # (start, stop), sorted
        self._memory = SharedMemory(self.name, create=True, size=num_bytes)
        try:
            self._take_pages()
        except OSError:
            self.close()
            raise

    @property
    def key(self) -> str:
        """The name under which another process of this host opens the region."""
        return f"/{self.name}"

    @contextmanager
    def lend(self, views: UInt8Array) -> Iterator[Place | None]:
        """Copy `views` into the region and yield their place; None if there is no room.

        The room is released at the end of the block.
        """
        start = self._gap(views.nbytes)
        if start is None:
            yield None
            return
        lent = (start, start + views.nbytes)
        insort(self._lent, lent)
        try:
            np.ndarray(views.shape, np.uint8, buffer=self._memory.buf, offset=start)[...] = views
            yield self.name, start
        finally:
            self._lent.remove(lent)

    def close(self) -> None:
        """Remove the region."""
        self._memory.close()
        self._memory.unlink()

    def _gap(self, num_bytes: int) -> int | None:
        start = 0
        for taken, stop in self._lent:
            if taken - start >= num_bytes:
                break
            start = -(-stop // ALIGNMENT) * ALIGNMENT
        return start if start + num_bytes <= self.num_bytes else None

    def _take_pages(self) -> None:
        """Allocate all pages now: a write to a full /dev/shm (64 MiB by default in containers) kills the process."""
        handle = os.open(MEMORY_FOLDER / self.name, os.O_RDWR)
        try:
            os.posix_fallocate(handle, 0, self.num_bytes)
        finally:
            os.close(handle)
