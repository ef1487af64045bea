"""Bodies of inference requests: a JSON part, and binary data after it, which is read in the order of the body."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.requests import Request

from serve.admission.bodies import bodies_of
from serve.errors import InvalidOption, UnsupportedMedia, UploadTooLarge
from serve.inference_protocol.messages import InferRequest
from serve.json_models import read_model
from serve.telemetry import spans
from serve.upload_folder import UploadFolder, translate_disk_errors
from serve.uploads import body_chunks, check_content_length, write_chunk

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
MEDIA_TYPES = ("", "application/json", "application/octet-stream")
MAX_JSON_BYTES = 16 * 2**20
LARGE_JSON_BYTES = 2**20  # one larger JSON part is parsed at a time: its values take about 20 times its memory
MAX_INLINE_BYTES = 2**16  # a larger JSON part is parsed in a thread


class BodyReader:
    """Reads one body in order; the bytes that it returns count as memory of the request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._chunks = body_chunks(request)
        self._buffer = b""

    async def pieces(self, num_bytes: int, *, subject: str) -> AsyncIterator[bytes]:
        """Yield the next `num_bytes` bytes; `subject` names them in error messages.

        Raises:
            InvalidOption: the body ends before.
        """
        left = num_bytes
        while left:
            chunk = self._buffer or await anext(self._chunks, b"")
            if not chunk:
                raise InvalidOption(f"the body ends {left} bytes before the end of {subject}, which has {num_bytes}")
            piece, self._buffer = chunk[:left], chunk[left:]
            left -= len(piece)
            yield piece

    async def read(self, num_bytes: int, *, subject: str) -> bytes:
        """Return the next `num_bytes` bytes.

        Raises:
            InvalidOption: the body ends before.
            Overloaded: the memory for bodies is used up.
        """
        pieces = []
        async for piece in self.pieces(num_bytes, subject=subject):
            bodies_of(self._request).hold(self._request, len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    async def read_all(self, limit: int) -> bytes:
        """Return the rest of the body.

        Raises:
            UploadTooLarge: it has more than `limit` bytes.
            Overloaded: the memory for bodies is used up.
        """
        chunks, num_bytes = [], 0
        async for chunk in self._chunks:
            num_bytes += len(chunk)
            if num_bytes > limit:
                raise _too_large(limit)
            bodies_of(self._request).hold(self._request, len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)

    async def finish(self) -> None:
        """Check that the body has ended.

        Raises:
            InvalidOption: it has further bytes.
        """
        if self._buffer or await anext(self._chunks, b""):
            raise InvalidOption("the body has bytes after the binary data of its inputs")


async def read_request(request: Request, reader: BodyReader, *, parsing: asyncio.Semaphore) -> InferRequest:
    """Read the JSON part of a body; `parsing` admits one large one at a time.

    Without the header `Inference-Header-Content-Length`, the JSON part is the whole body.

    Raises:
        UnsupportedMedia: the body has another media type.
        UploadTooLarge: the JSON part is too large.
        InvalidOption: the header, or the JSON part, is not valid.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise UnsupportedMedia(
            f"the body must be application/json or application/octet-stream, got {media_type[:80]!r}"
        )
    declared = request.headers.get(JSON_LENGTH_HEADER)
    if declared is None:
        check_content_length(request, MAX_JSON_BYTES)
        document = await reader.read_all(MAX_JSON_BYTES)
    else:
        document = await reader.read(_parse_length(request, declared), subject="the JSON part")
    if len(document) <= MAX_INLINE_BYTES:
        return read_model(InferRequest, document)
    if len(document) <= LARGE_JSON_BYTES:
        return await asyncio.to_thread(read_model, InferRequest, document)
    async with parsing:
        return await asyncio.to_thread(read_model, InferRequest, document)


@asynccontextmanager
async def receive_file(
    request: Request, reader: BodyReader, folder: UploadFolder, num_bytes: int, *, subject: str
) -> AsyncIterator[Path]:
    """Receive the next `num_bytes` bytes of a body as a file, which is deleted at the end of the block.

    Raises:
        InvalidOption: the body ends before.
        FolderUnavailable: the file cannot be written.
    """
    with translate_disk_errors("uploads"):
        path = folder.new()
        stream = path.open("wb", buffering=0)
    try:
        with bodies_of(request).upload(request), spans.span("upload"), stream:
            async for piece in reader.pieces(num_bytes, subject=subject):
                await write_chunk(partial(_write, stream), piece, num_bytes=len(piece))
        await reader.finish()
        yield path
    finally:
        stream.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)


@asynccontextmanager
async def store_file(request: Request, folder: UploadFolder, data: bytes) -> AsyncIterator[Path]:
    """Write data of the JSON part to a file, which is deleted at the end of the block.

    Raises:
        FolderUnavailable: the file cannot be written.
    """
    with translate_disk_errors("uploads"):
        path = folder.new()
    try:
        with bodies_of(request).upload(request), translate_disk_errors("uploads"):
            await asyncio.to_thread(path.write_bytes, data)
        yield path
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


def _write(stream: io.FileIO, piece: bytes) -> None:
    rest = memoryview(piece)
    with translate_disk_errors("uploads"):
        while rest:
            rest = rest[stream.write(rest) :]


def _parse_length(request: Request, text: str) -> int:
    total = request.headers.get("content-length", "")
    if not text.isascii() or not text.isdecimal() or len(text) > 12 or int(text) == 0:
        raise InvalidOption(f"{JSON_LENGTH_HEADER} must be the size of the JSON part in bytes, got {text[:40]!r}")
    length = int(text)
    if length > MAX_JSON_BYTES:
        raise _too_large(MAX_JSON_BYTES)
    if total.isdecimal() and length > int(total):
        raise InvalidOption(f"{JSON_LENGTH_HEADER} is {length}, but the body has only {total[:20]} bytes")
    return length


def _too_large(limit: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"the JSON part of the body is larger than the {limit} bytes allowed; send tensors as binary data",
        limit_bytes=limit,
    )
