"""Response models of the vocabulary routes, their error responses, and functions that create responses."""

from dataclasses import asdict
from typing import Annotated, Any

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
from serve.vocabularies.label_warnings import VocabularyWarning
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.preconditions import format_etag
from serve.vocabularies.service import VocabularyService
from serve.vocabularies.store import VersionInfo
from serve.vocabularies.threshold_fit import Calibration
from serve.vocabularies.vocabulary import Vocabulary

ETAG = {"ETag": {"description": "The newest version, for If-Match.", "schema": {"type": "string"}}}
LOCATION = {"Location": {"description": "URL to poll for the encoding progress.", "schema": {"type": "string"}}}
READ_PROBLEMS = (errors.UnknownVocabulary, errors.EngineUnavailable, errors.StoreUnavailable)
PRECONDITION_PROBLEMS = (*READ_PROBLEMS, errors.MissingPrecondition, errors.StaleVersion)
CHANGE_PROBLEMS = (
    *PRECONDITION_PROBLEMS,
    errors.InvalidVocabulary,
    errors.UnsupportedMedia,
    errors.UploadTooLarge,
)


class VocabularySummary(BaseModel):
    """One version without its labels, and the status of the vocabulary on this server process."""

    name: str
    version: int
    latest: int = Field(description="Newest committed version of the vocabulary.")
    current: int | None = Field(
        description="Version that this server process uses; null until the first version is encoded."
    )
    encoding: EncodingProgress | None = Field(
        description="Progress of encoding the latest version; null when it is in use."
    )
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str


class ListedVocabulary(VocabularySummary):
    """One vocabulary in the list."""

    is_default: bool = Field(description="Whether requests without a vocabulary use it.")


class VocabularyPage(BaseModel):
    """A page of the vocabularies, sorted by name."""

    vocabularies: list[ListedVocabulary]
    next_page_token: str | None


class VersionPage(BaseModel):
    """A page of the versions of a vocabulary, newest first."""

    versions: list[VersionInfo]
    next_page_token: str | None


class VocabularyDocument(VocabularySummary):
    """One version with its labels."""

    labels: list[Label]
    templates: list[str] | None = Field(description="Prompt templates; null means the templates of the model.")
    phrase_rule: PhraseRule
    background: list[str] = Field(description="Phrases for videos that show none of the labels.")
    acceptance: Acceptance | None
    metadata: dict[str, Any]
    problems: list[Fault] = Field(description="Validation errors of a version stored by an older release; at most 100.")
    num_problems: int
    warnings: list[VocabularyWarning] = Field(
        description="Warnings about labels that an active model cannot tell apart; at most 100."
    )
    num_warnings: int


class ExampleList(BaseModel):
    """The example clips of a label."""

    label_id: str
    label: str
    examples: list[Example]


class ChangeResponse(VocabularySummary):
    """Response to a change."""

    is_current: bool = Field(description="Whether this server process already uses the new version.")


class ExamplesResponse(ChangeResponse):
    """Response to an upload of examples."""

    examples: list[Example]


class CalibrationDetails(BaseModel):
    """Result of a calibration."""

    acceptance: Acceptance
    label_thresholds: dict[str, float] = Field(description="Per-label thresholds by label_id.")
    calibration: Calibration


class CalibrationResponse(ChangeResponse, CalibrationDetails):
    """Response to a calibration whose result was stored."""


class CalibrationDryRun(CalibrationDetails):
    """Response to a calibration with `dry_run`."""

    name: str
    version: int
    dry_run: bool


class VersionDifference(BaseModel):
    """Differences between two versions."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    old: int = Field(alias="from")
    new: int = Field(alias="to")
    added: list[str]
    removed: list[str]
    renamed: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(description="Old and new name.")
    changed: list[str] = Field(description="Labels whose phrases, threshold or examples differ.")
    moved: bool = Field(description="Whether the remaining labels are in a different order.")
    fields: list[str] = Field(description="Names of other vocabulary fields that differ.")

    @classmethod
    def of(cls, name: str, *, old: int, new: int, difference: VocabularyDifference) -> "VersionDifference":
        """Create the response from a difference."""
        return cls.model_validate({"name": name, "from": old, "to": new, **asdict(difference)})


def change_responses(
    model: Any, *error_classes: type[errors.ActserveError], has_body: bool = True
) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that changes a vocabulary."""
    common = CHANGE_PROBLEMS if has_body else PRECONDITION_PROBLEMS
    return {
        200: {"model": model, "description": "This server process uses the new version.", "headers": ETAG},
        202: {"model": model, "description": "The new version is being encoded.", "headers": {**ETAG, **LOCATION}},
        **problem_responses(*common, *error_classes),
    }


async def respond_to_change(
    vocabularies: VocabularyService, new_version: Vocabulary, *, wait_seconds: float, **extra: Any
) -> JSONResponse:
    """Respond to a change: 200 once this process uses the new version, 202 if that takes longer than `wait_seconds`.

    `extra` are additional fields of the body.
    """
    is_current = await vocabularies.queue.wait_until_current(new_version, seconds=wait_seconds)
    headers = {"ETag": format_etag(new_version.version)}
    if not is_current:
        headers["Location"] = f"/v1/vocabularies/{new_version.name}"
    body = {**summarize(vocabularies.catalogue, new_version), "is_current": is_current, **extra}
    return JSONResponse(body, status_code=200 if is_current else 202, headers=headers)


def latest_version(catalogue: Catalogue, vocabulary: Vocabulary) -> int:
    """Return the number of the newest committed version of a vocabulary."""
    return max(catalogue.latest(vocabulary.name), vocabulary.version)


def summarize(catalogue: Catalogue, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the fields of a `VocabularySummary`."""
    encoding = catalogue.encodings.get(vocabulary.name)
    return {
        "name": vocabulary.name,
        "version": vocabulary.version,
        "latest": latest_version(catalogue, vocabulary),
        "current": catalogue.current_version(vocabulary.name),
        "encoding": None if encoding is None else asdict(encoding),
        "num_labels": len(vocabulary.labels),
        "description": vocabulary.description,
        "author": vocabulary.author,
        "note": vocabulary.note,
        "created_at": vocabulary.created_at,
    }
