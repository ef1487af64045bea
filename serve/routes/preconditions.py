"""What a request's headers ask for: which version it changes, how long it waits, who makes it, of what type."""

import re

from fastapi import Request

from serve.errors import InvalidOption, MissingPrecondition

WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,5}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])")
DEFAULT_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 10.0, 300.0
MAX_AUTHOR_CHARS = 200


def required_match(request: Request) -> str:
    """The header `If-Match`.

    Raises:
        MissingPrecondition: there is none.
    """
    given = request.headers.get("if-match")
    if given is None:
        raise MissingPrecondition(
            "a change needs the header If-Match with the ETag of the version it changes (GET shows it)"
        )
    return given


def asks_to_create(request: Request) -> bool:
    """Whether `If-None-Match: *` says that the thing must be new."""
    return request.headers.get("if-none-match", "").strip() == "*"


def wait_seconds(request: Request) -> float:
    """How long the caller waits for a change to be in use: `Prefer: wait=SECONDS`."""
    found = WAIT.search(request.headers.get("prefer", ""))
    return min(float(found[1]), LONGEST_WAIT_SECONDS) if found else DEFAULT_WAIT_SECONDS


def author_of(request: Request) -> str:
    """Who changes something, as the caller says in `X-Author`.

    Raises:
        InvalidOption: longer than a name is.
    """
    author = _utf8(request.headers.get("x-author", "")).strip()
    if len(author) > MAX_AUTHOR_CHARS:
        raise InvalidOption(f"X-Author has {len(author)} characters, at most {MAX_AUTHOR_CHARS} are allowed")
    return author


def _utf8(header: str) -> str:
    """A header's text, which arrives as Latin-1, as the UTF-8 that most clients send; as it is where it is none."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def media_type_of(request: Request) -> str:
    """`Content-Type` without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
