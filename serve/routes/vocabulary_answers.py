"""Answers of the vocabulary routes: their schemas and problems, and how they are made from versions."""

from dataclasses import asdict
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve import errors
from serve.api.problems import problem_responses
from serve.contract import PhraseRule
from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.changes import VocabularyDifference
from serve.vocabularies.encoder import EncodingProgress
from serve.vocabularies.faults import Fault
from serve.vocabularies.gateway import GatewayVocabularies
from serve.vocabularies.label_warnings import VocabularyWarning
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.preconditions import format_etag
from serve.vocabularies.store import VersionInfo
from serve.vocabularies.threshold_fit import Calibration
from serve.vocabularies.vocabulary import Vocabulary

ETAG = {"ETag": {"description": "The newest version, for If-Match.", "schema": {"type": "string"}}}
LOCATION = {"Location": {"description": "Where the progress is shown.", "schema": {"type": "string"}}}
READ_PROBLEMS = (errors.UnknownVocabulary, errors.EngineUnavailable, errors.StoreUnavailable)
PRECONDITION_PROBLEMS = (*READ_PROBLEMS, errors.MissingPrecondition, errors.StaleVersion)
CHANGE_PROBLEMS = (
    *PRECONDITION_PROBLEMS,
    errors.InvalidVocabulary,
    errors.UnsupportedMedia,
    errors.UploadTooLarge,
)


class VocabularySummary(BaseModel):
    """One version without its labels, and the state of its name on this gateway."""

    name: str
    version: int
    latest: int = Field(description="Newest committed version of the name.")
    current: int | None = Field(description="Version this gateway answers with; null before there is one.")
    encoding: EncodingProgress | None = Field(description="Progress of `latest`; null once it is `current`.")
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str


class ListedVocabulary(VocabularySummary):
    """One vocabulary of the list."""

    is_default: bool = Field(description="Requests that name no vocabulary use it.")


class VocabularyPage(BaseModel):
    """A page of the vocabularies, by name."""

    vocabularies: list[ListedVocabulary]
    next_page_token: str | None


class VersionPage(BaseModel):
    """A page of the versions of a vocabulary, newest first."""

    versions: list[VersionInfo]
    next_page_token: str | None


class VocabularyDocument(VocabularySummary):
    """One version with its labels."""

    labels: list[Label]
    templates: list[str] | None = Field(description="Null: those of the model.")
    phrase_rule: PhraseRule
    background: list[str]
    acceptance: Acceptance | None
    metadata: dict[str, Any]
    problems: list[Fault] = Field(description="Faults of a version that an older release stored; the first 100.")
    num_problems: int
    warnings: list[VocabularyWarning] = Field(description="Labels an active model does not distinguish; the first 100.")
    num_warnings: int


class ExampleList(BaseModel):
    """The example clips of a label."""

    label_id: str
    label: str
    examples: list[Example]


class Change(VocabularySummary):
    """The answer to a change."""

    is_current: bool = Field(description="This gateway answers with the new version already.")


class ExamplesChange(Change):
    """The answer to added examples."""

    examples: list[Example]


class CalibrationFacts(BaseModel):
    """What a calibration found."""

    acceptance: Acceptance
    label_thresholds: dict[str, float] = Field(description="By label_id.")
    calibration: Calibration


class CalibrationChange(Change, CalibrationFacts):
    """The answer to a calibration that was stored."""


class CalibrationTrial(CalibrationFacts):
    """The answer to a calibration with `dry_run`."""

    name: str
    version: int
    dry_run: bool


class VersionDifference(BaseModel):
    """What changed between two versions."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    old: int = Field(alias="from")
    new: int = Field(alias="to")
    added: list[str]
    removed: list[str]
    renamed: list[tuple[str, str]] = Field(description="Old and new name.")
    changed: list[str] = Field(description="Labels with other phrases, threshold or examples.")
    moved: bool = Field(description="The labels that stay have another order.")
    fields: list[str] = Field(description="Other members that differ.")

    @classmethod
    def of(cls, name: str, *, old: int, new: int, found: VocabularyDifference) -> "VersionDifference":
        """Return the answer for a difference."""
        return cls.model_validate({"name": name, "from": old, "to": new, **asdict(found)})


def change_responses(
    model: Any, *kinds: type[errors.ActserveError], has_body: bool = True
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that changes a vocabulary."""
    common = CHANGE_PROBLEMS if has_body else PRECONDITION_PROBLEMS
    return {
        200: {"model": model, "description": "This gateway uses the new version.", "headers": ETAG},
        202: {"model": model, "description": "The new version is being encoded.", "headers": {**ETAG, **LOCATION}},
        **problem_responses(*common, *kinds),
    }


async def change_answer(
    vocabularies: GatewayVocabularies, made: Vocabulary, *, wait_seconds: float, **further: Any
) -> JSONResponse:
    """Answer a change: 200 once this gateway uses the version, 202 if that takes longer than `wait_seconds`."""
    is_current = await vocabularies.queue.wait_until_current(made, seconds=wait_seconds)
    headers = {"ETag": format_etag(made.version)}
    if not is_current:
        headers["Location"] = f"/v1/vocabularies/{made.name}"
    facts = {**summary(vocabularies.catalogue, made), "is_current": is_current, **further}
    return JSONResponse(facts, status_code=200 if is_current else 202, headers=headers)


def latest_of(catalogue: Catalogue, vocabulary: Vocabulary) -> int:
    """Return the newest committed version of the vocabulary's name."""
    return max(catalogue.latest(vocabulary.name), vocabulary.version)


def summary(catalogue: Catalogue, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the members of a `VocabularySummary`."""
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
