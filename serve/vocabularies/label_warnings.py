"""Warnings about labels that a model cannot distinguish, and about negative phrases that are labels themselves."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from serve.models.runtime import ModelRuntime
from serve.text.merged_labels import MergedLabels
from serve.text.normalization import normal_form
from serve.text.prompts import MAX_CHARS_SHOWN, MAX_GROUPS_SHOWN
from serve.vocabularies.vocabulary import Vocabulary


class VocabularyWarning(BaseModel):
    """A warning about labels that are unlikely to be scored as intended."""

    kind: Literal["merged_labels", "empty_labels", "label_as_negative"] = Field(
        description="`merged_labels`: the model's tokenizer produces the same prompt for all of them; `empty_labels`: "
        "it removes their whole text; `label_as_negative`: a negative phrase of the first label is a name or synonym "
        "of the second."
    )
    model: str | None = Field(description="`name@version` of the model; null if the warning applies to every model.")
    vocabulary: str | None = Field(description="`name@version`; null for labels of a request.")
    labels: list[str] = Field(description="Names of the affected labels; at most 20.")
    detail: str


async def vocabulary_warnings(vocabulary: Vocabulary, runtime: ModelRuntime) -> list[VocabularyWarning]:
    """Return warnings about labels and synonyms of a vocabulary that a model cannot distinguish."""
    templates = vocabulary.templates or runtime.contract.text.templates
    merged = await runtime.bank_builder.find_merged_labels(vocabulary.label_phrases, templates[0])
    owners = [index for index, label in enumerate(vocabulary.labels) for _ in label.phrases]
    return _merge_warnings(
        merged, vocabulary.label_names, owners, model=runtime.reference, vocabulary=vocabulary.reference
    )


async def label_warnings(labels: tuple[str, ...], template: str, runtime: ModelRuntime) -> list[VocabularyWarning]:
    """Return warnings about labels of a request that a model cannot distinguish, at most `MAX_GROUPS_SHOWN`."""
    merged = await runtime.bank_builder.find_merged_labels(labels, template)
    warnings = _merge_warnings(merged, labels, range(len(labels)), model=runtime.reference, vocabulary=None)
    return warnings[:MAX_GROUPS_SHOWN]


def negative_phrase_warnings(vocabulary: Vocabulary) -> list[VocabularyWarning]:
    """Return warnings about negative phrases that are a name or synonym of another label."""
    if not any(label.negatives for label in vocabulary.labels):
        return []
    owners = {normal_form(text): index for index, label in enumerate(vocabulary.labels) for text in label.phrases}
    warnings = []
    for index, label in enumerate(vocabulary.labels):
        for text in label.negatives:
            other = owners.get(normal_form(text), index)
            if other != index:
                labels = [label.name, vocabulary.labels[other].name]
                detail = (
                    f"the negative phrase {text[:MAX_CHARS_SHOWN]!r} of {_format_labels(labels[:1])} is also the label "
                    f"{_format_labels(labels[1:])}: it counts twice against the score of {_format_labels(labels[:1])}"
                )
                warnings.append(
                    _make_warning("label_as_negative", labels, detail, model=None, vocabulary=vocabulary.reference)
                )
    return warnings


def _merge_warnings(
    merged: MergedLabels, names: Sequence[str], owners: Sequence[int], *, model: str, vocabulary: str | None
) -> list[VocabularyWarning]:
    """Return a warning for each group of labels with the same tokens, and one for labels without tokens.

    `owners` contains the label index of each phrase. Merged phrases of the same label do not change its score, so they
    cause no warning.
    """
    warnings = []
    for group in merged.groups:
        labels = [names[index] for index in dict.fromkeys(owners[phrase] for phrase in group)]
        if len(labels) > 1:
            detail = f"{model} reads {_format_labels(labels)} as the same prompt; they share its score"
            warnings.append(_make_warning("merged_labels", labels, detail, model=model, vocabulary=vocabulary))
    empty = [names[index] for index in dict.fromkeys(owners[phrase] for phrase in merged.empty)]
    if empty:
        detail = f"the tokenizer of {model} removes all text of {_format_labels(empty)}; their scores are meaningless"
        warnings.append(_make_warning("empty_labels", empty, detail, model=model, vocabulary=vocabulary))
    return warnings


def _make_warning(
    kind: Literal["merged_labels", "empty_labels", "label_as_negative"],
    labels: Sequence[str],
    detail: str,
    *,
    model: str | None,
    vocabulary: str | None,
) -> VocabularyWarning:
    shown = list(labels[:MAX_GROUPS_SHOWN])
    return VocabularyWarning(kind=kind, model=model, vocabulary=vocabulary, labels=shown, detail=detail)


def _format_labels(labels: Sequence[str]) -> str:
    """Format labels for a message, at most `MAX_GROUPS_SHOWN` and the number of omitted ones."""
    words = ", ".join(repr(label[:MAX_CHARS_SHOWN]) for label in labels[:MAX_GROUPS_SHOWN])
    more = len(labels) - MAX_GROUPS_SHOWN
    return f"{words} and {more} more" if more > 0 else words
