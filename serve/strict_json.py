"""Strict JSON: the only reader of external JSON (bodies, options, page tokens, stored documents).

RFC 8259 leaves duplicate names, huge numbers, deep nesting and unpaired surrogates to the reader. All of them are
refused here: numbers are finite and bounded, nesting is bounded, names are unique, and text is Unicode that
can be written as UTF-8 and stored by every database.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

from serve.unicode_text import text_fault

MAX_DEPTH = 64  # arrays and objects inside each other
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1
MAX_NUMBER_CHARS = 1100  # the smallest double, written out exactly and without an exponent, has 1,077


class InvalidJson(ValueError):
    """Text that is not JSON, or JSON outside the bounds of this module."""


def loads(source: str | bytes) -> Any:
    """Parse a JSON text; bytes have to be UTF-8, a byte-order mark is skipped.

    Raises:
        InvalidJson: names what was found and what is allowed.
    """
    text = decoded(source)
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise InvalidJson(_TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise InvalidJson(str(error)) from error
    if "\\u" in text or text.count("[") + text.count("{") > MAX_DEPTH:
        _check(value)
    return value


def decoded(source: str | bytes) -> str:
    """Return the text of a JSON document without its byte-order mark.

    Raises:
        InvalidJson: the bytes are not UTF-8, or the text is not valid Unicode.
    """
    if isinstance(source, bytes):
        try:
            return source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidJson(f"the text is not UTF-8: byte {error.start} cannot be read") from error
    text = source.removeprefix("\ufeff")
    fault = text_fault(text)
    if fault is not None:
        raise InvalidJson(f"the text holds {fault}")
    return text


def _integer(literal: str) -> int:
    if len(literal) <= len(str(SMALLEST_INTEGER)):
        value = int(literal)
        if SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            return value
    raise InvalidJson(f"the number {_shown(literal)} is outside {SMALLEST_INTEGER} to {LARGEST_INTEGER}")


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER_CHARS:
        raise InvalidJson(
            f"the number {_shown(literal)} has {len(literal)} characters, at most {MAX_NUMBER_CHARS} are allowed"
        )
    value = float(literal)
    if not math.isfinite(value):
        raise InvalidJson(f"the number {_shown(literal)} is larger than a double can hold")
    return value


def _constant(literal: str) -> float:
    raise InvalidJson(f"{literal} is not JSON; numbers are finite")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidJson(f"the name {_shown(name)!r} occurs twice in one object")
            seen.add(name)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
_TOO_DEEP = f"arrays and objects are nested more than {MAX_DEPTH} deep"


def _check(value: Any) -> None:
    """Refuse deep nesting and text that UTF-8 or a database cannot hold."""
    level: list[Any] = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        depth += _holds_container(level)
        if depth > MAX_DEPTH:
            raise InvalidJson(_TOO_DEEP)
        level = inner


def _holds_container(values: Iterable[Any]) -> bool:
    return any(isinstance(value, (dict, list)) for value in values)


def _check_text(text: str) -> None:
    fault = text_fault(text)
    if fault is not None:
        raise InvalidJson(f"a text holds {fault}")


def _shown(text: str) -> str:
    """Return the start of a text for a message, safe to encode."""
    start = text[:40] + ("..." if len(text) > 40 else "")
    return start.encode("utf-8", "backslashreplace").decode()
