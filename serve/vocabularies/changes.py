"""Pure functions that replace or patch a vocabulary, and compare two versions.

They store nothing. The functions that change a vocabulary return a complete, valid one or raise.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve.contract import PhraseRule
from serve.errors import InvalidVocabulary
from serve.settings import LimitSettings, VocabularySettings
from serve.text import prompts
from serve.text.normalization import trim
from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.faults import phrase_faults, raise_for_faults
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.vocabulary import NAME_FORMS, LabelFinder, Vocabulary

MAX_DESCRIPTION_CHARS, MAX_METADATA_BYTES = 10_000, 65_536
COMPARED_FIELDS = ("templates", "phrase_rule", "background", "acceptance", "description", "metadata")


class ExampleInput(BaseModel):
    """An existing example of the label, as returned by GET; new clips are added by POST."""

    model_config = ConfigDict(extra="forbid", strict=True)

    example_id: str
    sha256: str | None = Field(None, description="As returned by GET; the example is identified by `example_id` alone.")
    filename: str | None = Field(None, description="As returned by GET.")
    num_bytes: int | None = Field(None, description="As returned by GET.")
    created_at: str | None = Field(None, description="As returned by GET.")


class LabelInput(BaseModel):
    """A label; a plain string stands for a label that has only this name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    label_id: str | None = Field(None, description="label_id of an existing label, which keeps its identity.")
    synonyms: list[str] = Field(default_factory=list)
    negatives: list[str] = Field(
        default_factory=list,
        description="Phrases for videos that resemble the label but do not show it; they compete with the label.",
    )
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="Threshold of this label, for the criterion of `acceptance`."
    )
    examples: list[ExampleInput] | None = Field(None, description="Existing examples to keep; null keeps all of them.")


class VocabularyInput(BaseModel):
    """A complete vocabulary."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: list[str | LabelInput]
    templates: list[str] | None = Field(
        None, description="Templates with one {} each; null means the templates of the model."
    )
    phrase_rule: PhraseRule = Field("best", description="How the logits of a label's phrases are combined.")
    background: list[str] = Field(default_factory=list, description="Phrases for videos that show none of the labels.")
    acceptance: Acceptance | None = Field(None, description="Rule for accepting labels; `:calibrate` fits it.")
    description: str = Field("", max_length=MAX_DESCRIPTION_CHARS)
    metadata: dict[str, Any] = Field(default_factory=dict)


class Rename(BaseModel):
    """A new name for a label, which keeps its identity."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: str = Field(description="label_id or name of the label.")
    to: str


class VocabularyPatch(BaseModel):
    """Changes of a vocabulary, applied in this order: remove, rename, update, add, other members."""

    model_config = ConfigDict(extra="forbid", strict=True)

    remove: list[str] = Field(default_factory=list, description="Labels by label_id or name.")
    rename: list[Rename] = Field(default_factory=list)
    update: list[LabelInput] = Field(
        default_factory=list,
        description="Labels whose name, synonyms and negatives are replaced; `threshold` and `examples` only if given.",
    )
    add: list[str | LabelInput] = Field(default_factory=list)
    templates: list[str] | None = Field(None, description="An empty list means the templates of the model.")
    phrase_rule: PhraseRule | None = None
    background: list[str] | None = None
    acceptance: Acceptance | None = Field(
        None, description="Null removes the acceptance and the thresholds of all labels."
    )
    description: str | None = Field(None, max_length=MAX_DESCRIPTION_CHARS)
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class VocabularyDifference:
    """Differences between two versions."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]  # (old name, new name)
    changed: tuple[str, ...]  # labels whose phrases, threshold or examples differ
    moved: bool  # the labels that are in both versions are in a different order
    fields: tuple[str, ...]  # names in COMPARED_FIELDS whose values differ


@dataclass(frozen=True, kw_only=True)
class VocabularyLimits:
    """Settings that limit the size of a vocabulary."""

    vocabularies: VocabularySettings
    requests: LimitSettings


def replace_vocabulary(
    name: str, document: VocabularyInput, previous: Vocabulary | None, *, limits: VocabularyLimits
) -> Vocabulary:
    """Return the vocabulary defined by a complete document; labels keep the identity they have in `previous`.

    Raises:
        InvalidVocabulary: the document is invalid; the message states each fault and its position.
    """
    existing = {} if previous is None else {label.label_id: label for label in previous.labels}
    items = [_to_label_input(item, limits) for item in document.labels]
    labels = [_build_label(item, before) for item, before in zip(items, _match_labels(items, existing), strict=True)]
    return _validate(
        Vocabulary(
            name=name,
            version=0,
            labels=tuple(labels),
            templates=_check_templates(document.templates),
            phrase_rule=document.phrase_rule,
            background=_trim_all(document.background),
            acceptance=document.acceptance,
            description=document.description,
            metadata=document.metadata,
        ),
        limits,
        previous=None,
    )


def apply_patch(previous: Vocabulary, patch: VocabularyPatch, *, limits: VocabularyLimits) -> Vocabulary:
    """Return the vocabulary with a patch applied.

    Raises:
        InvalidVocabulary: the result is invalid, or a label is changed twice.
        UnknownLabel: the patch refers to a label that does not exist.
    """
    labels = {label.label_id: label for label in previous.labels}
    find = LabelFinder(previous)
    for key in patch.remove:
        label = find(key)
        if labels.pop(label.label_id, None) is None:
            raise InvalidVocabulary(f"label {key!r} is removed twice")
    for rename in patch.rename:
        label_id = _require_not_removed(find(rename.label), labels)
        labels[label_id] = replace(labels[label_id], name=trim(rename.to))
    for item in patch.update:
        label_id = _require_not_removed(find(item.label_id or item.name), labels)
        labels[label_id] = replace(
            labels[label_id],
            name=trim(item.name),
            synonyms=_trim_all(item.synonyms),
            negatives=_trim_all(item.negatives),
            threshold=item.threshold if "threshold" in item.model_fields_set else labels[label_id].threshold,
            examples=_select_examples(item, labels[label_id]),
        )
    added = [_build_label(_to_label_input(item, limits), None) for item in patch.add]
    simple_fields = {
        "phrase_rule": patch.phrase_rule,
        "background": None if patch.background is None else _trim_all(patch.background),
        "description": patch.description,
        "metadata": patch.metadata,
    }
    changes: dict[str, Any] = {name: value for name, value in simple_fields.items() if value is not None}
    if patch.templates is not None:
        changes["templates"] = _check_templates(patch.templates or None)
    remaining: Iterable[Label] = labels.values()
    if "acceptance" in patch.model_fields_set:
        changes["acceptance"] = patch.acceptance
        if patch.acceptance is None:
            remaining = [replace(label, threshold=None) for label in remaining]
    return _validate(replace(previous, labels=(*remaining, *added), **changes), limits, previous=previous)


def compare_versions(old: Vocabulary, new: Vocabulary) -> VocabularyDifference:
    """Compare two versions; labels are matched by label_id."""
    before = {label.label_id: label for label in old.labels}
    after = {label.label_id: label for label in new.labels}
    both = [label_id for label_id in before if label_id in after]
    return VocabularyDifference(
        added=tuple(label.name for key, label in after.items() if key not in before),
        removed=tuple(label.name for key, label in before.items() if key not in after),
        renamed=tuple((before[key].name, after[key].name) for key in both if before[key].name != after[key].name),
        changed=tuple(after[key].name for key in both if _is_changed(before[key], after[key])),
        moved=both != [label_id for label_id in after if label_id in before],
        fields=tuple(name for name in COMPARED_FIELDS if getattr(old, name) != getattr(new, name)),
    )


def _require_not_removed(label: Label, labels: Mapping[str, Label]) -> str:
    """Return the label_id, which has to be in `labels`, the labels that the patch has not removed."""
    if label.label_id not in labels:
        raise InvalidVocabulary(f"label {label.name!r} is both removed and changed")
    return label.label_id


def _to_label_input(item: str | LabelInput, limits: VocabularyLimits) -> LabelInput:
    label = LabelInput(name=item) if isinstance(item, str) else item
    _check_lengths((label.name,), limits)
    return label


def _match_labels(items: Sequence[LabelInput], existing: Mapping[str, Label]) -> list[Label | None]:
    """Return for each input the existing label whose identity it keeps, or None for a new label.

    Labels are matched by label_id, then by exact name, by normalised name, and by name ignoring case. Each existing
    label is matched at most once.
    """
    matches: list[Label | None] = [existing.get(item.label_id or "") for item in items]
    matched_ids = {label.label_id for label in matches if label is not None}
    for form in NAME_FORMS:
        by_name = {form(label.name): label for label in existing.values() if label.label_id not in matched_ids}
        for index, item in enumerate(items) if by_name else ():
            if matches[index] is None and (before := by_name.pop(form(trim(item.name)), None)) is not None:
                matches[index] = before
                matched_ids.add(before.label_id)
    return matches


def _build_label(item: LabelInput, before: Label | None) -> Label:
    """Return the label of an input, with the label_id of the matched existing label or a new one."""
    return Label(
        label_id=secrets.token_hex(6) if before is None else before.label_id,
        name=trim(item.name),
        synonyms=_trim_all(item.synonyms),
        negatives=_trim_all(item.negatives),
        threshold=item.threshold,
        examples=_select_examples(item, before),
    )


def _select_examples(item: LabelInput, before: Label | None) -> tuple[Example, ...]:
    """Return the existing examples that the input keeps."""
    existing = {} if before is None else {example.example_id: example for example in before.examples}
    if item.examples is None:
        return tuple(existing.values())
    unknown = [example.example_id for example in item.examples if example.example_id not in existing]
    if unknown:
        raise InvalidVocabulary(
            f"label {item.name!r} has no example {unknown[0]!r}; example clips are added by POST", label=item.name
        )
    return tuple(existing[key] for key in dict.fromkeys(example.example_id for example in item.examples))


def _trim_all(phrases: Sequence[str]) -> tuple[str, ...]:
    return tuple(trim(phrase) for phrase in phrases)


def _check_templates(templates: Sequence[str] | None) -> tuple[str, ...] | None:
    return prompts.check_templates(templates) if templates else None


def _is_changed(one: Label, other: Label) -> bool:
    return (one.synonyms, one.negatives, one.threshold, one.examples) != (
        other.synonyms,
        other.negatives,
        other.threshold,
        other.examples,
    )


def _validate(vocabulary: Vocabulary, limits: VocabularyLimits, *, previous: Vocabulary | None) -> Vocabulary:
    """Return the vocabulary if it is valid; faults that the previous version already has are ignored."""
    if not vocabulary.labels:
        raise InvalidVocabulary("the vocabulary has no labels; at least 1 is needed")
    max_labels = limits.vocabularies.max_labels
    if len(vocabulary.labels) > max_labels:
        raise InvalidVocabulary(
            f"{len(vocabulary.labels)} labels, at most {max_labels} are allowed",
            num_labels=len(vocabulary.labels),
            limit=max_labels,
        )
    if len({label.label_id for label in vocabulary.labels}) < len(vocabulary.labels):
        raise InvalidVocabulary("two labels have the same label_id")
    if len(vocabulary.templates or ()) > limits.requests.max_templates:
        raise InvalidVocabulary(
            f"{len(vocabulary.templates or ())} templates, at most {limits.requests.max_templates} are allowed"
        )
    if len(vocabulary.background) > limits.requests.max_candidate_labels:
        raise InvalidVocabulary(
            f"{len(vocabulary.background)} background phrases, "
            f"at most {limits.requests.max_candidate_labels} are allowed"
        )
    for label in vocabulary.labels:
        _check_phrases(label, limits)
    _check_lengths(vocabulary.background, limits)
    raise_for_faults(phrase_faults(vocabulary, previous=previous))
    num_bytes = len(json.dumps(dict(vocabulary.metadata), ensure_ascii=False).encode(errors="surrogatepass"))
    if num_bytes > MAX_METADATA_BYTES:
        raise InvalidVocabulary(f"metadata has {num_bytes} bytes, at most {MAX_METADATA_BYTES} are allowed")
    return vocabulary


def _check_phrases(label: Label, limits: VocabularyLimits) -> None:
    count, limit = len(label.synonyms) + len(label.negatives), limits.vocabularies.max_phrases_per_label
    if count > limit:
        raise InvalidVocabulary(f"label {label.name!r} has {count} further phrases, at most {limit} are allowed")
    _check_lengths((*label.phrases, *label.negatives), limits)


def _check_lengths(phrases: Iterable[str], limits: VocabularyLimits) -> None:
    for phrase in phrases:
        if len(phrase) > limits.requests.max_label_chars:
            raise InvalidVocabulary(
                f"{phrase[:60]!r}... has {len(phrase)} characters, "
                f"at most {limits.requests.max_label_chars} are allowed"
            )
