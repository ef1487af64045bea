"""Stream the windows of a long video from a dedicated decode child; the server's side of `window_job.py`.

The child decodes one part ahead and then waits, so memory holds two parts, independent of the length of the video.
Messages of the child are validated, because a hostile file may have compromised it.
"""

import asyncio
import contextlib
import math
import mmap
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from serve.arrays import UInt8Array
from serve.errors import EngineUnavailable
from serve.video.channel import ProtocolError
from serve.video.decode_child import ChildExited, ChildLost
from serve.video.view_request import VideoInfo, WindowPart, WindowRequest, WindowStreamSummary
from serve.video.windows import Window
from serve.video.workers import DecodePool, shared_memory

JOB = "serve.video.window_job:stream_windows"
Parts = Generator[WindowPart, None, Any]  # returns the fields of `WindowStreamSummary`


@validated_dataclass(frozen=True, kw_only=True)
class _PartMessage:
    """The message of the child about one part, without the frames, which are in shared memory."""

    info: VideoInfo | None
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    windows: tuple[Window, ...]
    first_needed_frame: int


_PART_ADAPTER, _SUMMARY_ADAPTER = TypeAdapter(_PartMessage), TypeAdapter(WindowStreamSummary)


class WindowStream:
    """Asynchronous iterator over the parts of one video; `summary` is available after the last part."""

    def __init__(self, parts: Parts, pool: DecodePool, kill: Callable[[], None], thread: ThreadPoolExecutor) -> None:
        self._parts = parts
        self._pool = pool
        self._kill = kill
        self._thread = thread
        self._summary: WindowStreamSummary | None = None

    @property
    def summary(self) -> WindowStreamSummary:
        """Information about the video; available after all parts were received."""
        assert self._summary is not None, "iterate over all parts first"
        return self._summary

    async def __aiter__(self) -> AsyncIterator[WindowPart]:
        while (part := await self._next()) is not None:
            yield part

    async def _next(self) -> WindowPart | None:
        receiving = asyncio.get_running_loop().run_in_executor(self._thread, self._receive)
        try:
            return await asyncio.shield(receiving)
        except asyncio.CancelledError:
            self._kill()
            await asyncio.wait([receiving])
            receiving.exception()  # mark it as retrieved: the call fails because the child was killed
            raise

    def _receive(self) -> WindowPart | None:
        try:
            return next(self._parts)
        except StopIteration as stop:
            self._summary = _validate(_SUMMARY_ADAPTER, stop.value)
            return None
        except ChildLost as lost:
            if not self._pool.is_open:
                raise EngineUnavailable("the decoder was closed") from lost
            raise lost.reason from lost
        except ChildExited as error:
            raise EngineUnavailable("the decoder did not start") from error
        except ProtocolError as error:
            self._kill()
            raise EngineUnavailable("the decoder sent an invalid message") from error


@contextlib.asynccontextmanager
async def open_window_stream(pool: DecodePool, path: Path, request: WindowRequest) -> AsyncIterator[WindowStream]:
    """Start decoding a file in a dedicated child; the child is killed at the end of the block.

    Raises:
        Overloaded: there is not enough memory for the frames.
        EngineUnavailable: the pool is closed, or the child does not start.
    """
    with shared_memory(math.prod(request.shape)) as (descriptor, block):
        async with pool.dedicated_child() as child:
            with ThreadPoolExecutor(1, thread_name_prefix="windows") as thread:

                def parse(value: Any) -> WindowPart:
                    return _parse_part(value, block, request)

                parts = child.call_in_parts(JOB, path, {"request": request}, parse=parse, memory=descriptor)
                yield WindowStream(parts, pool, child.kill, thread)


def _parse_part(value: Any, block: mmap.mmap, request: WindowRequest) -> WindowPart:
    """Validate the child's message about a part and copy the frames from the shared memory.

    Raises:
        ProtocolError: the message is invalid.
    """
    message = _validate(_PART_ADAPTER, value)
    count = len(message.frame_indices)
    indices = np.asarray(message.frame_indices, np.int64)
    is_count_valid = 1 <= count <= request.frames_per_part and len(message.frame_seconds) == count
    if not is_count_valid or indices[0] < 0 or (np.diff(indices) <= 0).any():
        raise ProtocolError("a part has an invalid number of frames, or its frame indices do not ascend")
    if any(len(window.frame_indices) != request.sampling.num_segments for window in message.windows):
        raise ProtocolError(f"a window does not have {request.sampling.num_segments} frames")
    frames: UInt8Array = np.frombuffer(block, np.uint8).reshape(request.shape)[:count].copy()
    return WindowPart(
        info=message.info,
        frame_indices=message.frame_indices,
        frame_seconds=message.frame_seconds,
        frames=frames,
        windows=message.windows,
        first_needed_frame=message.first_needed_frame,
    )


def _validate(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ProtocolError("a message has invalid or missing fields") from error
