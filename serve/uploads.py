"""Uploads: multipart forms or raw bodies, streamed to disk with limits that are checked while data arrives.

Files are written to the upload folder under random names; the client's file name is never used as a path. They are
deleted at the end of the caller's `async with` block.
"""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from serve.admission.bodies import bodies_of
from serve.errors import InvalidOption, UnsupportedMedia, UploadTooLarge
from serve.multipart import Event, FormParser, Part, PartEnd, resolve_charset
from serve.query import read_query
from serve.settings import LimitSettings
from serve.telemetry import spans
from serve.unicode_text import describe_text_fault, shown_filename
from serve.upload_folder import UploadFolder, translate_disk_errors

Data = TypeVar("Data")
CHARSET_FIELD = "_charset_"  # RFC 7578, section 4.6
RAW_TYPES = ("video/", "image/", "application/octet-stream", "application/mp4", "application/x-matroska")


@dataclass(kw_only=True)
class ReceivedFile:
    """A received file in the upload folder."""

    path: Path
    filename: str  # from the client; never used as a path
    num_bytes: int = 0


@dataclass(kw_only=True)
class Upload:
    """A completely received request: its files, form fields and query options."""

    files: list[ReceivedFile]
    upload_ms: float
    fields: dict[str, list[str]] = field(default_factory=dict)  # values of the form fields by name
    query: dict[str, list[str]] = field(default_factory=dict)  # values of the query options by name

    @property
    def path(self) -> Path:
        """Path of the only file."""
        return self.files[0].path

    @property
    def filename(self) -> str | None:
        """Return the client's name of the only file, to be shown; None if it has none."""
        return shown_filename(self.files[0].filename) or None


class _FileParts:
    """Writes parts with the name `part` to disk, each to a separate file, at most `max_files`."""

    def __init__(self, folder: UploadFolder, *, part: str, max_files: int) -> None:
        self.part = part
        self._folder = folder
        self._max_files = max_files
        self.files: list[ReceivedFile] = []
        self._stream: io.FileIO | None = None

    @property
    def num_bytes(self) -> int:
        """Size of all files so far."""
        return sum(file.num_bytes for file in self.files)

    def start(self, part: Part | None) -> None:
        """Start a file for a part of a form, or for a raw body (None).

        Raises:
            InvalidOption: there are too many files.
        """
        if len(self.files) == self._max_files:
            raise InvalidOption(
                f"the form has more than {self._max_files} part{'s' * (self._max_files > 1)} named `{self.part}`",
                limit=self._max_files,
            )
        filename = "" if part is None else part.filename or ""
        with translate_disk_errors("uploads"):
            self.files.append(ReceivedFile(path=self._folder.new(), filename=filename))
            self._stream = self.files[-1].path.open("wb", buffering=0)

    def write(self, chunk: bytes) -> None:
        """Append to the current file."""
        assert self._stream is not None, "start() must be called first"
        with translate_disk_errors("uploads"):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._stream.write(rest) :]
        self.files[-1].num_bytes += len(chunk)

    def finish(self) -> None:
        """Close the current file, if any."""
        if self._stream is not None:
            self._stream.close()

    def unlink(self) -> None:
        """Delete all files."""
        self.finish()
        for file in self.files:
            file.path.unlink(missing_ok=True)


class _FieldParts:
    """Collects the text fields of a form; `max_bytes` limits their total size including headers."""

    def __init__(self, names: Sequence[str], *, max_bytes: int) -> None:
        self.names = tuple(names)
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._values: list[tuple[Part, bytearray]] = []

    def start(self, part: Part) -> None:
        """Start a value.

        Raises:
            InvalidOption: the fields exceed the limit.
        """
        self._values.append((part, bytearray()))
        self._count(part.num_header_bytes)

    def write(self, chunk: bytes) -> None:
        """Append to the current value.

        Raises:
            InvalidOption: the fields exceed the limit.
        """
        self._values[-1][1].extend(chunk)
        self._count(len(chunk))

    def finish(self) -> None:
        """Finish the current value; nothing to do."""

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            raise InvalidOption(
                f"the fields of the form are larger than the {self._max_bytes} bytes allowed",
                limit_bytes=self._max_bytes,
            )

    def decode(self) -> dict[str, list[str]]:
        """Decode the values; return them by name, in order.

        Raises:
            InvalidOption: a value is not text in its charset.
            UnsupportedMedia: a part, or `_charset_`, names an unsupported charset.
        """
        texts: dict[str, list[str]] = {}
        for part, value in self._values:
            charset = resolve_charset(part.charset or "utf-8", subject=f"the part `{part.name}`")
            texts.setdefault(part.name, []).append(decode_field(bytes(value), charset, part.name))
        charsets = texts.pop(CHARSET_FIELD, ["utf-8"])
        if len(charsets) > 1 or resolve_charset(charsets[0], subject="the form") != "utf-8":
            raise UnsupportedMedia(f"the form's `{CHARSET_FIELD}` must be utf-8, got {charsets[0][:40]!r}")
        return texts


@asynccontextmanager
async def receive_upload(
    request: Request,
    folder: UploadFolder,
    limits: LimitSettings,
    *,
    fields: Sequence[str] = (),
    part: str = "video",
    max_files: int = 1,
) -> AsyncIterator[Upload]:
    """Receive the files of a request: form parts named `part`, or one raw video body.

    The files are deleted at the end of the block. `fields` are the option names that form and query may contain.

    Raises:
        UploadTooLarge: the upload exceeds the limit; the rest is not read.
        UnsupportedMedia: the body is neither a multipart form nor a raw video, or has a content encoding.
        InvalidOption: the form is malformed, or has other parts, too many files or none.
        Overloaded: there are too many uploads in progress.
        SlowBody: the upload is too slow.
        ClientDisconnected: the client closed the connection.
    """
    content_type = request.headers.get("content-type", "").lower()
    files = _FileParts(folder, part=part, max_files=max_files)
    query = read_query(request, fields)
    started = time.perf_counter()
    try:
        with bodies_of(request).upload(request), spans.span("upload"):
            if content_type.startswith("multipart/form-data"):
                values = await _receive_form(request, files, limits, fields=fields)
            elif content_type.startswith(RAW_TYPES):
                values = {}
                await _receive_raw(request, files, limits)
            else:
                raise UnsupportedMedia(
                    f"the content type {content_type or '(none)'} is not supported; "
                    f"send multipart/form-data with a part named `{part}`, or a raw video/* or image/* body",
                    content_type=content_type,
                )
        upload_ms = (time.perf_counter() - started) * 1000
        yield Upload(files=files.files, upload_ms=upload_ms, fields=values, query=query)
    finally:
        await asyncio.to_thread(files.unlink)


async def _receive_raw(request: Request, files: _FileParts, limits: LimitSettings) -> None:
    check_content_length(request, limits.max_upload_bytes)
    files.start(None)
    async for chunk in body_chunks(request):
        _check_size(files.num_bytes + len(chunk), limits.max_upload_bytes)
        await write_chunk(files.write, chunk, num_bytes=len(chunk))
    files.finish()


async def receive_body(request: Request, *, limit: int) -> bytes:
    """Receive and return the body; its size is checked while it arrives.

    Its memory counts until the end of the request.

    Raises:
        UploadTooLarge: the body has more than `limit` bytes.
        Overloaded: the memory for bodies is used up.
        SlowBody: the body arrives too slowly.
        ClientDisconnected: the client closed the connection.
    """
    check_content_length(request, limit)
    bodies = bodies_of(request)
    chunks, num_bytes = [], 0
    async for chunk in body_chunks(request):
        num_bytes += len(chunk)
        _check_size(num_bytes, limit)
        bodies.hold(request, len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


async def _receive_form(
    request: Request, files: _FileParts, limits: LimitSettings, *, fields: Sequence[str]
) -> dict[str, list[str]]:
    limit = limits.max_upload_bytes + limits.max_field_bytes
    check_content_length(request, limit)
    reader = FormParser(request.headers["content-type"])
    form = _FormWriter(files, _FieldParts(fields, max_bytes=limits.max_field_bytes))
    num_bytes = 0
    try:
        async for chunk in body_chunks(request):
            num_bytes += len(chunk)
            _check_size(num_bytes, limit)
            await write_chunk(form.write_events, list(reader.feed(chunk)), num_bytes=len(chunk))
            _check_size(files.num_bytes, limits.max_upload_bytes)
        reader.finish()
    finally:
        files.finish()
    if not files.files:
        raise InvalidOption(f"the form has no part named `{files.part}`")
    return form.fields.decode()


class _FormWriter:
    """Writes the parts of a form to `files` or `fields`, by their names."""

    def __init__(self, files: _FileParts, fields: _FieldParts) -> None:
        self.files, self.fields = files, fields
        self._target: _FileParts | _FieldParts = fields

    def write_events(self, events: Iterable[Event]) -> None:
        """Write the data of parser events.

        Raises:
            InvalidOption: the name of a part is unknown, or too many parts have the same name.
        """
        for event in events:
            if isinstance(event, Part):
                self._target = self._target_of(event)
                self._target.start(event)
            elif isinstance(event, PartEnd):
                self._target.finish()
            else:
                self._target.write(event)

    def _target_of(self, part: Part) -> _FileParts | _FieldParts:
        if part.name == self.files.part:
            return self.files
        if part.name in self.fields.names or part.name == CHARSET_FIELD:
            return self.fields
        raise InvalidOption(
            f"unknown form field `{part.name[:80]}`; allowed: {', '.join([self.files.part, *self.fields.names])}",
            allowed=[self.files.part, *self.fields.names],
        )


def decode_field(value: bytes, charset: str, name: str) -> str:
    """Decode the value of the form field `name`.

    Raises:
        InvalidOption: it is not valid text in this charset.
    """
    try:
        text = value.decode(charset)
    except UnicodeDecodeError as error:
        raise InvalidOption(
            f"the form field `{name}` is not valid UTF-8: {error}"
            if charset == "utf-8"
            else f"the form field `{name}` is not valid {charset}, the charset of its header: {error}"
        ) from error
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidOption(f"the form field `{name}` contains {fault}")
    return text


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the chunks of a body without a content encoding.

    Raises:
        UnsupportedMedia: the body has a content encoding.
        SlowBody, ServerStopping, ClientDisconnected: see `BodyAdmission.chunks`.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMedia(
            f"Content-Encoding {coding[:40]} is not supported; send the body without a content encoding"
        )
    async for chunk in bodies_of(request).chunks(request):
        yield chunk


async def write_chunk(write: Callable[[Data], None], data: Data, *, num_bytes: int) -> None:
    """Write a small chunk directly and a large one in a thread, so that a slow disk does not block the event loop."""
    if num_bytes < 2**18:
        write(data)
    else:
        await asyncio.to_thread(write, data)


def check_content_length(request: Request, limit: int) -> None:
    """Check the declared size of a body.

    Raises:
        UploadTooLarge: it exceeds `limit` bytes.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _check_size(int(declared), limit)


def _check_size(num_bytes: int, limit: int) -> None:
    if num_bytes > limit:
        raise UploadTooLarge(f"the upload is larger than the {limit} bytes allowed", limit_bytes=limit)
