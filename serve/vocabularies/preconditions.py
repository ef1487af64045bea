"""Check that a change is based on the newest version (optimistic locking). Only this module raises `StaleVersion`.

The entity tag of a version is its number in double quotes. A change is checked before any work is done, so that stale
changes are cheap, and again inside the transaction that commits it.
"""

import re

from serve.errors import StaleVersion, UnknownVocabulary
from serve.version_numbers import parse_version

ETAG = re.compile(r'"([0-9]{1,10})"')


def format_etag(version: int) -> str:
    """Return the entity tag of a version.

    >>> format_etag(3)
    '"3"'
    """
    return f'"{version}"'


def parse_if_match(if_match: str, name: str, *, latest: int) -> int:
    """Return the version given by an `If-Match` header; `*` stands for the newest version.

    `latest` is the newest version of the vocabulary, 0 if it does not exist.

    Raises:
        StaleVersion: the header is not an entity tag of this server.
        UnknownVocabulary: the header is `*` and the vocabulary does not exist.
    """
    if if_match.strip() == "*":
        if not latest:
            raise UnknownVocabulary(f"there is no vocabulary {name!r}")
        return latest
    match = ETAG.fullmatch(if_match.strip())
    version = None if match is None else parse_version(match[1])
    if version is None:
        raise StaleVersion(f"If-Match: {if_match[:80]} is not an ETag of this server; {_suggest_if_match(if_match)}")
    return version


def require_version(name: str, *, latest: int | None, expected: int | None) -> None:
    """Check that the newest version of a vocabulary is the expected one; None stands for "does not exist".

    Raises:
        StaleVersion: the newest version differs, or the vocabulary already exists.
        UnknownVocabulary: the vocabulary does not exist.
    """
    if expected is None and latest is not None:
        raise already_exists_error(name, latest=latest)
    if expected is None:
        return
    if latest is None:
        raise UnknownVocabulary(f"there is no vocabulary {name!r}")
    if latest != expected:
        raise StaleVersion(f"vocabulary {name!r} is at version {latest} now, not {expected}", name=name, latest=latest)


def already_exists_error(name: str, **extra: int) -> StaleVersion:
    """Return the error for creating a vocabulary whose name exists; `extra` members are added to the problem."""
    return StaleVersion(f"vocabulary {name!r} exists already", name=name, **extra)


def _suggest_if_match(header: str) -> str:
    """Suggest a valid header, with the number in the given one if there is exactly one ETag in it."""
    number = re.search(r"(?<![0-9])[0-9]{1,10}(?![0-9])", header)
    version = None if number is None or "," in header else parse_version(number[0])
    if version is None:
        return "use one ETag as returned by GET, i.e. a version in double quotes, or *"
    return f"write If-Match: {format_etag(version)}"
