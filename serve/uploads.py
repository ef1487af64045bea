"""Uploads: streamed to disk and counted while they arrive, multipart or raw.

A request's file lies in a folder of this server alone, under a random name; what the client called it is never used as
a path. The caller's block ends, the file is gone.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
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
from serve.settings import LimitSettings

RAW_TYPES = ("video/", "image/gif", "application/octet-stream", "application/mp4", "application/x-matroska")


@dataclass(kw_only=True)
class ReceivedFile:
    """A file of a form that lies in the upload folder."""

    path: Path
    filename: str  # as the client says; never used as a path
    num_bytes: int = 0


@dataclass(kw_only=True)
class Upload:
    """What has arrived whole: files, and the fields beside them."""

    files: list[ReceivedFile]
    upload_ms: float
    fields: dict[str, list[str]] = field(default_factory=dict)  # raw values by name

    @property
    def path(self) -> Path:
        """Where the only file lies."""
        return self.files[0].path


class _Files(BaseTarget):  # type: ignore[misc]  # the library has no type hints
    """Writes the parts of one name to disk, each to a file of its own, up to a number of them."""

    def __init__(self, folder: "UploadFolder", *, part: str, max_files: int) -> None:
        super().__init__()
        self._folder = folder
        self._part = part
        self._max_files = max_files
        self.files: list[ReceivedFile] = []
        self._stream: IO[bytes] | None = None

    @property
    def num_bytes(self) -> int:
        """Of all files so far."""
        return sum(file.num_bytes for file in self.files)

    def on_start(self) -> None:
        if len(self.files) == self._max_files:
            raise InvalidOption(
                f"the form holds more than {self._max_files} part{'s' * (self._max_files > 1)} named `{self._part}`",
                limit=self._max_files,
            )
        self.files.append(ReceivedFile(path=self._folder.new(), filename=self.multipart_filename or ""))
        self._stream = self.files[-1].path.open("wb")

    def on_data_received(self, chunk: bytes) -> None:
        assert self._stream is not None, "on_start() comes first"
        self._stream.write(chunk)
        self.files[-1].num_bytes += len(chunk)

    def on_finish(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, whether or not the part came to its end."""
        if self._stream is not None:
            self._stream.close()

    def unlink(self) -> None:
        """Delete every file."""
        self.close()
        for file in self.files:
            file.path.unlink(missing_ok=True)


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
async def received(
    request: Request,
    folder: UploadFolder,
    limits: LimitSettings,
    *,
    fields: Sequence[str] = (),
    part: str = "video",
    max_files: int = 1,
) -> AsyncIterator[Upload]:
    """Receive the request's files, parts of a form named `part` or one raw video body; they live as long as the block.

    `fields` may stand beside them in the form, and be query parameters of a raw body.

    Raises:
        UploadTooLarge: the limit was passed; the rest is not read.
        UnsupportedMedia: neither a multipart form nor a raw video body.
        InvalidOption: the form is broken, holds other parts, too many or no files.
    """
    kind = request.headers.get("content-type", "").lower()
    files = _Files(folder, part=part, max_files=max_files)
    started = time.perf_counter()
    try:
        if kind.startswith("multipart/form-data"):
            found = await _receive_form(request, files, limits, part=part, fields=fields)
        elif kind.startswith(RAW_TYPES):
            found = await _receive_raw(request, files, limits)
        else:
            raise UnsupportedMedia(
                f"content type {kind or '(none)'}: "
                f"send multipart/form-data with a part named `{part}`, or a raw video/* body",
                content_type=kind,
            )
        yield Upload(files=files.files, upload_ms=(time.perf_counter() - started) * 1000, fields=found)
    finally:
        await asyncio.to_thread(files.unlink)


async def _receive_raw(request: Request, files: _Files, limits: LimitSettings) -> dict[str, list[str]]:
    _refuse_declared(request, limits.max_upload_bytes)
    files.on_start()
    async for chunk in _chunks(request):
        _refuse_beyond(files.num_bytes + len(chunk), limits.max_upload_bytes)
        await _written(files.on_data_received, chunk)
    files.close()
    return {name: request.query_params.getlist(name) for name in request.query_params}


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


async def _receive_form(
    request: Request, files: _Files, limits: LimitSettings, *, part: str, fields: Sequence[str]
) -> dict[str, list[str]]:
    limit = limits.max_upload_bytes + limits.max_field_bytes
    _refuse_declared(request, limit)
    budget = MaxSizeValidator(limits.max_field_bytes)
    values = {name: _Values(budget) for name in fields}
    try:
        parser = StreamingFormDataParser(dict(request.headers), strict=True)
        parser.register(part, files)
        for name, target in values.items():
            parser.register(name, target)
        ending = b"--" + parse_content_boundary(dict(request.headers)) + b"--"
        count, tail = 0, b""
        async for chunk in _chunks(request):
            count += len(chunk)
            _refuse_beyond(count, limit)
            await _written(parser.data_received, chunk)
            _refuse_beyond(files.num_bytes, limits.max_upload_bytes)
            tail = (tail + chunk)[-len(ending) - 256 :]
    except ValidationError as error:
        raise InvalidOption(f"the form's fields together pass {limits.max_field_bytes} bytes") from error
    except ParseFailedException as error:
        raise InvalidOption(_form_fault(error), allowed=[part, *values]) from error
    finally:
        files.close()
    if ending not in tail:
        raise InvalidOption("the form ends before its closing boundary: the upload was cut")
    if not files.files:
        raise InvalidOption(f"the form holds no part named `{part}`")
    try:
        return {name: [value.decode() for value in target.values] for name, target in values.items() if target.values}
    except UnicodeDecodeError as error:
        raise InvalidOption(f"a field of the form is not UTF-8: {error}") from error


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
