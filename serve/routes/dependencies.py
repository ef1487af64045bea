"""Shared dependencies of the routes: components of the service, path parameters and request headers.

FastAPI resolves them and adds every header and parameter to the OpenAPI document.
"""

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Request

from serve.errors import InvalidOption
from serve.routes.authorization import CallerDep
from serve.service import Service
from serve.unicode_text import describe_text_fault
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.commands import VocabularyCommands
from serve.vocabularies.preconditions import parse_if_match
from serve.vocabularies.service import VocabularyService

VOCABULARY_NAME = re.compile(r"[a-z0-9._-]{1,64}")
WAIT_PREFERENCE = re.compile(r"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,5}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])")
RESPOND_ASYNC = re.compile(r"(?:^|[,;])\s*respond-async\s*(?:$|[,;])", re.IGNORECASE)
DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS = 10.0, 300.0
MAX_AUTHOR_CHARS = 200


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


async def _vocabularies(service: ServiceDep) -> VocabularyService:
    return service.vocabularies


VocabulariesDep = Annotated[VocabularyService, Depends(_vocabularies)]


async def _catalogue(vocabularies: VocabulariesDep) -> Catalogue:
    return vocabularies.catalogue


async def _commands(vocabularies: VocabulariesDep) -> VocabularyCommands:
    return vocabularies.commands


CatalogueDep = Annotated[Catalogue, Depends(_catalogue)]
CommandsDep = Annotated[VocabularyCommands, Depends(_commands)]

VocabularyName = Annotated[str, Path(description="`[a-z0-9._-]`, 1 to 64 characters.", examples=["demo"])]
ModelName = Annotated[str, Path(max_length=200, description="Name of a model.", examples=["demo"])]
LabelId = Annotated[
    str, Path(description="`label_id` of a label, or its name if the name has no slash.", examples=["opening a door"])
]
IfMatchHeader = Annotated[
    str,
    Header(
        alias="If-Match",
        description="ETag of the version that the change is based on, as returned by GET; `*` for the newest version.",
        examples=['"1"', "*"],
    ),
]
OptionalIfMatch = Annotated[
    str | None, Header(alias="If-Match", description="ETag of the version to replace; `*` for the newest version.")
]
CreateOnly = Annotated[str | None, Header(alias="If-None-Match", description="`*` to create a vocabulary.")]


async def _expected_version(name: VocabularyName, if_match: IfMatchHeader, catalogue: CatalogueDep) -> int:
    return parse_if_match(if_match, name, latest=catalogue.latest(name))


async def _wait_seconds(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait=SECONDS`: how long to wait until the change is in use "
            f"(default {DEFAULT_WAIT_SECONDS:g}, at most {MAX_WAIT_SECONDS:g}); after that, the response is 202.",
            examples=["wait=30"],
        ),
    ] = None,
) -> float:
    match = WAIT_PREFERENCE.search(prefer or "")
    return min(float(match[1]), MAX_WAIT_SECONDS) if match else DEFAULT_WAIT_SECONDS


async def _is_async_preferred(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description="`respond-async`: respond with 202 and a job that processes the request.",
            examples=["respond-async"],
        ),
    ] = None,
) -> bool:
    return RESPOND_ASYNC.search(prefer or "") is not None


async def _author(
    caller: CallerDep,
    x_author: Annotated[
        str | None,
        Header(
            alias="X-Author",
            description=f"Author of the change if there is no API key; at most {MAX_AUTHOR_CHARS} characters, UTF-8.",
        ),
    ] = None,
) -> str:
    author = _redecode_utf8(x_author or "").strip()
    if caller.key_id is not None:
        if author:
            raise InvalidOption("X-Author cannot be combined with an API key; the author is the name of the key")
        return caller.name
    fault = describe_text_fault(author)
    if fault is not None:
        raise InvalidOption(f"X-Author contains {fault}")
    if len(author) > MAX_AUTHOR_CHARS:
        raise InvalidOption(f"X-Author must have at most {MAX_AUTHOR_CHARS} characters, got {len(author)}")
    return author


IfMatch = Annotated[int, Depends(_expected_version)]
Prefer = Annotated[float, Depends(_wait_seconds)]  # seconds
PreferAsync = Annotated[bool, Depends(_is_async_preferred)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,255}$",
        description="A key of your own: the same request with the same key makes one job, however often it is sent.",
    ),
]
JobId = Annotated[
    str, Path(max_length=100, description="`id` of a job.", examples=["job_0123456789abcdef0123456789abcdef"])
]
Author = Annotated[str, Depends(_author)]


def check_vocabulary_name(name: str) -> None:
    """Check the name of a new vocabulary.

    Raises:
        InvalidOption: the name is not allowed.
    """
    if VOCABULARY_NAME.fullmatch(name) is None:
        raise InvalidOption(f"the name of a vocabulary must match {VOCABULARY_NAME.pattern}, got {name[:80]!r}")


def _redecode_utf8(header: str) -> str:
    """Decode a header, which was decoded as Latin-1, as UTF-8 if it is valid UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
