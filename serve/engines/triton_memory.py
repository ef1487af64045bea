"""Pass views to a Triton server: in system shared memory if it runs on this host, otherwise in the gRPC messages."""

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
from serve.engines.triton_client import SharedMemoryLocation, TritonClient, UnknownRegion, server_message
from serve.errors import ContractError, EngineUnavailable, ServiceError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Call = Callable[[SharedMemoryLocation | None], Awaitable[Result]]

MEMORY_PREFIX = "actserve-triton"
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory
ALIGNMENT = 64  # bytes


class ViewTransport:
    """Passes views to one server; `name` describes the current transport."""

    def __init__(self, client: TritonClient, *, mode: Literal["auto", "always", "never"], num_bytes: int) -> None:
        self._client = client
        self._mode = mode
        self._num_bytes = num_bytes
        self._region: SharedRegion | None = None
        self._is_registered = False
        self._registrations = 0  # number of registrations so far
        self._registration_lock = asyncio.Lock()
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
                    f"the Triton server at {self._client.url} cannot use shared memory: {server_message(error)}",
                    field="triton.shared_memory",
                ) from error
            self._fall_back(error)

    async def send(self, views: UInt8Array, call: Call[Result]) -> Result:
        """Call `call` with the location of the views in shared memory, or with None if the message must contain them.

        If the server has lost the region, e.g. after a restart, it is registered again and the call is repeated.

        Raises:
            EngineUnavailable: the server lost the region twice, or the mode is `always` and it cannot be registered.
        """
        if self._region is None or not self._is_registered:
            return await call(None)
        registrations = self._registrations
        with self._region.allocate(views) as location:
            try:
                return await call(location)
            except UnknownRegion:
                await self.register_again(registrations)
            try:
                return await call(location if self._is_registered else None)
            except UnknownRegion as error:
                raise EngineUnavailable("the Triton server lost the shared memory region twice") from error

    async def register_again(self, registrations: int | None = None) -> None:
        """Register the region again.

        `registrations` is the number of registrations that the caller has seen. If it has changed, another caller has
        already registered the region, and this call does nothing.

        Raises:
            EngineUnavailable: the mode is `always` and the region cannot be registered.
        """
        async with self._registration_lock:
            if self._region is None or registrations not in (None, self._registrations):
                return
            try:
                await self._register()
            except ServiceError as error:
                self._is_registered = False
                if self._mode == "always":
                    raise EngineUnavailable("the Triton server can no longer use shared memory") from error
                self._fall_back(error)

    async def close(self, *, in_use: bool) -> None:
        """Unregister and remove the region.

        If a running call may still read the region (`in_use`), it stays registered, so that the server can finish
        reading.
        """
        if self._region is None:
            return
        region, self._region = self._region, None
        try:
            if self._is_registered and not in_use:
                await self._client.unregister(region.name)
        except (ServiceError, UnknownRegion) as error:
            logger.info("the Triton server did not unregister the shared memory region: %s", server_message(error))
        finally:
            region.close()

    async def _register(self) -> None:
        assert self._region is not None, "open() creates it"
        await self._client.register(self._region.name, key=self._region.key, num_bytes=self._region.num_bytes)
        self._is_registered = True
        self._registrations += 1
        self.name = "shared memory"

    def _fall_back(self, error: Exception) -> None:
        """Send views in messages from now on."""
        reason = server_message(error)
        self.name = f"message (no shared memory: {reason})"
        logger.warning(
            "views are sent to the Triton server at %s in gRPC messages, because shared memory is not available: %s",
            self._client.url,
            reason,
        )


class SharedRegion:
    """Shared memory of `num_bytes` with a unique name; removed by `close` or when the process exits.

    Raises:
        OSError: shared memory is not available, or `num_bytes` is more than is free.
    """

    def __init__(self, num_bytes: int) -> None:
        self.name = f"{MEMORY_PREFIX}-{os.getpid()}-{secrets.token_hex(8)}"
        self.num_bytes = num_bytes
        self._allocated: list[tuple[int, int]] = []  # (start, stop) in bytes, sorted
        self._memory = SharedMemory(self.name, create=True, size=num_bytes)
        try:
            self._allocate_pages()
        except OSError:
            self.close()
            raise

    @property
    def key(self) -> str:
        """The name by which other processes on this host open the region."""
        return f"/{self.name}"

    @contextmanager
    def allocate(self, views: UInt8Array) -> Iterator[SharedMemoryLocation | None]:
        """Copy `views` into the region and yield their location; None if there is not enough free space.

        The space is freed at the end of the block.
        """
        start = self._find_free(views.nbytes)
        if start is None:
            yield None
            return
        allocated = (start, start + views.nbytes)
        insort(self._allocated, allocated)
        try:
            np.ndarray(views.shape, np.uint8, buffer=self._memory.buf, offset=start)[...] = views
            yield self.name, start
        finally:
            self._allocated.remove(allocated)

    def close(self) -> None:
        """Remove the region."""
        self._memory.close()
        self._memory.unlink()

    def _find_free(self, num_bytes: int) -> int | None:
        """Return the offset of the first free range of `num_bytes`; None if there is none."""
        start = 0
        for used_start, used_stop in self._allocated:
            if used_start - start >= num_bytes:
                break
            start = -(-used_stop // ALIGNMENT) * ALIGNMENT
        return start if start + num_bytes <= self.num_bytes else None

    def _allocate_pages(self) -> None:
        """Allocate all pages now: a write to a full /dev/shm (64 MiB by default in containers) kills the process."""
        handle = os.open(MEMORY_FOLDER / self.name, os.O_RDWR)
        try:
            os.posix_fallocate(handle, 0, self.num_bytes)
        finally:
            os.close(handle)
