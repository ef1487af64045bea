"""Stream the windows of a long video from a decode child of its own; the parent's side of `window_job.py`.

The child decodes ahead by one part and then waits, so memory holds two parts whatever the length of the video. Messages
of the child are checked, because a hostile file may have compromised it.
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
from pydantic.dataclasses import dataclass as checked_dataclass

from serve.arrays import UInt8Array
from serve.errors import EngineUnavailable
from serve.video.channel import ProtocolError
from serve.video.decode_child import ChildExited, ChildLost
from serve.video.view_request import VideoFacts, WindowPart, WindowRequest, WindowsEnd
from serve.video.windows import Window
from serve.video.workers import DecodePool, shared_memory

JOB = "serve.video.window_job:windows"
Parts = Generator[WindowPart, None, Any]


@checked_dataclass(frozen=True, kw_only=True)
class _Message:
    """A part as the child describes it."""

    facts: VideoFacts | None
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    windows: tuple[Window, ...]
    keep_from: int


_MESSAGE, _END = TypeAdapter(_Message), TypeAdapter(WindowsEnd)


class WindowStream:
    """The parts of one video, to be iterated once; `end` is known after the last."""

    def __init__(self, parts: Parts, pool: DecodePool, kill: Callable[[], None], thread: ThreadPoolExecutor) -> None:
        self._parts = parts
        self._pool = pool
        self._kill = kill
        self._thread = thread
        self._end: WindowsEnd | None = None

    @property
    def end(self) -> WindowsEnd:
        """What is known of the video after all parts."""
        assert self._end is not None, "the parts come first"
        return self._end

    async def __aiter__(self) -> AsyncIterator[WindowPart]:
        while (part := await self._next()) is not None:
            yield part

    async def _next(self) -> WindowPart | None:
        step = asyncio.get_running_loop().run_in_executor(self._thread, self._step)
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            self._kill()
            await asyncio.wait([step])
            step.exception()  # the loss of the child is expected
            raise

    def _step(self) -> WindowPart | None:
        try:
            return next(self._parts)
        except StopIteration as stop:
            self._end = _checked(_END, stop.value)
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
async def window_stream(pool: DecodePool, path: Path, request: WindowRequest) -> AsyncIterator[WindowStream]:
    """Start to decode a file; the child is killed when the block ends.

    Raises:
        Overloaded: there is no memory for the frames.
        EngineUnavailable: the pool is closed, or the child does not start.
    """
    with shared_memory(math.prod(request.shape)) as (descriptor, block):
        async with pool.own_child() as child:
            with ThreadPoolExecutor(1, thread_name_prefix="windows") as thread:
                arguments = {"path": path, "request": request}

                def taken(value: Any) -> WindowPart:
                    return _part(value, block, request)

                yield WindowStream(
                    child.parts(JOB, arguments, taken=taken, descriptors=[descriptor]), pool, child.kill, thread
                )


def _part(value: Any, block: mmap.mmap, request: WindowRequest) -> WindowPart:
    """Check a part of the child and copy its frames.

    Raises:
        ProtocolError: the message is invalid.
    """
    message = _checked(_MESSAGE, value)
    count = len(message.frame_indices)
    indices = np.asarray(message.frame_indices, np.int64)
    is_count_right = 1 <= count <= request.frames_at_once and len(message.frame_seconds) == count
    if not is_count_right or indices[0] < 0 or (np.diff(indices) <= 0).any():
        raise ProtocolError("the frames of a part are not ascending, or too many")
    if any(len(window.frame_indices) != request.sampling.num_segments for window in message.windows):
        raise ProtocolError("a window has another number of frames than a clip")
    frames: UInt8Array = np.frombuffer(block, np.uint8).reshape(request.shape)[:count].copy()
    return WindowPart(
        facts=message.facts,
        frame_indices=message.frame_indices,
        frame_seconds=message.frame_seconds,
        frames=frames,
        windows=message.windows,
        keep_from=message.keep_from,
    )


def _checked(kind: TypeAdapter[Any], value: Any) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise ProtocolError("a message has other fields than expected") from error
