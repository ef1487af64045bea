"""Types of documents of vocabularies and feedback.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict

from serve.client.schemas.common import VocabularyWarning


class Acceptance(TypedDict):
    """The scaling of logits and the threshold that accepted labels must reach."""

    criterion: NotRequired[Literal["score", "logit"]]
    threshold: NotRequired[float | None]
    temperature: NotRequired[float]
    bias: NotRequired[float]
    fitted: NotRequired["Fit | None"]


class Calibration(TypedDict):
    """Fitted values, and the metrics measured on the clips they were fitted on."""

    criterion: Literal["score", "logit"]
    scale: "LogitScaling"
    threshold: float | None
    label_thresholds: dict[str, float]
    false_accept_interval: tuple[float, float]
    false_accepts: int
    num_unknown_used: int
    true_accept_rate: float | None
    accuracy: float | None
    auroc: float | None
    fpr_at_95_tpr: float | None
    calibration_error_before: float | None
    calibration_error_after: float | None
    reliability_before: "list[ReliabilityBin]"
    reliability_after: "list[ReliabilityBin]"
    curve: list[tuple[float, float]]


class CalibrationDryRun(TypedDict):
    """Response to a calibration with `dry_run`."""

    acceptance: "Acceptance"
    label_thresholds: dict[str, float]
    calibration: "Calibration"
    name: str
    version: int
    dry_run: bool


class CalibrationResponse(TypedDict):
    """Response to a calibration whose result was stored."""

    acceptance: "Acceptance"
    label_thresholds: dict[str, float]
    calibration: "Calibration"
    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_current: bool


class ChangeResponse(TypedDict):
    """Response to a change."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_current: bool


class EncodingProgress(TypedDict):
    """Progress of encoding a new version of a vocabulary on this server process."""

    version: int
    done: NotRequired[int]
    total: NotRequired[int]
    fault: NotRequired[str | None]


class Example(TypedDict):
    """A clip that shows a label; the database stores its bytes by SHA-256."""

    example_id: str
    sha256: str
    filename: str
    num_bytes: int
    created_at: str


class ExampleInput(TypedDict):
    """An existing example of the label, as returned by GET; new clips are added by POST."""

    example_id: str
    sha256: NotRequired[str | None]
    filename: NotRequired[str | None]
    num_bytes: NotRequired[int | None]
    created_at: NotRequired[str | None]


class ExampleList(TypedDict):
    """The example clips of a label."""

    label_id: str
    label: str
    examples: "list[Example]"


class ExamplesResponse(TypedDict):
    """Response to an upload of examples."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_current: bool
    examples: "list[Example]"


class Fault(TypedDict):
    """A fault, with the paths of the affected values."""

    kind: Literal["same_labels", "empty_label", "forbidden_character", "unreadable_value"]
    places: list[str]
    texts: list[str]
    detail: str


class FeedbackPage(TypedDict):
    """Size of the stored feedback and one page of its rows, newest first."""

    num_clips: int
    num_bytes: int
    max_clips: int
    max_bytes: int
    labels: dict[str, int]
    feedback: "list[FeedbackRow]"
    next_page_token: str | None


class FeedbackRow(TypedDict):
    """A stored clip with its correct label."""

    id: str
    label: str
    vocabulary: str | None
    is_new_label: bool | None
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str


class Fit(TypedDict):
    """The data that thresholds and temperature were fitted on, and the metrics measured on that data."""

    model: str
    function: Literal["softmax", "sigmoid"]
    templates: list[str]
    num_clips: int
    num_crops: int
    vocabulary_version: int
    vocabulary_digest: str
    num_known: int
    num_unknown: int
    num_known_independent: NotRequired[int | None]
    num_unknown_independent: NotRequired[int | None]
    num_copies: NotRequired[int | None]
    false_accept_rate: float
    false_accept_interval: tuple[float, float]
    true_accept_rate: float | None
    accuracy: float | None
    auroc: float | None
    fpr_at_95_tpr: float | None
    calibration_error_before: float | None
    calibration_error_after: float | None
    fitted_at: str


class Label(TypedDict):
    """One class: its name, synonyms, and negative phrases that compete with it."""

    label_id: str
    name: str
    synonyms: NotRequired[list[str]]
    negatives: NotRequired[list[str]]
    threshold: NotRequired[float | None]
    examples: NotRequired["list[Example]"]


class LabelInput(TypedDict):
    """A label; a plain string stands for a label that has only this name."""

    name: str
    label_id: NotRequired[str | None]
    synonyms: NotRequired[list[str]]
    negatives: NotRequired[list[str]]
    threshold: NotRequired[float | None]
    examples: NotRequired["list[ExampleInput] | None"]


class ListedVocabulary(TypedDict):
    """One vocabulary in the list."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_default: bool


class LogitScaling(TypedDict):
    """Calibration of logits: score = function((logit - bias) / temperature)."""

    temperature: NotRequired[float]
    bias: NotRequired[float]


class ReliabilityBin(TypedDict):
    """Clips whose confidence lies in one bin."""

    confidence: float
    accuracy: float
    count: int


class StoredFeedback(TypedDict):
    """Response to a correction."""

    id: str
    label: str
    vocabulary: str | None
    is_new_label: bool | None
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str
    is_duplicate: bool


# Differences between two versions.
VersionDifference = TypedDict(
    "VersionDifference",
    {
        "name": str,
        "from": int,
        "to": int,
        "added": list[str],
        "removed": list[str],
        "renamed": list[list[str]],
        "changed": list[str],
        "moved": bool,
        "fields": list[str],
    },
)


class VersionInfo(TypedDict):
    """Metadata of one version."""

    version: int
    num_labels: int
    author: str
    note: str
    created_at: str


class VersionPage(TypedDict):
    """A page of the versions of a vocabulary, newest first."""

    versions: "list[VersionInfo]"
    next_page_token: str | None


class VocabularyDocument(TypedDict):
    """One version with its labels."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    labels: "list[Label]"
    templates: list[str] | None
    phrase_rule: Literal["best", "mean"]
    background: list[str]
    acceptance: "Acceptance | None"
    metadata: dict[str, Any]
    problems: "list[Fault]"
    num_problems: int
    warnings: "list[VocabularyWarning]"
    num_warnings: int


class VocabularyInput(TypedDict):
    """A complete vocabulary."""

    labels: "list[str | LabelInput]"
    templates: NotRequired[list[str] | None]
    phrase_rule: NotRequired[Literal["best", "mean"]]
    background: NotRequired[list[str]]
    acceptance: NotRequired["Acceptance | None"]
    description: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


class VocabularyPage(TypedDict):
    """A page of the vocabularies, sorted by name."""

    vocabularies: "list[ListedVocabulary]"
    next_page_token: str | None


class Rename(TypedDict):
    """A new name for a label, which keeps its identity."""

    label: str
    to: str
