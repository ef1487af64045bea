"""`/v1/vocabularies`: vocabularies that can be changed while the server runs.

Every change names the version that it is based on (`If-Match`) and creates a new version. The response is 200 once this
process uses the new version, or 202 if encoding takes longer than `Prefer: wait=SECONDS`; GET shows the progress.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from serve.api.problems import problem_responses
from serve.errors import InvalidOption, InvalidVocabulary, MissingPrecondition, UnknownLabel
from serve.json_models import BodyVersionNumber, VersionNumber
from serve.models.runtime import ModelRuntime
from serve.routes.bodies import json_body, media_type_of, read_json
from serve.routes.dependencies import (
    VOCABULARY_NAME,
    Author,
    CatalogueDep,
    CommandsDep,
    CreateOnly,
    IfMatch,
    OptionalIfMatch,
    Prefer,
    ServiceDep,
    VocabulariesDep,
    VocabularyName,
    check_vocabulary_name,
)
from serve.routes.paging import PageSize, PageToken, make_token, read_text_token, read_version_token
from serve.routes.vocabulary_responses import (
    ETAG,
    PRECONDITION_PROBLEMS,
    READ_PROBLEMS,
    ChangeResponse,
    ListedVocabulary,
    VersionDifference,
    VersionPage,
    VocabularyDocument,
    VocabularyPage,
    change_responses,
    latest_version,
    respond_to_change,
    summarize,
)
from serve.uploads import receive_body
from serve.vocabularies import formats
from serve.vocabularies.changes import VocabularyInput, VocabularyPatch, compare_versions
from serve.vocabularies.label_warnings import negative_phrase_warnings, vocabulary_warnings
from serve.vocabularies.preconditions import format_etag, parse_if_match
from serve.vocabularies.vocabulary import Vocabulary

MAX_FINDINGS = 100  # limit of the problems, and of the warnings, in one response

router = APIRouter(prefix="/v1", tags=["vocabularies"])
LARGE_BODY_BYTES = 2**20  # larger vocabularies are parsed and checked one at a time


class RollbackInput(BaseModel):
    """Request to return to an old version."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: BodyVersionNumber


@router.get("/vocabularies", summary="List vocabularies", responses=problem_responses(*READ_PROBLEMS))
async def list_vocabularies(
    service: ServiceDep, catalogue: CatalogueDep, page_size: PageSize = 100, page_token: PageToken = None
) -> VocabularyPage:
    """Return a summary of each vocabulary, sorted by name."""
    after = read_text_token("vocabularies", page_token, VOCABULARY_NAME)
    names = [name for name in catalogue.names() if after is None or name > after]
    default = catalogue.default_for(service.registry.get(None).contract).name
    page = names[:page_size]
    return VocabularyPage(
        vocabularies=[
            ListedVocabulary(**summarize(catalogue, await catalogue.look_up(name)), is_default=name == default)
            for name in page
        ],
        next_page_token=make_token("vocabularies", page[-1]) if len(names) > page_size else None,
    )


@router.get(
    "/vocabularies/{name}/versions", summary="History of a vocabulary", responses=problem_responses(*READ_PROBLEMS)
)
async def list_versions(
    catalogue: CatalogueDep, name: VocabularyName, page_size: PageSize = 100, page_token: PageToken = None
) -> VersionPage:
    """Return the stored versions, newest first."""
    before = read_version_token(f"versions of {name}", page_token)
    versions = await catalogue.versions(name, before=before, limit=page_size + 1)
    page = versions[:page_size]
    token = make_token(f"versions of {name}", page[-1].version) if len(versions) > page_size else None
    return VersionPage(versions=page, next_page_token=token)


@router.get("/vocabularies/{name}:diff", summary="Compare two versions", responses=problem_responses(*READ_PROBLEMS))
async def diff_versions(
    catalogue: CatalogueDep,
    name: VocabularyName,
    old: Annotated[VersionNumber, Query(alias="from", description="A version.")],
    new: Annotated[VersionNumber, Query(alias="to", description="Another version.")],
) -> VersionDifference:
    """Return the labels that were added, removed, renamed or changed; labels are matched by label_id."""
    first, second = await catalogue.look_up(f"{name}@{old}"), await catalogue.look_up(f"{name}@{new}")
    return VersionDifference.of(name, old=old, new=new, difference=compare_versions(first, second))


@router.get(
    "/vocabularies/{name}:export", summary="Download a vocabulary as a file", response_class=Response,
    responses={
        200: {
            "description": "The file.", "headers": ETAG, "model": VocabularyInput,
            "content": {
                kind: {"schema": {"type": "string"}}
                for kind in formats.MEDIA_TYPES.values() if not kind.startswith("application/json")
            },
        },
        **problem_responses(*READ_PROBLEMS),
    },
)  # fmt: skip
async def export_vocabulary(
    catalogue: CatalogueDep, name: VocabularyName, format: Literal["json", "csv", "txt"] = "json"
) -> Response:
    """Export as JSON (complete, can be uploaded with PUT), CSV (phrases of labels) or plain text (names of labels)."""
    vocabulary = await catalogue.look_up(name)
    return PlainTextResponse(
        formats.write(vocabulary, format),
        media_type=formats.MEDIA_TYPES[format],
        headers={"ETag": format_etag(vocabulary.version)},
    )


@router.get(
    "/vocabularies/{name}", summary="Get a vocabulary with its labels", response_model=None,
    responses={
        200: {"model": VocabularyDocument, "headers": ETAG},
        **problem_responses(*READ_PROBLEMS),
    },
)  # fmt: skip
async def get_vocabulary(service: ServiceDep, catalogue: CatalogueDep, name: VocabularyName) -> JSONResponse:
    """Return NAME at its current version, or NAME@VERSION. While a change is encoded, `latest` exceeds `current`.

    `problems` lists validation errors of a version that an older release stored. `warnings` lists labels that an active
    model does not distinguish, and negative phrases that equal another label. Each list has at most 100 items.
    """
    vocabulary = await catalogue.look_up(name)
    latest = latest_version(catalogue, vocabulary)
    is_newest = "@" not in name
    # The ETag is only for `If-Match`: it names the newest version, but the response also depends on the encoded version
    # and on the active models. So there is no 304, and the response must not be cached.
    headers = {"ETag": format_etag(latest if is_newest else vocabulary.version), "Cache-Control": "no-store"}
    findings = await _find_problems(vocabulary, service.registry.active())
    body = {**summarize(catalogue, vocabulary), **vocabulary.content(), **findings}
    return JSONResponse(body, headers=headers)


@router.put(
    "/vocabularies/{name}", summary="Create or replace a vocabulary", response_model=None,
    responses=change_responses(ChangeResponse), openapi_extra=json_body(VocabularyInput, "text/csv", "text/plain"),
)  # fmt: skip
async def put_vocabulary(
    request: Request,
    service: ServiceDep,
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    author: Author,
    wait_seconds: Prefer,
    if_match: OptionalIfMatch = None,
    if_none_match: CreateOnly = None,
    split_names: Annotated[bool, Query(description="Split `CamelCase` and `snake_case` names into words.")] = False,
) -> JSONResponse:
    """Create a vocabulary (`If-None-Match: *`) or replace one (`If-Match`).

    The body is JSON, CSV (`name,synonyms,negatives`) or plain text (the grammar of label lists).
    """
    check_vocabulary_name(name)
    is_new = (if_none_match or "").strip() == "*"
    if is_new and if_match is not None:
        raise InvalidOption(
            "If-None-Match and If-Match cannot be combined; send If-None-Match: * to create a vocabulary, "
            "or If-Match to replace it"
        )
    if not is_new and if_match is None:
        raise MissingPrecondition(
            "send If-None-Match: * to create a vocabulary, or If-Match with its ETag to replace it"
        )
    body = await receive_body(request, limit=service.settings.vocabularies.max_bytes)
    async with service.large_changes if len(body) > LARGE_BODY_BYTES else nullcontext():
        document = await asyncio.to_thread(formats.parse, body, media_type_of(request), split_names=split_names)
        expected = None
        if if_match is not None:
            expected = parse_if_match(if_match, name, latest=vocabularies.catalogue.latest(name))
        new_version = await vocabularies.commands.put(name, document, expected=expected, author=author)
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds)


@router.patch(
    "/vocabularies/{name}", summary="Change parts of a vocabulary", response_model=None,
    responses=change_responses(ChangeResponse, UnknownLabel), openapi_extra=json_body(VocabularyPatch),
)  # fmt: skip
async def patch_vocabulary(
    request: Request,
    service: ServiceDep,
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Remove, rename, update and add labels, in this order. Labels are referenced by label_id or name."""
    limit = service.settings.vocabularies.max_bytes
    patch = await read_json(request, VocabularyPatch, limit=limit, error_type=InvalidVocabulary)
    new_version = await vocabularies.commands.patch(name, patch, expected=expected, author=author)
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds)


@router.post(
    "/vocabularies/{name}:rollback", summary="Return to an old version", response_model=None,
    responses=change_responses(ChangeResponse), openapi_extra=json_body(RollbackInput),
)  # fmt: skip
async def roll_back(
    request: Request,
    service: ServiceDep,
    vocabularies: VocabulariesDep,
    name: VocabularyName,
    expected: IfMatch,
    author: Author,
    wait_seconds: Prefer,
) -> JSONResponse:
    """Create a new version that equals an old one; the history is kept."""
    limit = service.settings.vocabularies.max_bytes
    rollback = await read_json(request, RollbackInput, limit=limit, error_type=InvalidVocabulary)
    new_version = await vocabularies.commands.roll_back(name, rollback.version, expected=expected, author=author)
    return await respond_to_change(vocabularies, new_version, wait_seconds=wait_seconds)


@router.delete(
    "/vocabularies/{name}", summary="Delete a vocabulary", status_code=204,
    responses=problem_responses(*PRECONDITION_PROBLEMS),
)  # fmt: skip
async def delete_vocabulary(commands: CommandsDep, name: VocabularyName, expected: IfMatch) -> Response:
    """Delete a vocabulary with all its versions. Requests in progress finish with the version they started with."""
    await commands.delete(name, expected=expected)
    return Response(status_code=204)


async def _find_problems(vocabulary: Vocabulary, runtimes: Sequence[ModelRuntime]) -> dict[str, Any]:
    """Return the problems of a vocabulary and the warnings of the active models, with their numbers."""
    problems = await asyncio.to_thread(lambda: vocabulary.faults)
    warnings = await asyncio.to_thread(negative_phrase_warnings, vocabulary)
    for runtime in runtimes:
        warnings += await vocabulary_warnings(vocabulary, runtime)
    return {
        "problems": [asdict(problem) for problem in problems[:MAX_FINDINGS]],
        "num_problems": len(problems),
        "warnings": [warning.model_dump() for warning in warnings[:MAX_FINDINGS]],
        "num_warnings": len(warnings),
    }
