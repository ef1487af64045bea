"""Uploads: streamed to disk and counted while they arrive, multipart or raw.

A request's file lies in a folder of this server alone, under a random name; what the client called it is never used as
a path. The caller's block ends, the file is gone.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from starlette.requests import ClientDisconnect, Request
from streaming_form_data import ParseFailedException, StreamingFormDataParser
from streaming_form_data.parser import parse_content_boundary
from streaming_form_data.targets import BaseTarget, ValueTarget
from streaming_form_data.validators import MaxSizeValidator, ValidationError

from serve.errors import InvalidOption, UnsupportedMedia, UploadTooLarge
from serve.options import LIST_FIELDS, ClassifyOptions, parse_options_json
from serve.settings import LimitSettings

RAW_TYPES = ("video/", "image/gif", "application/octet-stream", "application/mp4", "application/x-matroska")
OPTION_FIELDS = tuple(ClassifyOptions.model_fields)


@dataclass
class Upload:
    """A file that has arrived whole, and what came beside it."""

    path: Path
    num_bytes: int
    upload_ms: float
    fields: dict[str, Any] = field(default_factory=dict)  # raw option values by name


class _CountedFile(BaseTarget):  # type: ignore[misc]  # the library has no type hints
    """Writes the part named `video` to disk; a second one is refused."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.num_bytes = 0
        self.num_parts = 0
        self._stream: IO[bytes] | None = None

    def on_start(self) -> None:
        self.num_parts += 1
        if self.num_parts > 1:
            raise InvalidOption("the form holds more than one part named `video`; send one video for each request")
        self._stream = self._path.open("wb")

    def on_data_received(self, chunk: bytes) -> None:
        assert self._stream is not None, "on_start() comes first"
        self._stream.write(chunk)
        self.num_bytes += len(chunk)

    def on_finish(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, whether or not the part came to its end."""
        if self._stream is not None:
            self._stream.close()


class _Values(ValueTarget):  # type: ignore[misc]
    """Collects a text field that may come several times; all of them share one budget of bytes."""

    def __init__(self, budget: MaxSizeValidator) -> None:
        super().__init__(validator=budget)
        self.values: list[bytes] = []
        self._chunks: list[bytes] = []

    def on_start(self) -> None:
        self._chunks = []

    def on_data_received(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def on_finish(self) -> None:
        self.values.append(b"".join(self._chunks))


class UploadFolder:
    """The folder for uploads under way; `new()` gives a path nobody else has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self) -> Path:
        """A fresh path in the folder."""
        return self.folder / secrets.token_hex(16)


@asynccontextmanager
async def received(request: Request, folder: UploadFolder, limits: LimitSettings) -> AsyncIterator[Upload]:
    """Receive the request's video; inside the block it lies at `upload.path`.

    Raises:
        UploadTooLarge: the limit was passed; the rest is not read.
        UnsupportedMedia: neither a multipart form nor a raw video body.
        InvalidOption: the form is broken, holds unknown fields or no part named `video`.
    """
    kind = request.headers.get("content-type", "").lower()
    path = folder.new()
    try:
        if kind.startswith("multipart/form-data"):
            upload = await _receive_form(request, path, limits)
        elif kind.startswith(RAW_TYPES):
            upload = await _receive_raw(request, path, limits)
        else:
            raise UnsupportedMedia(
                f"content type {kind or '(none)'}: "
                "send multipart/form-data with a part named `video`, or a raw video/* body",
                content_type=kind,
            )
        yield upload
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _receive_raw(request: Request, path: Path, limits: LimitSettings) -> Upload:
    started = time.perf_counter()
    _refuse_declared(request, limits.max_upload_bytes)
    count = 0
    with path.open("wb") as stream:
        async for chunk in _chunks(request):
            count += len(chunk)
            _refuse_beyond(count, limits.max_upload_bytes)
            await _written(stream.write, chunk)
    fields: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        fields[name] = values if name in LIST_FIELDS and len(values) > 1 else values[-1]
    return Upload(path, count, (time.perf_counter() - started) * 1000, fields)


async def received_body(request: Request, *, limit: int) -> bytes:
    """A body that fits into memory, counted while it arrives.

    Raises:
        UploadTooLarge: it passed `limit` bytes.
        InvalidOption: the client went away.
    """
    _refuse_declared(request, limit)
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        _refuse_beyond(len(body), limit)
    return bytes(body)


async def _receive_form(request: Request, path: Path, limits: LimitSettings) -> Upload:
    started = time.perf_counter()
    limit = limits.max_upload_bytes + limits.max_field_bytes
    _refuse_declared(request, limit)
    budget = MaxSizeValidator(limits.max_field_bytes)
    video = _CountedFile(path)
    values = {name: _Values(budget) for name in ("options", *OPTION_FIELDS)}
    try:
        parser = StreamingFormDataParser(dict(request.headers), strict=True)
        parser.register("video", video)
        for name, target in values.items():
            parser.register(name, target)
        ending = b"--" + parse_content_boundary(dict(request.headers)) + b"--"
        count, tail = 0, b""
        async for chunk in _chunks(request):
            count += len(chunk)
            _refuse_beyond(count, limit)
            await _written(parser.data_received, chunk)
            _refuse_beyond(video.num_bytes, limits.max_upload_bytes)
            tail = (tail + chunk)[-len(ending) - 256 :]
    except ValidationError as error:
        raise InvalidOption(f"the form's fields together pass {limits.max_field_bytes} bytes") from error
    except ParseFailedException as error:
        raise InvalidOption(_form_fault(error), allowed=["video", *values]) from error
    finally:
        video.close()
    if ending not in tail:
        raise InvalidOption("the form ends before its closing boundary: the upload was cut")
    if video.num_parts == 0:
        raise InvalidOption("the form holds no part named `video`")
    found = {name: target.values for name, target in values.items() if target.values}
    return Upload(path, video.num_bytes, (time.perf_counter() - started) * 1000, _form_fields(found))


def _form_fields(found: dict[str, list[bytes]]) -> dict[str, Any]:
    """Option values of a form; single fields go over the `options` document."""
    try:
        texts = {name: [value.decode() for value in values] for name, values in found.items()}
    except UnicodeDecodeError as error:
        raise InvalidOption(f"a field of the form is not UTF-8: {error}") from error
    fields = parse_options_json(texts.pop("options")[-1]) if "options" in texts else {}
    for name, values in texts.items():
        fields[name] = values if name in LIST_FIELDS and len(values) > 1 else values[-1]
    return fields


def _form_fault(error: ParseFailedException) -> str:
    name = getattr(error, "part_name", None)
    if name is not None:
        return f"the form holds a part named `{name}`, which means nothing here"
    return f"the multipart form cannot be read: {error}"


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise InvalidOption("the client went away before the upload ended") from error


async def _written(write: Any, chunk: bytes) -> None:
    """Small chunks are written at once; a disk that is slow with large ones does not stop the event loop."""
    if len(chunk) < 2**18:
        write(chunk)
    else:
        await asyncio.to_thread(write, chunk)


def _refuse_declared(request: Request, limit: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _refuse_beyond(int(declared), limit)


def _refuse_beyond(count: int, limit: int) -> None:
    if count > limit:
        raise UploadTooLarge(f"the upload is larger than the {limit} bytes allowed", limit_bytes=limit)
