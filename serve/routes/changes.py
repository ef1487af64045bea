"""What all changes of vocabularies share: the version they follow, and how they are answered."""

import re
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import JSONResponse

from serve.errors import InvalidOption
from serve.routes import preconditions
from serve.service import Service
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.gateway import GatewayVocabularies
from serve.vocabularies.preconditions import etag, matched_version
from serve.vocabularies.vocabulary import Vocabulary

NAME = re.compile(r"[a-z0-9._-]{1,64}")
Name = Annotated[str, Path(description="`[a-z0-9._-]`, 1 to 64 characters.")]


def vocabularies_of(request: Request) -> GatewayVocabularies:
    """The vocabularies of the server.

    Raises:
        EngineUnavailable: it is starting.
    """
    service: Service = request.app.state.service
    return service.vocabularies


def check_name(name: str) -> None:
    """Refuse a name no vocabulary may have.

    Raises:
        InvalidOption: says which may.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidOption(f"the name {name[:80]!r} of a vocabulary has to match {NAME.pattern}")


def expected_version(request: Request, name: str) -> int:
    """The version a change follows, as `If-Match` says.

    Raises:
        MissingPrecondition, StaleVersion: see `preconditions.required_version`.
        UnknownVocabulary: `*` of a name that is not there.
    """
    catalogue = vocabularies_of(request).catalogue
    return matched_version(preconditions.required_match(request), name, latest=catalogue.latest(name))


async def settled(request: Request, made: Vocabulary, **further: Any) -> JSONResponse:
    """The answer to a change: 200 when this gateway uses the version in time, else 202."""
    vocabularies = vocabularies_of(request)
    is_current = await vocabularies.queue.wait_until_current(made, seconds=preconditions.wait_seconds(request))
    headers = {"ETag": etag(made.version)}
    if not is_current:
        headers["Location"] = f"/v1/vocabularies/{made.name}"
    facts = {**facts_of(vocabularies.catalogue, made), "is_current": is_current, **further}
    return JSONResponse(facts, status_code=200 if is_current else 202, headers=headers)


def latest_of(catalogue: Catalogue, vocabulary: Vocabulary) -> int:
    """Newest committed version of the vocabulary's name."""
    return max(catalogue.latest(vocabulary.name), vocabulary.version)


def facts_of(catalogue: Catalogue, vocabulary: Vocabulary) -> dict[str, Any]:
    """A version without its labels, and where its name stands on this gateway."""
    encoding = catalogue.encodings.get(vocabulary.name)
    return {
        "name": vocabulary.name,
        "version": vocabulary.version,
        "latest": latest_of(catalogue, vocabulary),
        "current": catalogue.current_version(vocabulary.name),
        "encoding": None if encoding is None else asdict(encoding),
        "num_labels": len(vocabulary.labels),
        "description": vocabulary.description,
        "author": vocabulary.author,
        "note": vocabulary.note,
        "created_at": vocabulary.created_at,
    }
