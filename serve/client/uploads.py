"""The body of an upload as a stream that reports its progress; files are read outside the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx

from serve.client.calls import Progress


class UploadStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is sent in chunks, so that memory does not depend on the size of a video."""

    def __init__(self, chunks: httpx.SyncByteStream, total: int | None, progress: Progress | None) -> None:
        self._chunks, self._total, self._progress = chunks, total, progress

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for chunk in self._chunks:
            yield chunk
            sent += len(chunk)
            if self._progress is not None:
                self._progress(sent, self._total)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


def stream_upload(request: httpx.Request, progress: Progress | None) -> None:
    """Replace the body of a request, built from files, with an `UploadStream`."""
    length = request.headers.get("Content-Length")
    assert isinstance(request.stream, httpx.SyncByteStream), "a body of files can be read synchronously"
    request.stream = UploadStream(request.stream, None if length is None else int(length), progress)
