"""Multipart forms (RFC 2046, RFC 7578) as a stream of parts: bytes in, part headers and data out, in any split.

Preamble, epilogue, white space after a boundary and folded headers are read as the RFCs say, part headers as clients
write them. What is not read is refused: nested multipart, transfer encodings, text in an unknown charset.

This is code of our own because no library reads the table of `tests/serve/form_bodies.py`: streaming-form-data 2.1
loses the last field before a second line end, python-multipart 0.0.34 knows neither a preamble nor folded headers,
multipart 2.0 no white space after a boundary, and werkzeug 3.1.9 adds bytes to data where a chunk ends in a boundary.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import collapse_rfc2231_value, decode_params
from enum import Enum, auto

from serve.errors import InvalidOption, UnsupportedMedia
from serve.unicode_text import text_fault

MAX_BOUNDARY_CHARS = 200  # RFC 2046 allows 70; some clients write more
MAX_PREAMBLE_BYTES, MAX_HEADER_BYTES, MAX_PADDING_BYTES = 2**16, 2**14, 256
IDENTITY_ENCODINGS = ("", "7bit", "8bit", "binary")
CHARSETS = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1",
    "latin1": "latin-1", "windows-1252": "cp1252",
}  # fmt: skip

_LINE_START = re.compile(rb"[ \t]*\r\n")  # what makes a boundary a line: padding and the end of the line
_PARTIAL_LINE = re.compile(rb"-|[ \t]*\r?")
_FOLD = re.compile(r"\r\n[ \t]+")
_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"(?=[ \t]*(?:;|$))|([^;]*))')
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass(frozen=True, kw_only=True)
class Part:
    """The headers of one part."""

    name: str
    filename: str | None
    charset: str | None  # Python's name of it; None where the part does not say
    num_header_bytes: int


class PartEnd(Enum):
    """The current part is complete."""

    END = auto()


class State(Enum):
    """What the next byte belongs to."""

    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    EPILOGUE = auto()


Event = Part | bytes | PartEnd


class FormReader:
    """Reads one form; chunks go in as they arrive."""

    def __init__(self, content_type: str) -> None:
        """`content_type`: the header of the request.

        Raises:
            InvalidOption: the header names no usable boundary.
        """
        self._delimiter = b"\r\n--" + boundary_of(content_type)  # holds one carriage return, its first byte
        self._state = State.PREAMBLE
        self._held = b"\r\n"  # as if a line ended before the form, so that every boundary follows the end of a line
        self._searched = 0  # bytes of `_held` in which headers do not end
        self._num_preamble_bytes = 0
        self._blank_line_bytes = 0  # of a part whose data has not begun

    @property
    def num_held_bytes(self) -> int:
        """Bytes kept until more arrive."""
        return len(self._held)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield what a chunk completes: a `Part`, then its data in pieces, then `PartEnd.END`.

        Raises:
            InvalidOption, UnsupportedMedia: the form cannot be read; states why.
        """
        if self._state is State.EPILOGUE:
            return  # bytes after the closing boundary are ignored
        self._held = self._held + chunk if self._held else chunk
        is_moving = True
        while is_moving:
            if self._state is State.HEADERS:
                part = self._take_headers()
                is_moving = part is not None
                if part is not None:
                    yield part
            else:
                is_preamble = self._state is State.PREAMBLE
                data, is_moving = self._take_data()
                if is_preamble:
                    self._count_preamble(len(data))
                else:
                    if piece := self._without_blank_line(data):
                        yield piece
                    if is_moving:
                        yield PartEnd.END
            is_moving = is_moving and not self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether the closing boundary has arrived."""
        return self._state is State.EPILOGUE

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            InvalidOption: it ends before its closing boundary.
        """
        if self._state is State.PREAMBLE:
            raise self._without_boundary("the form holds")
        if not self.is_complete:
            raise InvalidOption("the form ends before its closing boundary: the upload was cut")

    def _take_data(self) -> tuple[bytes, bool]:
        """Return data up to a boundary, or all that cannot be part of one, and whether there was a boundary."""
        held, delimiter = self._held, self._delimiter
        start = held.find(delimiter)
        while start >= 0:
            after = start + len(delimiter)
            if held.startswith(b"--", after):
                self._state, self._held = State.EPILOGUE, b""
                return held[:start], True
            line = _LINE_START.match(held, after)
            if line is not None:
                self._state, self._held, self._searched = State.HEADERS, held[line.end() :], 0
                return held[:start], True
            if len(held) - after <= MAX_PADDING_BYTES and _PARTIAL_LINE.fullmatch(held, after):
                self._held = held[start:]
                return held[:start], False
            start = held.find(delimiter, after)  # another line that starts like the boundary: data
        start = held.rfind(b"\r", max(0, len(held) - len(delimiter) + 1))
        if start < 0 or not delimiter.startswith(held[start:]):
            start = len(held)
        self._held = held[start:]
        return held[:start], False

    def _take_headers(self) -> Part | None:
        held = self._held
        if held.startswith(b"\r\n"):
            raise _unnamed()
        end = held.find(b"\r\n\r\n", self._searched)
        if (len(held) if end < 0 else end) > MAX_HEADER_BYTES:
            raise InvalidOption(f"the headers of a part have more than the {MAX_HEADER_BYTES} bytes allowed")
        if end < 0:
            self._searched = max(0, len(held) - 3)
            return None
        self._state, self._held = State.DATA, held[end + 2 :]  # from the blank line on, which may begin a boundary
        self._blank_line_bytes = 2
        return _part(held[:end])

    def _without_blank_line(self, data: bytes) -> bytes:
        """Return data of a part without the blank line after its headers."""
        if not data:
            return data
        start, self._blank_line_bytes = self._blank_line_bytes, 0
        return data[start:] if start else data

    def _count_preamble(self, num_bytes: int) -> None:
        self._num_preamble_bytes += num_bytes
        if self._num_preamble_bytes > MAX_PREAMBLE_BYTES:
            raise self._without_boundary(f"the first {MAX_PREAMBLE_BYTES} bytes of the form hold")

    def _without_boundary(self, start: str) -> InvalidOption:
        return InvalidOption(
            f"{start} no line {self._delimiter[2:].decode()!r}: the boundary that Content-Type names has to be the one "
            "the body is written with, and lines end with CR LF"
        )


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a `Content-Type`.

    Raises:
        InvalidOption: there is none, or it is invalid.
    """
    boundary = _parameters(content_type).get("boundary", "")
    if not boundary:
        raise InvalidOption(
            "the multipart form cannot be read: Content-Type names no boundary; HTTP libraries add one when the header "
            "is left to them"
        )
    if len(boundary) > MAX_BOUNDARY_CHARS or not boundary.isascii() or not boundary.isprintable():
        raise InvalidOption(
            f"the multipart form cannot be read: the boundary {boundary[:80]!r} is not at most {MAX_BOUNDARY_CHARS} "
            "printable ASCII characters"
        )
    return boundary.encode()


def known_charset(given: str, *, of: str) -> str:
    """Return Python's name of a charset.

    Raises:
        UnsupportedMedia: the charset is not supported.
    """
    found = CHARSETS.get(given.strip().lower())
    if found is None:
        raise UnsupportedMedia(f"{of} is in the charset {given[:40]!r}; send UTF-8 (also supported: {_OTHER_CHARSETS})")
    return found


_OTHER_CHARSETS = "us-ascii, iso-8859-1, windows-1252"


def _part(block: bytes) -> Part:
    """Return the part of a block of header lines."""
    lines = _FOLD.sub(" ", block.decode("latin-1")).split("\r\n")
    pairs = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(reversed(pairs))  # the first of a name counts
    parameters = _parameters(headers.get("content-disposition", ""))
    name = _utf8(parameters.get("name", ""))
    if name == "":
        raise _unnamed()
    if name is None or text_fault(name) is not None:
        raise InvalidOption("a part of the form has a name that is not UTF-8 text")
    _refuse_coding(name, headers)
    charset = _parameters(headers.get("content-type", "")).get("charset")
    return Part(
        name=name,
        filename=_filename(parameters.get("filename")),
        charset=None if charset is None else known_charset(charset, of=f"the part `{name[:80]}`"),
        num_header_bytes=len(block),
    )


def _unnamed() -> InvalidOption:
    return InvalidOption('a part of the form has no name; its header is: Content-Disposition: form-data; name="NAME"')


def _refuse_coding(name: str, headers: dict[str, str]) -> None:
    coding = headers.get("content-transfer-encoding", "").lower()
    if coding not in IDENTITY_ENCODINGS:
        raise UnsupportedMedia(
            f"the part `{name[:80]}` has Content-Transfer-Encoding: {coding[:40]}; HTTP carries bytes as they are, so "
            "send it without one (RFC 7578, section 4.7)"
        )
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise UnsupportedMedia(
            f"the part `{name[:80]}` is a multipart body of its own; send each file as a part of the form "
            "(RFC 7578, section 4.3)"
        )


def _parameters(header: str) -> dict[str, str]:
    """Return the parameters of a header by name in lower case; `name*` and `name*0` (RFC 2231) override `name`.

    Quotes may be missing (`boundary=----=_Part_1`), and inside them a backslash stands for itself unless a quote or
    another backslash follows it, as in paths of Windows.
    """
    found: dict[str, str] = {}
    extended: list[tuple[str, str]] = [("", "")]
    for match in _PARAMETER.finditer(header):
        name, quoted, plain = match.groups()
        value = plain.strip() if quoted is None else _ESCAPED.sub(r"\1", quoted)
        if "*" in name:
            extended.append((name.lower(), value))
        else:
            found.setdefault(name.lower(), value)
    if len(extended) > 1:
        for name, pieces in decode_params(extended)[1:]:
            found[name] = collapse_rfc2231_value(pieces).strip('"')
    return found


def _utf8(text: str) -> str | None:
    """Return text whose UTF-8 bytes were decoded as Latin-1; None if they are not UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeEncodeError:
        return text  # RFC 2231 names its charset and was decoded by it
    except UnicodeDecodeError:
        return None


def _filename(given: str | None) -> str | None:
    """Return a file name for display: UTF-8, else the Latin-1 of older clients; browsers write a quote as `%22`."""
    if given is None:
        return None
    text = _utf8(given)
    shown = (given if text is None else text).replace("%22", '"')
    return shown.encode("utf-8", "replace").decode()  # RFC 2231 can spell out surrogates
