"""Strict JSON parsing, used for all external JSON (bodies, options, page tokens, stored documents).

RFC 8259 leaves duplicate names, huge numbers, deep nesting and unpaired surrogates to the implementation. This module
rejects them: numbers must be finite and bounded, nesting is bounded, names must be unique, and strings must be Unicode
that can be encoded as UTF-8 and stored in every database.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

from serve.unicode_text import describe_text_fault

MAX_DEPTH = 64  # nested arrays and objects
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1
MAX_NUMBER_CHARS = 1100  # the smallest double has 1,077, written exactly and without exponent


class InvalidJson(ValueError):
    """Text that is not JSON, or JSON outside the bounds of this module."""


def loads(source: str | bytes) -> Any:
    """Parse a JSON text; bytes must be UTF-8, and a byte-order mark is skipped.

    Raises:
        InvalidJson: the text is not JSON, or exceeds a bound; the message names both.
    """
    text = decode_text(source)
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise InvalidJson(_TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise InvalidJson(str(error)) from error
    if "\\u" in text or text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth_and_text(value)
    return value


def decode_text(source: str | bytes) -> str:
    """Decode the text of a JSON document and remove its byte-order mark.

    Raises:
        InvalidJson: the bytes are not UTF-8, or the text is not valid Unicode.
    """
    if isinstance(source, bytes):
        try:
            return source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidJson(f"the text is not valid UTF-8 at byte {error.start}") from error
    text = source.removeprefix("\ufeff")
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidJson(f"the text contains {fault}")
    return text


def _integer(literal: str) -> int:
    if len(literal) <= len(str(SMALLEST_INTEGER)):
        value = int(literal)
        if SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            return value
    raise InvalidJson(f"integers must be from {SMALLEST_INTEGER} to {LARGEST_INTEGER}, got {_excerpt(literal)}")


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER_CHARS:
        raise InvalidJson(
            f"numbers must have at most {MAX_NUMBER_CHARS} characters, got {len(literal)}: {_excerpt(literal)}"
        )
    value = float(literal)
    if not math.isfinite(value):
        raise InvalidJson(f"the number {_excerpt(literal)} is too large for a double")
    return value


def _constant(literal: str) -> float:
    raise InvalidJson(f"{literal} is not valid JSON; numbers must be finite")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidJson(f"the name {_excerpt(name)!r} occurs twice in one object")
            seen.add(name)
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
_TOO_DEEP = f"arrays and objects are nested deeper than the {MAX_DEPTH} levels allowed"


def _check_depth_and_text(value: Any) -> None:
    """Check the nesting depth, and that UTF-8 and databases can represent every string."""
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
        depth += _has_container(level)
        if depth > MAX_DEPTH:
            raise InvalidJson(_TOO_DEEP)
        level = inner


def _has_container(values: Iterable[Any]) -> bool:
    return any(isinstance(value, (dict, list)) for value in values)


def _check_text(text: str) -> None:
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidJson(f"a string contains {fault}")


def _excerpt(text: str) -> str:
    """Return the start of a text for a message, with surrogates escaped."""
    start = text[:40] + ("..." if len(text) > 40 else "")
    return start.encode("utf-8", "backslashreplace").decode()
