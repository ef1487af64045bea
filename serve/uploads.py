"""Uploads: streamed to disk and counted while they arrive, multipart or raw.

Files are written to a folder of this server under random names; the client's file name is never used as a path. They
are deleted when the caller's block ends.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

from starlette.requests import ClientDisconnect, Request

from serve.errors import ClientDisconnected, InvalidOption, UnsupportedMedia, UploadTooLarge
from serve.multipart import Event, FormReader, Part, PartEnd, known_charset
from serve.query import query_options
from serve.settings import LimitSettings
from serve.unicode_text import shown_filename, text_fault

Taken = TypeVar("Taken")
CHARSET_FIELD = "_charset_"  # RFC 7578, section 4.6
RAW_TYPES = ("video/", "image/gif", "application/octet-stream", "application/mp4", "application/x-matroska")


@dataclass(kw_only=True)
class ReceivedFile:
    """A received file in the upload folder."""

    path: Path
    filename: str  # from the client; never used as a path
    num_bytes: int = 0


@dataclass(kw_only=True)
class Upload:
    """A completely received request: files, and the fields beside them."""

    files: list[ReceivedFile]
    upload_ms: float
    fields: dict[str, list[str]] = field(default_factory=dict)  # raw values of the form by name
    query: dict[str, list[str]] = field(default_factory=dict)  # raw values of the query by name

    @property
    def path(self) -> Path:
        """Return the path of the only file."""
        return self.files[0].path

    @property
    def filename(self) -> str | None:
        """Return the client's name of the only file, to be shown; None if it has none."""
        return shown_filename(self.files[0].filename) or None


class _Files:
    """Writes the parts of one name to disk, each to its own file, up to a maximum number."""

    def __init__(self, folder: "UploadFolder", *, part: str, max_files: int) -> None:
        self.part = part
        self._folder = folder
        self._max_files = max_files
        self.files: list[ReceivedFile] = []
        self._stream: IO[bytes] | None = None

    @property
    def num_bytes(self) -> int:
        """Return the size of all files so far."""
        return sum(file.num_bytes for file in self.files)

    def start(self, part: Part | None) -> None:
        """Start a file: a part of a form, or the whole body (None).

        Raises:
            InvalidOption: there are too many files.
        """
        if len(self.files) == self._max_files:
            raise InvalidOption(
                f"the form holds more than {self._max_files} part{'s' * (self._max_files > 1)} named `{self.part}`",
                limit=self._max_files,
            )
        filename = "" if part is None else part.filename or ""
        self.files.append(ReceivedFile(path=self._folder.new(), filename=filename))
        self._stream = self.files[-1].path.open("wb")

    def write(self, chunk: bytes) -> None:
        """Append to the current file."""
        assert self._stream is not None, "start() comes first"
        self._stream.write(chunk)
        self.files[-1].num_bytes += len(chunk)

    def finish(self) -> None:
        """Close the current file."""
        if self._stream is not None:
            self._stream.close()

    def unlink(self) -> None:
        """Delete every file."""
        self.finish()
        for file in self.files:
            file.path.unlink(missing_ok=True)


class _Fields:
    """Collects the text fields of a form; one limit of bytes applies to all of them, headers included."""

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
        """Finish the current value."""

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            raise InvalidOption(
                f"the fields of the form are larger than the {self._max_bytes} bytes allowed",
                limit_bytes=self._max_bytes,
            )

    def texts(self) -> dict[str, list[str]]:
        """Return values by name, in order.

        Raises:
            InvalidOption: a value is not text in its charset.
            UnsupportedMedia: `_charset_` names an unsupported charset.
        """
        found: dict[str, list[str]] = {}
        for part, value in self._values:
            found.setdefault(part.name, []).append(decoded_text(bytes(value), part.charset or "utf-8", part.name))
        usual = found.pop(CHARSET_FIELD, ["utf-8"])
        if len(usual) > 1 or known_charset(usual[0], of="the form") != "utf-8":
            raise UnsupportedMedia(f"the form's `{CHARSET_FIELD}` is {usual[0][:40]!r}; write its fields in UTF-8")
        return found


class UploadFolder:
    """The folder of current uploads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self) -> Path:
        """Return an unused path in the folder."""
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
    """Receive the request's files: parts of a form named `part`, or one raw video body. They exist inside the block.

    `fields` are the names of options that the form and the query may have.

    Raises:
        UploadTooLarge: the upload exceeds the limit; the rest is not read.
        UnsupportedMedia: the body is neither a multipart form nor a raw video, or has a content encoding.
        InvalidOption: the form is malformed, or has other parts, too many files or none.
        ClientDisconnected: the client closed the connection.
    """
    kind = request.headers.get("content-type", "").lower()
    files = _Files(folder, part=part, max_files=max_files)
    query = query_options(request, fields)
    started = time.perf_counter()
    try:
        if kind.startswith("multipart/form-data"):
            found = await _receive_form(request, files, limits, fields=fields)
        elif kind.startswith(RAW_TYPES):
            found = {}
            await _receive_raw(request, files, limits)
        else:
            raise UnsupportedMedia(
                f"content type {kind or '(none)'}: "
                f"send multipart/form-data with a part named `{part}`, or a raw video/* body",
                content_type=kind,
            )
        upload_ms = (time.perf_counter() - started) * 1000
        yield Upload(files=files.files, upload_ms=upload_ms, fields=found, query=query)
    finally:
        await asyncio.to_thread(files.unlink)


async def _receive_raw(request: Request, files: _Files, limits: LimitSettings) -> None:
    _refuse_declared(request, limits.max_upload_bytes)
    files.start(None)
    async for chunk in _chunks(request):
        _refuse_beyond(files.num_bytes + len(chunk), limits.max_upload_bytes)
        await _written(files.write, chunk, num_bytes=len(chunk))
    files.finish()


async def received_body(request: Request, *, limit: int) -> bytes:
    """Return the body, which is counted while it arrives.

    Raises:
        UploadTooLarge: it has more than `limit` bytes.
        ClientDisconnected: the client closed the connection.
    """
    _refuse_declared(request, limit)
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        _refuse_beyond(len(body), limit)
    return bytes(body)


async def _receive_form(
    request: Request, files: _Files, limits: LimitSettings, *, fields: Sequence[str]
) -> dict[str, list[str]]:
    limit = limits.max_upload_bytes + limits.max_field_bytes
    _refuse_declared(request, limit)
    reader = FormReader(request.headers["content-type"])
    form = _Form(files, _Fields(fields, max_bytes=limits.max_field_bytes))
    count = 0
    try:
        async for chunk in _chunks(request):
            count += len(chunk)
            _refuse_beyond(count, limit)
            await _written(form.take, list(reader.feed(chunk)), num_bytes=len(chunk))
            _refuse_beyond(files.num_bytes, limits.max_upload_bytes)
        reader.finish()
    finally:
        files.finish()
    if not files.files:
        raise InvalidOption(f"the form holds no part named `{files.part}`")
    return form.fields.texts()


class _Form:
    """Passes each part of a form to the files or to the fields."""

    def __init__(self, files: _Files, fields: _Fields) -> None:
        self.files, self.fields = files, fields
        self._target: _Files | _Fields = fields

    def take(self, events: Iterable[Event]) -> None:
        """Write the events of a chunk.

        Raises:
            InvalidOption: a part is unknown, or there are too many of its name.
        """
        for event in events:
            if isinstance(event, Part):
                self._target = self._target_of(event)
                self._target.start(event)
            elif isinstance(event, PartEnd):
                self._target.finish()
            else:
                self._target.write(event)

    def _target_of(self, part: Part) -> _Files | _Fields:
        if part.name == self.files.part:
            return self.files
        if part.name in self.fields.names or part.name == CHARSET_FIELD:
            return self.fields
        raise InvalidOption(
            f"the form holds a part named `{part.name[:80]}`, which is not allowed here",
            allowed=[self.files.part, *self.fields.names],
        )


def decoded_text(value: bytes, charset: str, name: str) -> str:
    """Decode a field.

    Raises:
        InvalidOption: it is not text in this charset.
    """
    try:
        text = value.decode(charset)
    except UnicodeDecodeError as error:
        raise InvalidOption(
            f"the field `{name}` of the form is not UTF-8: {error}"
            if charset == "utf-8"
            else f"the field `{name}` of the form is not {charset}, as its header says: {error}"
        ) from error
    fault = text_fault(text)
    if fault is not None:
        raise InvalidOption(f"the field `{name}` of the form holds {fault}")
    return text


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMedia(f"the body has Content-Encoding: {coding[:40]}; send the body without one")
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise ClientDisconnected("the client disconnected before the upload was complete") from error


async def _written(write: Callable[[Taken], None], taken: Taken, *, num_bytes: int) -> None:
    """Write a chunk: small ones directly, large ones in a thread, so that a slow disk does not block the event loop."""
    if num_bytes < 2**18:
        write(taken)
    else:
        await asyncio.to_thread(write, taken)


def _refuse_declared(request: Request, limit: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _refuse_beyond(int(declared), limit)


def _refuse_beyond(count: int, limit: int) -> None:
    if count > limit:
        raise UploadTooLarge(f"the upload is larger than the {limit} bytes allowed", limit_bytes=limit)
