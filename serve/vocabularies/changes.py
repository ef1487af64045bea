"""Changes of vocabularies as functions on values: replace a vocabulary, patch it, compare two versions.

Nothing is stored here. Each function returns a complete valid vocabulary or raises.
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
from serve.text.normalization import trimmed
from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.faults import phrase_faults, refuse_faults
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.vocabulary import NAME_RULES, LabelFinder, Vocabulary

MAX_DESCRIPTION_CHARS, MAX_METADATA_BYTES = 10_000, 65_536
FIELDS = ("templates", "phrase_rule", "background", "acceptance", "description", "metadata")


class ExampleInput(BaseModel):
    """An existing example of the label, as GET shows it; clips are added by POST."""

    model_config = ConfigDict(extra="forbid", strict=True)

    example_id: str
    sha256: str | None = Field(None, description="As GET shows it; `example_id` alone identifies the example.")
    filename: str | None = Field(None, description="As `sha256`.")
    num_bytes: int | None = Field(None, description="As `sha256`.")
    created_at: str | None = Field(None, description="As `sha256`.")


class LabelInput(BaseModel):
    """A label; a plain string is a label with this name and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    label_id: str | None = Field(None, description="Of an existing label, which keeps its identity.")
    synonyms: list[str] = Field(default_factory=list)
    negatives: list[str] = Field(
        default_factory=list,
        description="Phrases that are close to the label but differ from it; they compete with it.",
    )
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="Threshold of this label, for the criterion of `acceptance`."
    )
    examples: list[ExampleInput] | None = Field(None, description="Examples to keep; null keeps all.")


class VocabularyInput(BaseModel):
    """A complete vocabulary."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: list[str | LabelInput]
    templates: list[str] | None = Field(None, description="Templates with one {} each; null: those of the model.")
    phrase_rule: PhraseRule = Field("best", description="Rule from the phrases of a label to its logit.")
    background: list[str] = Field(default_factory=list, description="Phrases for videos that show none of the labels.")
    acceptance: Acceptance | None = Field(None, description="When labels are accepted; `:calibrate` fits it.")
    description: str = Field("", max_length=MAX_DESCRIPTION_CHARS)
    metadata: dict[str, Any] = Field(default_factory=dict)


class Rename(BaseModel):
    """A new name for a label, which keeps its identity."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: str = Field(description="label_id or name of the label.")
    to: str


class VocabularyPatch(BaseModel):
    """Changes in this order: remove, rename, update, add, other members."""

    model_config = ConfigDict(extra="forbid", strict=True)

    remove: list[str] = Field(default_factory=list, description="Labels by label_id or name.")
    rename: list[Rename] = Field(default_factory=list)
    update: list[LabelInput] = Field(
        default_factory=list, description="Labels with their new synonyms and negatives, and threshold if given."
    )
    add: list[str | LabelInput] = Field(default_factory=list)
    templates: list[str] | None = Field(None, description="An empty list: those of the model.")
    phrase_rule: PhraseRule | None = None
    background: list[str] | None = None
    acceptance: Acceptance | None = Field(None, description="Null removes it, and the thresholds of all labels.")
    description: str | None = Field(None, max_length=MAX_DESCRIPTION_CHARS)
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class VocabularyDifference:
    """Differences between two versions."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]  # from, to
    changed: tuple[str, ...]  # labels with other phrases, threshold or examples
    moved: bool  # the labels in both versions have another order
    fields: tuple[str, ...]  # of FIELDS


@dataclass(frozen=True, kw_only=True)
class VocabularyLimits:
    """Limits of a vocabulary."""

    vocabularies: VocabularySettings
    requests: LimitSettings


def replaced(name: str, given: VocabularyInput, previous: Vocabulary | None, *, limits: VocabularyLimits) -> Vocabulary:
    """Return the vocabulary of a complete input; a label of the same name keeps its identity.

    Raises:
        InvalidVocabulary: names each fault and its place.
    """
    known = {} if previous is None else {label.label_id: label for label in previous.labels}
    items = [_label_input(item, limits) for item in given.labels]
    labels = [_label(item, before) for item, before in zip(items, _continued(items, known), strict=True)]
    return _checked(
        Vocabulary(
            name=name,
            version=0,
            labels=tuple(labels),
            templates=_templates(given.templates),
            phrase_rule=given.phrase_rule,
            background=_trimmed(given.background),
            acceptance=given.acceptance,
            description=given.description,
            metadata=given.metadata,
        ),
        limits,
        known=None,
    )


def patched(previous: Vocabulary, patch: VocabularyPatch, *, limits: VocabularyLimits) -> Vocabulary:
    """Return the vocabulary with the changes of a patch.

    Raises:
        InvalidVocabulary: the result is invalid, or a label is changed twice.
        UnknownLabel: a label to be changed does not exist.
    """
    labels = {label.label_id: label for label in previous.labels}
    find = LabelFinder(previous)
    for key in patch.remove:
        label = find(key)
        if labels.pop(label.label_id, None) is None:
            raise InvalidVocabulary(f"label {key!r} is removed twice")
    for rename in patch.rename:
        label_id = _kept(find(rename.label), labels)
        labels[label_id] = replace(labels[label_id], name=trimmed(rename.to))
    for item in patch.update:
        label_id = _kept(find(item.label_id or item.name), labels)
        labels[label_id] = replace(
            labels[label_id],
            name=trimmed(item.name),
            synonyms=_trimmed(item.synonyms),
            negatives=_trimmed(item.negatives),
            threshold=item.threshold if "threshold" in item.model_fields_set else labels[label_id].threshold,
            examples=_kept_examples(item, labels[label_id]),
        )
    added = [_label(_label_input(item, limits), None) for item in patch.add]
    plain = {
        "phrase_rule": patch.phrase_rule,
        "background": None if patch.background is None else _trimmed(patch.background),
        "description": patch.description,
        "metadata": patch.metadata,
    }
    changes: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    if patch.templates is not None:
        changes["templates"] = _templates(patch.templates or None)
    kept: Iterable[Label] = labels.values()
    if "acceptance" in patch.model_fields_set:
        changes["acceptance"] = patch.acceptance
        kept = kept if patch.acceptance is not None else [replace(label, threshold=None) for label in kept]
    return _checked(replace(previous, labels=(*kept, *added), **changes), limits, known=previous)


def difference(old: Vocabulary, new: Vocabulary) -> VocabularyDifference:
    """Compare two versions by the identity of their labels."""
    before = {label.label_id: label for label in old.labels}
    after = {label.label_id: label for label in new.labels}
    both = [label_id for label_id in before if label_id in after]
    return VocabularyDifference(
        added=tuple(label.name for key, label in after.items() if key not in before),
        removed=tuple(label.name for key, label in before.items() if key not in after),
        renamed=tuple((before[key].name, after[key].name) for key in both if before[key].name != after[key].name),
        changed=tuple(after[key].name for key in both if _is_changed(before[key], after[key])),
        moved=both != [label_id for label_id in after if label_id in before],
        fields=tuple(name for name in FIELDS if getattr(old, name) != getattr(new, name)),
    )


def _kept(label: Label, labels: Mapping[str, Label]) -> str:
    if label.label_id not in labels:
        raise InvalidVocabulary(f"label {label.name!r} is both removed and changed")
    return label.label_id


def _label_input(item: str | LabelInput, limits: VocabularyLimits) -> LabelInput:
    given = LabelInput(name=item) if isinstance(item, str) else item
    _check_lengths((given.name,), limits)
    return given


def _continued(items: Sequence[LabelInput], known: Mapping[str, Label]) -> list[Label | None]:
    """Return for each input the label of the previous version whose identity it keeps, if any.

    That is the label with its label_id, else with its name as written, else normalized, else ignoring case. Each label
    is continued at most once.
    """
    found: list[Label | None] = [known.get(item.label_id or "") for item in items]
    taken = {label.label_id for label in found if label is not None}
    for rule in NAME_RULES:
        names = {rule(label.name): label for label in known.values() if label.label_id not in taken}
        for index, item in enumerate(items) if names else ():
            if found[index] is None and (before := names.pop(rule(trimmed(item.name)), None)) is not None:
                found[index] = before
                taken.add(before.label_id)
    return found


def _label(given: LabelInput, before: Label | None) -> Label:
    """Return the label of an input, with the identity of the label it continues."""
    return Label(
        label_id=secrets.token_hex(6) if before is None else before.label_id,
        name=trimmed(given.name),
        synonyms=_trimmed(given.synonyms),
        negatives=_trimmed(given.negatives),
        threshold=given.threshold,
        examples=_kept_examples(given, before),
    )


def _kept_examples(given: LabelInput, before: Label | None) -> tuple[Example, ...]:
    known = {} if before is None else {example.example_id: example for example in before.examples}
    if given.examples is None:
        return tuple(known.values())
    unknown = [item.example_id for item in given.examples if item.example_id not in known]
    if unknown:
        raise InvalidVocabulary(
            f"label {given.name!r} has no example {unknown[0]!r}; example clips are added by POST", label=given.name
        )
    return tuple(known[key] for key in dict.fromkeys(item.example_id for item in given.examples))


def _trimmed(phrases: Sequence[str]) -> tuple[str, ...]:
    return tuple(trimmed(phrase) for phrase in phrases)


def _templates(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return prompts.check_templates(given) if given else None


def _is_changed(one: Label, other: Label) -> bool:
    return (one.synonyms, one.negatives, one.threshold, one.examples) != (
        other.synonyms,
        other.negatives,
        other.threshold,
        other.examples,
    )


def _checked(vocabulary: Vocabulary, limits: VocabularyLimits, *, known: Vocabulary | None) -> Vocabulary:
    """Return the vocabulary if it is valid; faults that the previous version, `known`, already has are ignored."""
    if not vocabulary.labels:
        raise InvalidVocabulary("the vocabulary has no labels; at least 1 is needed")
    most = limits.vocabularies.max_labels
    if len(vocabulary.labels) > most:
        raise InvalidVocabulary(
            f"{len(vocabulary.labels)} labels, at most {most} are allowed",
            num_labels=len(vocabulary.labels),
            limit=most,
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
    refuse_faults(phrase_faults(vocabulary, known=known))
    num_bytes = len(json.dumps(dict(vocabulary.metadata), ensure_ascii=False).encode(errors="surrogatepass"))
    if num_bytes > MAX_METADATA_BYTES:
        raise InvalidVocabulary(f"metadata has {num_bytes} bytes, at most {MAX_METADATA_BYTES} are allowed")
    return vocabulary


def _check_phrases(label: Label, limits: VocabularyLimits) -> None:
    count, most = len(label.synonyms) + len(label.negatives), limits.vocabularies.max_phrases_per_label
    if count > most:
        raise InvalidVocabulary(f"label {label.name!r} has {count} further phrases, at most {most} are allowed")
    _check_lengths((*label.phrases, *label.negatives), limits)


def _check_lengths(phrases: Iterable[str], limits: VocabularyLimits) -> None:
    for phrase in phrases:
        if len(phrase) > limits.requests.max_label_chars:
            raise InvalidVocabulary(
                f"{phrase[:60]!r}... has {len(phrase)} characters, "
                f"at most {limits.requests.max_label_chars} are allowed"
            )
