"""Preconditions of changes: which version a change is based on. The only module that raises `StaleVersion` (412).

A version is named by its entity tag, the number in double quotes. A change is checked before its work begins, so that
a stale one costs nothing, and again inside the transaction that commits it.
"""

import re

from serve.errors import StaleVersion, UnknownVocabulary
from serve.version_numbers import parse_version

ETAG = re.compile(r'"([0-9]{1,10})"')


def etag(version: int) -> str:
    """Return the entity tag of a version.

    >>> etag(3)
    '"3"'
    """
    return f'"{version}"'


def matched_version(if_match: str, name: str, *, latest: int) -> int:
    """Return the version that `If-Match` names; `*` is the newest one, `latest` (0 if the name does not exist).

    Raises:
        StaleVersion: the header names no version.
        UnknownVocabulary: it is `*` and the name does not exist.
    """
    if if_match.strip() == "*":
        if not latest:
            raise UnknownVocabulary(f"there is no vocabulary {name!r}")
        return latest
    found = ETAG.fullmatch(if_match.strip())
    version = None if found is None else parse_version(found[1])
    if version is None:
        raise StaleVersion(f"If-Match: {if_match[:80]} names no version of this server; {_advice(if_match)}")
    return version


def require_version(name: str, *, latest: int | None, expected: int | None) -> None:
    """Check that the newest version is the expected one; None stands for a name that does not exist.

    Raises:
        StaleVersion: the newest version is another one, or the name exists already.
        UnknownVocabulary: the name does not exist.
    """
    if expected is None and latest is not None:
        raise already_exists(name, latest=latest)
    if expected is None:
        return
    if latest is None:
        raise UnknownVocabulary(f"there is no vocabulary {name!r}")
    if latest != expected:
        raise StaleVersion(f"vocabulary {name!r} is at version {latest} now, not {expected}", name=name, latest=latest)


def already_exists(name: str, **facts: int) -> StaleVersion:
    """Return the error for a new vocabulary whose name exists; `facts` holds the newest version where it is known."""
    return StaleVersion(f"vocabulary {name!r} exists already", name=name, **facts)


def _advice(given: str) -> str:
    """Describe how to write `If-Match`, with the number in the header if there is one."""
    number = re.search(r"(?<![0-9])[0-9]{1,10}(?![0-9])", given)
    version = None if number is None or "," in given else parse_version(number[0])
    if version is None:
        return "it takes one ETag as GET shows it, a version in double quotes, or *"
    return f"write If-Match: {etag(version)}"
