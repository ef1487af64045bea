"""What a request's headers ask for: which version it changes, how long it waits, who makes it, of what type."""

import re

from fastapi import Request

from serve.errors import InvalidOption, MissingPrecondition, StaleVersion
from serve.version_numbers import parse_version

ETAG = re.compile(r'"([0-9]{1,10})"')
WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,5}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])")
DEFAULT_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 10.0, 300.0
MAX_AUTHOR_CHARS = 200


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def required_version(request: Request) -> int | None:
    """The version `If-Match` names, None for `*` (whatever it is now).

    Raises:
        MissingPrecondition: there is no `If-Match`.
        StaleVersion: it names no version.
    """
    given = request.headers.get("if-match")
    if given is None:
        raise MissingPrecondition(
            "a change needs the header If-Match with the ETag of the version it changes (GET shows it)"
        )
    if given.strip() == "*":
        return None
    found = ETAG.fullmatch(given.strip())
    version = None if found is None else parse_version(found[1])
    if version is None:
        raise StaleVersion(f"If-Match: {given[:80]} names no version of this server; {_advice(given)}")
    return version


def _advice(given: str) -> str:
    """How `If-Match` has to be written, with the caller's own number where there is one."""
    number = re.search(r"(?<![0-9])[0-9]{1,10}(?![0-9])", given)
    version = None if number is None or "," in given else parse_version(number[0])
    if version is None:
        return "it takes one ETag as GET shows it, a version in double quotes, or *"
    return f"write If-Match: {etag(version)}"


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
