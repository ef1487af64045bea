"""Incremental parser of multipart forms (RFC 2046, RFC 7578); the input may be split into chunks at any byte.

Preamble, epilogue, white space after a boundary, folded headers and a part without a blank line follow the RFCs; part
headers are parsed leniently, as clients write them. Nested multipart bodies and encoded parts are rejected.

No library parses all bodies of `tests/serve/form_bodies.py`: streaming-form-data 2.1 loses the last field before an
extra line end, python-multipart 0.0.34 supports neither a preamble nor folded headers, multipart 2.0 no white space
after a boundary, and werkzeug 3.1.9 adds bytes to the data if a chunk ends inside a boundary.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import collapse_rfc2231_value, decode_params
from enum import Enum, auto

from serve.errors import InvalidOption, UnsupportedMedia
from serve.unicode_text import describe_text_fault

MAX_BOUNDARY_CHARS = 200  # RFC 2046 allows 70; some clients write more
MAX_PREAMBLE_BYTES, MAX_HEADER_BYTES, MAX_PADDING_BYTES = 2**16, 2**14, 256
IDENTITY_ENCODINGS = ("", "7bit", "8bit", "binary")
CHARSETS = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1",
    "latin1": "latin-1", "windows-1252": "cp1252",
}  # fmt: skip

# The rest of a boundary line: padding and line end.
_LINE_START = re.compile(rb"[ \t]{0,%d}\r\n" % MAX_PADDING_BYTES)
_PARTIAL_LINE = re.compile(rb"-|[ \t]{0,%d}\r?" % MAX_PADDING_BYTES)  # a prefix of `--`, or of that rest
_FOLD = re.compile(r"\r\n[ \t]+")
_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"(?=[ \t]*(?:;|$))|([^;]*))')
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass(frozen=True, kw_only=True)
class Part:
    """The headers of one part."""

    name: str
    filename: str | None
    charset: str | None  # as the part names it; only text has one, a file may claim any (`charset=binary`)
    num_header_bytes: int


class PartEnd(Enum):
    """Event at the end of each part."""

    END = auto()


class State(Enum):
    """The section of the form that the next byte belongs to."""

    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    EPILOGUE = auto()


Event = Part | bytes | PartEnd


class FormParser:
    """Parses one form from chunks."""

    def __init__(self, content_type: str) -> None:
        """Start to parse a form with the `Content-Type` of the request.

        Raises:
            InvalidOption: the header has no valid boundary.
        """
        self._delimiter = b"\r\n--" + parse_boundary(content_type)  # its only carriage return is the first byte
        self._state = State.PREAMBLE
        self._buffer = b"\r\n"  # a virtual line end, so that the first boundary also follows a line end
        self._searched = 0  # bytes of `_buffer` already searched for the end of the headers
        self._num_preamble_bytes = 0
        self._blank_line_bytes = 0  # bytes of the blank line after the headers still to be removed from the data

    @property
    def num_buffered_bytes(self) -> int:
        """Number of bytes buffered until more arrive."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Parse a chunk and yield events: for each part a `Part`, its data as `bytes`, then `PartEnd.END`.

        Raises:
            InvalidOption, UnsupportedMedia: the form cannot be parsed.
        """
        if self._state is State.EPILOGUE:
            return  # bytes after the closing boundary are ignored
        self._buffer = self._buffer + chunk if self._buffer else chunk
        has_progress = True
        while has_progress:
            if self._state is State.HEADERS:
                part = self._take_headers()
                has_progress = part is not None
                if part is not None:
                    yield part
            else:
                is_preamble = self._state is State.PREAMBLE
                data, has_progress = self._take_data()
                if is_preamble:
                    self._count_preamble(len(data))
                else:
                    if piece := self._strip_blank_line(data):
                        yield piece
                    if has_progress:
                        yield PartEnd.END
            has_progress = has_progress and not self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether the closing boundary has arrived."""
        return self._state is State.EPILOGUE

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            InvalidOption: it ended before its closing boundary.
        """
        if self._state is State.PREAMBLE:
            raise self._no_boundary_error("the form contains")
        if not self.is_complete:
            raise InvalidOption("the form ends before its closing boundary: the upload is incomplete")

    def _take_data(self) -> tuple[bytes, bool]:
        """Return the data before the next boundary and True; without a boundary, all data that cannot belong to one."""
        buffer, delimiter = self._buffer, self._delimiter
        start = buffer.find(delimiter)
        while start >= 0:
            after = start + len(delimiter)
            if buffer.startswith(b"--", after):
                self._state, self._buffer = State.EPILOGUE, b""
                return buffer[:start], True
            line = _LINE_START.match(buffer, after)
            if line is not None:
                self._state, self._buffer, self._searched = State.HEADERS, buffer[line.end() :], 0
                return buffer[:start], True
            if _PARTIAL_LINE.fullmatch(buffer, after):
                self._buffer = buffer[start:]
                return buffer[:start], False
            start = buffer.find(delimiter, after)  # a line that only starts like the boundary is data
        start = buffer.rfind(b"\r", max(0, len(buffer) - len(delimiter) + 1))
        if start < 0 or not delimiter.startswith(buffer[start:]):
            start = len(buffer)
        self._buffer = buffer[start:]
        return buffer[:start], False

    def _take_headers(self) -> Part | None:
        """Return the part whose headers end at a blank line, or at a boundary; None until all of them have arrived."""
        buffer = self._buffer
        if buffer.startswith((b"\r\n", self._delimiter[2:])):
            raise _missing_name_error()
        end = buffer.find(b"\r\n\r\n", self._searched)
        boundary = buffer.find(self._delimiter, self._searched, len(buffer) if end < 0 else end)
        has_blank_line = boundary < 0
        end = end if has_blank_line else boundary
        if (len(buffer) if end < 0 else end) > MAX_HEADER_BYTES:
            raise InvalidOption(f"the headers of a part have more than the {MAX_HEADER_BYTES} bytes allowed")
        if end < 0:
            self._searched = max(0, len(buffer) - len(self._delimiter) + 1)
            return None
        self._state = State.DATA
        self._blank_line_bytes = 2 if has_blank_line else 0
        self._buffer = buffer[end + self._blank_line_bytes :]  # keeps the blank line, which may be part of a boundary
        return _parse_part(buffer[:end])

    def _strip_blank_line(self, data: bytes) -> bytes:
        """Return the data of a part without the blank line after its headers."""
        if not data:
            return data
        start, self._blank_line_bytes = self._blank_line_bytes, 0
        return data[start:] if start else data

    def _count_preamble(self, num_bytes: int) -> None:
        self._num_preamble_bytes += num_bytes
        if self._num_preamble_bytes > MAX_PREAMBLE_BYTES:
            raise self._no_boundary_error(f"the first {MAX_PREAMBLE_BYTES} bytes of the form contain")

    def _no_boundary_error(self, start: str) -> InvalidOption:
        return InvalidOption(
            f"{start} no line {self._delimiter[2:].decode()!r}: Content-Type must name the boundary of the body, and "
            "lines must end with CR LF"
        )


def parse_boundary(content_type: str) -> bytes:
    """Return the boundary of a `Content-Type`.

    Raises:
        InvalidOption: there is none, or it is invalid.
    """
    boundary = _parse_parameters(content_type).get("boundary", "")
    if not boundary:
        raise InvalidOption(
            "the multipart form cannot be read: Content-Type has no boundary; let the HTTP library set the header"
        )
    if len(boundary) > MAX_BOUNDARY_CHARS or not boundary.isascii() or not boundary.isprintable():
        raise InvalidOption(
            f"the multipart form cannot be read: the boundary must be at most {MAX_BOUNDARY_CHARS} printable ASCII "
            f"characters, got {boundary[:80]!r}"
        )
    return boundary.encode()


def resolve_charset(charset: str, *, subject: str) -> str:
    """Return the Python codec name of a charset; `subject` names the text in the error message.

    Raises:
        UnsupportedMedia: the charset is not supported.
    """
    codec = CHARSETS.get(charset.strip().lower())
    if codec is None:
        raise UnsupportedMedia(
            f"{subject} is in the charset {charset[:40]!r}; send UTF-8 (also supported: {_OTHER_CHARSETS})"
        )
    return codec


_OTHER_CHARSETS = "us-ascii, iso-8859-1, windows-1252"


def _parse_part(block: bytes) -> Part:
    """Parse the header lines of a part."""
    lines = _FOLD.sub(" ", block.decode("latin-1")).split("\r\n")
    if any("\n" in line or "\r" in line for line in lines):
        raise InvalidOption("the header lines of a part must end with CR LF, found a single CR or LF")
    pairs = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(reversed(pairs))  # the first header of a name is used
    parameters = _parse_parameters(headers.get("content-disposition", ""))
    name = _redecode_utf8(parameters.get("name", ""))
    if name == "":
        raise _missing_name_error()
    if name is None or describe_text_fault(name) is not None:
        raise InvalidOption("a part of the form has a name that is not valid UTF-8 text")
    _check_encoding(name, headers)
    return Part(
        name=name,
        filename=_decode_filename(parameters.get("filename")),
        charset=_parse_parameters(headers.get("content-type", "")).get("charset") or None,
        num_header_bytes=len(block),
    )


def _missing_name_error() -> InvalidOption:
    return InvalidOption('a part of the form has no name; add the header Content-Disposition: form-data; name="NAME"')


def _check_encoding(name: str, headers: dict[str, str]) -> None:
    for header, allowed in (("Content-Transfer-Encoding", IDENTITY_ENCODINGS), ("Content-Encoding", ("", "identity"))):
        coding = headers.get(header.lower(), "").lower()
        if coding not in allowed:
            raise UnsupportedMedia(
                f"the part `{name[:80]}` has {header}: {coding[:40]}; send it without an encoding "
                "(RFC 7578, section 4.7)"
            )
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise UnsupportedMedia(
            f"the part `{name[:80]}` is a nested multipart body; send each file as a separate part of the form "
            "(RFC 7578, section 4.3)"
        )


def _parse_parameters(header: str) -> dict[str, str]:
    """Return the parameters of a header by lower-case name; `name*` and `name*0` (RFC 2231) override `name`.

    Values may be unquoted (`boundary=----=_Part_1`). In a quoted value a backslash is literal unless a quote or another
    backslash follows it, so that Windows paths are preserved. The first parameter of a name is used.
    """
    parameters: dict[str, str] = {}
    extended: dict[str, str] = {}
    for match in _PARAMETER.finditer(header):
        name, quoted, plain = match.groups()
        value = plain.strip() if quoted is None else _ESCAPED.sub(r"\1", quoted)
        (extended if "*" in name else parameters).setdefault(name.lower(), value)
    if extended:
        parameters |= _decode_extended(extended)
    return parameters


def _decode_extended(extended: Mapping[str, str]) -> dict[str, str]:
    """Decode the parameters of RFC 2231; return nothing if one of them cannot be decoded.

    Their charset may be any codec of Python, also one that is not for text (`idna`, `undefined`) and raises.
    """
    try:
        parameters = decode_params([("", ""), *extended.items()])[1:]
        return {name: collapse_rfc2231_value(pieces).strip('"') for name, pieces in parameters}
    except ValueError:  # includes the errors of codecs, and a number of too many digits
        return {}


def _redecode_utf8(text: str) -> str | None:
    """Decode text as UTF-8 whose bytes were decoded as Latin-1; return None if they are not UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeEncodeError:
        return text  # was already decoded with the charset of RFC 2231
    except UnicodeDecodeError:
        return None


def _decode_filename(raw: str | None) -> str | None:
    """Return a file name for display: UTF-8 if valid, else Latin-1 (older clients); `%22` is a quote (browsers)."""
    if raw is None:
        return None
    text = _redecode_utf8(raw)
    filename = (raw if text is None else text).replace("%22", '"')
    return filename.encode("utf-8", "replace").decode()  # RFC 2231 can encode surrogates
