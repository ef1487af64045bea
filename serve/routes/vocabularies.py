"""`/v1/vocabularies`: vocabularies that change while the server runs.

Every change names the version it changes (`If-Match`) and makes the next one. It answers 200 once this gateway uses it,
202 when encoding takes longer than `Prefer: wait=SECONDS`; GET tells how far it has come.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from serve.errors import InvalidOption, InvalidVocabulary, MissingPrecondition
from serve.json_models import Model, VersionNumber
from serve.models.runtime import ModelRuntime
from serve.routes import preconditions
from serve.routes.bodies import described, read_json
from serve.routes.changes import NAME, Name, check_name, expected_version, facts_of, latest_of, settled, vocabularies_of
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token, read_version_token
from serve.service import Service
from serve.uploads import received_body
from serve.vocabularies import formats
from serve.vocabularies.changes import VocabularyInput, VocabularyPatch, difference
from serve.vocabularies.label_warnings import warnings_of
from serve.vocabularies.preconditions import etag
from serve.vocabularies.vocabulary import Vocabulary

MAX_FINDINGS = 100  # problems, and warnings, of one answer

router = APIRouter(prefix="/v1", tags=["vocabularies"])


class Rollback(BaseModel):
    """Which version to return to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionNumber


@router.get("/vocabularies", summary="Every vocabulary")
async def list_vocabularies(
    request: Request, page_size: PageSize = 100, page_token: PageToken = None
) -> dict[str, Any]:
    """Name, versions and size of each, by name."""
    service: Service = request.app.state.service
    catalogue, after = service.vocabularies.catalogue, read_text_token("vocabularies", page_token, NAME)
    found = [name for name in catalogue.names() if after is None or name > after]
    default = catalogue.default_for(service.registry.get(None).contract)
    page = found[:page_size]
    return {
        "vocabularies": [
            {**facts_of(catalogue, await catalogue.look_up(name)), "is_default": name == default.name} for name in page
        ],
        "next_page_token": make_token("vocabularies", page[-1]) if len(found) > page_size else None,
    }


@router.get("/vocabularies/{name}/versions", summary="History of a vocabulary")
async def list_versions(
    request: Request, name: Name, page_size: PageSize = 100, page_token: PageToken = None
) -> dict[str, Any]:
    """Versions that are kept, newest first."""
    before = read_version_token(f"versions of {name}", page_token)
    found = await vocabularies_of(request).catalogue.versions(name, before=before, limit=page_size + 1)
    page = found[:page_size]
    return {
        "versions": [asdict(item) for item in page],
        "next_page_token": make_token(f"versions of {name}", page[-1].version) if len(found) > page_size else None,
    }


@router.get("/vocabularies/{name}:diff", summary="What was changed between two versions")
async def diff_versions(
    request: Request,
    name: Name,
    old: Annotated[VersionNumber, Query(alias="from", description="A version.")],
    new: Annotated[VersionNumber, Query(alias="to", description="Another.")],
) -> dict[str, Any]:
    """Labels added, removed, renamed and changed, by their identity."""
    catalogue = vocabularies_of(request).catalogue
    first, second = await catalogue.look_up(f"{name}@{old}"), await catalogue.look_up(f"{name}@{new}")
    return {"name": name, "from": old, "to": new, **asdict(difference(first, second))}


@router.get("/vocabularies/{name}:export", summary="A vocabulary as a file", response_class=PlainTextResponse)
async def export_vocabulary(
    request: Request, name: Name, format: Literal["json", "csv", "txt"] = "json"
) -> PlainTextResponse:
    """JSON keeps everything and can be PUT again, CSV the phrases of labels, plain text their names."""
    vocabulary = await vocabularies_of(request).catalogue.look_up(name)
    return PlainTextResponse(
        formats.write(vocabulary, format),
        media_type=formats.MEDIA_TYPES[format],
        headers={"ETag": etag(vocabulary.version)},
    )


@router.get("/vocabularies/{name}", summary="One vocabulary with its labels", response_model=None)
async def get_vocabulary(request: Request, name: Name) -> Response:
    """NAME at its current version, or NAME@VERSION; `latest` is newer than `current` while a change is encoded.

    `problems` say what is wrong with a version that an older release stored, `warnings` which labels a model that
    answers now does not tell apart; each list shows the first 100.
    """
    catalogue = vocabularies_of(request).catalogue
    vocabulary = await catalogue.look_up(name)
    headers = {"ETag": etag(latest_of(catalogue, vocabulary) if "@" not in name else vocabulary.version)}
    is_behind = "@" not in name and latest_of(catalogue, vocabulary) != vocabulary.version
    if is_behind:  # the tag is that of the version to come, for changes to follow; the content must not be kept
        headers["Cache-Control"] = "no-store"
    elif request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    service: Service = request.app.state.service
    found = await _findings(vocabulary, service.registry.active())
    return JSONResponse({**facts_of(catalogue, vocabulary), **vocabulary.content(), **found}, headers=headers)


@router.put(
    "/vocabularies/{name}",
    summary="Make or replace a vocabulary",
    response_model=None,
    openapi_extra=described(VocabularyInput, "text/csv", "text/plain"),
)
async def put_vocabulary(request: Request, name: Name, split_names: bool = False) -> JSONResponse:
    """`If-None-Match: *` makes a new one, `If-Match` replaces. The body is JSON, CSV (`name,synonyms,negatives`) or
    plain text (the grammar of label lists); `split_names` makes words of `CamelCase` and `snake_case`."""
    check_name(name)
    is_new = preconditions.asks_to_create(request)
    if is_new and "if-match" in request.headers:
        raise InvalidOption("say If-None-Match: * to make a vocabulary, or If-Match to replace it, not both")
    if not is_new and "if-match" not in request.headers:
        raise MissingPrecondition("say If-None-Match: * to make a vocabulary, or If-Match with its ETag to replace it")
    given = await asyncio.to_thread(
        formats.parse, await _received(request), preconditions.media_type_of(request), split_names=split_names
    )
    expected = None if is_new else expected_version(request, name)
    author = preconditions.author_of(request)
    return await settled(
        request, await vocabularies_of(request).commands.put(name, given, expected=expected, author=author)
    )


@router.patch(
    "/vocabularies/{name}", summary="Change parts of a vocabulary", response_model=None,
    openapi_extra=described(VocabularyPatch),
)  # fmt: skip
async def patch_vocabulary(request: Request, name: Name) -> JSONResponse:
    """Removes, renames, updates and adds labels, in this order; a label is named by its label_id or its name."""
    expected = expected_version(request, name)
    patch = await _json(request, VocabularyPatch)
    author = preconditions.author_of(request)
    return await settled(
        request, await vocabularies_of(request).commands.patch(name, patch, expected=expected, author=author)
    )


@router.post(
    "/vocabularies/{name}:rollback", summary="Return to an old version", response_model=None,
    openapi_extra=described(Rollback),
)  # fmt: skip
async def roll_back(request: Request, name: Name) -> JSONResponse:
    """Makes a new version that equals the old one; nothing of the history is lost."""
    expected = expected_version(request, name)
    version = (await _json(request, Rollback)).version
    author = preconditions.author_of(request)
    return await settled(
        request, await vocabularies_of(request).commands.roll_back(name, version, expected=expected, author=author)
    )


@router.delete("/vocabularies/{name}", summary="Delete a vocabulary", status_code=204)
async def delete_vocabulary(request: Request, name: Name) -> Response:
    """The name and all its versions; requests under way end with what they began with."""
    await vocabularies_of(request).commands.delete(name, expected=expected_version(request, name))
    return Response(status_code=204)


async def _json(request: Request, kind: type[Model]) -> Model:
    service: Service = request.app.state.service
    return await read_json(request, kind, limit=service.settings.vocabularies.max_bytes, refused_with=InvalidVocabulary)


async def _findings(vocabulary: Vocabulary, runtimes: Sequence[ModelRuntime]) -> dict[str, Any]:
    """What a reader of a vocabulary should know about it."""
    problems = await asyncio.to_thread(lambda: vocabulary.faults)
    warnings = [warning for runtime in runtimes for warning in await warnings_of(vocabulary, runtime)]
    return {
        "problems": [asdict(problem) for problem in problems[:MAX_FINDINGS]],
        "num_problems": len(problems),
        "warnings": [warning.model_dump() for warning in warnings[:MAX_FINDINGS]],
        "num_warnings": len(warnings),
    }


async def _received(request: Request) -> bytes:
    service: Service = request.app.state.service
    return await received_body(request, limit=service.settings.vocabularies.max_bytes)
