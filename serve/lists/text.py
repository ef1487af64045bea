"""Decode annotation files: UTF-8, or UTF-16 and UTF-32 with a byte-order mark.

Other encodings are not guessed, because 8-bit encodings accept any bytes. Files in other encodings are rejected, with
the first byte that is not UTF-8 in the message.
"""

import codecs
from dataclasses import dataclass
from pathlib import Path

from serve.lists.errors import AnnotationError

BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16, whose little-endian mark is a prefix of UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ENCODING_NAMES = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with a byte-order mark", "utf-16": "UTF-16", "utf-32": "UTF-32"}


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A decoded text file."""

    name: str  # for messages, with the encoding if it is not UTF-8
    text: str
    encoding: str  # for messages

    def lines(self) -> list[tuple[int, str]]:
        """Return (line number from 1, line) for each non-empty line."""
        parts = self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return [(number, line) for number, line in enumerate(parts, start=1) if line.strip()]

    def position(self, line: int) -> str:
        """Return the position of a line, for messages."""
        return f"{self.name}, line {line}"


def read_text(path: Path, *, raw_paths: bool = False) -> TextFile:
    """Read and decode an annotation file.

    With `raw_paths` bytes that are not UTF-8 become surrogates, as in file names in `os`. The caller must reject them
    with `check_decoded`, unless they are part of the path of an existing file.

    Raises:
        AnnotationError: the file cannot be read, or is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_text(data, str(path.name), raw_paths=raw_paths)


def decode_text(data: bytes, name: str, *, raw_paths: bool = False) -> TextFile:
    r"""Decode the bytes of an annotation file; `name` is used in messages.

    >>> decode_text("a.mp4 1".encode("utf-16"), "list.txt").name
    'list.txt (UTF-16)'

    Raises:
        AnnotationError: the bytes are not text in one of the supported encodings.
    """
    encoding = next((encoding for mark, encoding in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    shown = name if encoding in ("utf-8", "utf-8-sig") else f"{name} ({ENCODING_NAMES[encoding]})"
    errors = "surrogateescape" if raw_paths and encoding in ("utf-8", "utf-8-sig") else "strict"
    try:
        text = data.decode(encoding, errors=errors)
    except UnicodeDecodeError as error:
        raise AnnotationError(_describe_decode_error(data, name, encoding, error.start)) from error
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise AnnotationError(
            f"{name}, line {line}: the file contains NUL characters; it is UTF-16 without a byte-order mark, or not "
            "text; save it as UTF-8"
        )
    return TextFile(name=shown, text=text, encoding=ENCODING_NAMES[encoding])


def check_decoded(text: str, position: str) -> None:
    r"""Check that a text decoded with `raw_paths` contains no undecodable bytes.

    >>> check_decoded("caf\udce9", "list.txt, line 2")
    Traceback (most recent call last):
    serve.lists.errors.AnnotationError: list.txt, line 2: the byte 0xE9 is not UTF-8; save the file as UTF-8

    Raises:
        AnnotationError: the text contains bytes that are not UTF-8; the message states the first one.
    """
    for character in text:
        if "\udc80" <= character <= "\udcff":
            raise AnnotationError(
                f"{position}: the byte 0x{ord(character) - 0xDC00:02X} is not UTF-8; save the file as UTF-8"
            )


def _describe_decode_error(data: bytes, name: str, encoding: str, start: int) -> str:
    if encoding not in ("utf-8", "utf-8-sig"):
        return (
            f"{name}: the byte-order mark says {ENCODING_NAMES[encoding]}, but byte {start} is not valid in it; save "
            "the file as UTF-8"
        )
    line = data[:start].count(b"\n") + 1
    return (
        f"{name}, line {line}: the byte 0x{data[start]:02X} is not UTF-8; "
        "save the file as UTF-8 (e.g. iconv -f WINDOWS-1252 -t UTF-8)"
    )
