"""Dependencies of the routes, typed once: the parts of the service, path parameters and request headers.

FastAPI resolves them and puts every header and parameter into the OpenAPI document.
"""

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Request

from serve.errors import InvalidOption
from serve.routes.authorization import CallerDep
from serve.service import Service
from serve.unicode_text import text_fault
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.commands import VocabularyCommands
from serve.vocabularies.gateway import GatewayVocabularies
from serve.vocabularies.preconditions import parse_if_match

NAME = re.compile(r"[a-z0-9._-]{1,64}")
WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,5}(?:\.[0-9]{1,9})?)\s*(?:$|[,;])")
RESPOND_ASYNC = re.compile(r"(?:^|[,;])\s*respond-async\s*(?:$|[,;])", re.IGNORECASE)
DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS = 10.0, 300.0
MAX_AUTHOR_CHARS = 200


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


async def _vocabularies(service: ServiceDep) -> GatewayVocabularies:
    return service.vocabularies


VocabulariesDep = Annotated[GatewayVocabularies, Depends(_vocabularies)]


async def _catalogue(vocabularies: VocabulariesDep) -> Catalogue:
    return vocabularies.catalogue


async def _commands(vocabularies: VocabulariesDep) -> VocabularyCommands:
    return vocabularies.commands


CatalogueDep = Annotated[Catalogue, Depends(_catalogue)]
CommandsDep = Annotated[VocabularyCommands, Depends(_commands)]

VocabularyName = Annotated[str, Path(description="`[a-z0-9._-]`, 1 to 64 characters.", examples=["demo"])]
ModelName = Annotated[str, Path(max_length=200, description="Name of a model.", examples=["demo"])]
LabelId = Annotated[str, Path(description="`label_id` of a label, or its name if that holds no slash.")]
IfMatchHeader = Annotated[
    str,
    Header(
        alias="If-Match",
        description="ETag of the version that the change is based on, as GET shows it; `*` for the newest version.",
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
            f"(default {DEFAULT_WAIT_SECONDS:g}, at most {MAX_WAIT_SECONDS:g}); 202 after that.",
            examples=["wait=30"],
        ),
    ] = None,
) -> float:
    found = WAIT.search(prefer or "")
    return min(float(found[1]), MAX_WAIT_SECONDS) if found else DEFAULT_WAIT_SECONDS


async def _is_async_preferred(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description="`respond-async`: answer 202 with a job that does the work.",
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
            description=f"Who makes the change, without an API key; at most {MAX_AUTHOR_CHARS} characters, UTF-8.",
        ),
    ] = None,
) -> str:
    author = _utf8(x_author or "").strip()
    if caller.key_id is not None:
        if author:
            raise InvalidOption("X-Author cannot be given with an API key; the author of a change is the key's name")
        return caller.name
    fault = text_fault(author)
    if fault is not None:
        raise InvalidOption(f"X-Author holds {fault}")
    if len(author) > MAX_AUTHOR_CHARS:
        raise InvalidOption(f"X-Author has {len(author)} characters, at most {MAX_AUTHOR_CHARS} are allowed")
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
    """Check the name of a vocabulary that is to be created.

    Raises:
        InvalidOption: states which names are allowed.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidOption(f"the name {name[:80]!r} of a vocabulary has to match {NAME.pattern}")


def _utf8(header: str) -> str:
    """Return a header's text, which arrives as Latin-1, as UTF-8 if it is valid UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
