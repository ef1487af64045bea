"""Which labels of a vocabulary, or of a request, a loaded model does not tell apart, and which are rivals of others."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from serve.models.runtime import ModelRuntime
from serve.text.merges import Merges
from serve.text.normalization import normal_form
from serve.text.prompts import MAX_CHARS_SHOWN, MAX_GROUPS_SHOWN
from serve.vocabularies.vocabulary import Vocabulary


class VocabularyWarning(BaseModel):
    """Labels that a model does not tell apart, though they are different labels; or that compete with a label."""

    kind: Literal["merged_labels", "empty_labels", "label_as_negative"] = Field(
        description="The model's tokenizer makes them one prompt, or leaves nothing of them in the prompt; or a "
        "negative phrase of the first label is a name or synonym of the second."
    )
    model: str | None = Field(description="`name@version` of the model; null where it holds for every model.")
    vocabulary: str | None = Field(description="`name@version`; null for labels of a request.")
    labels: list[str] = Field(description="The labels, or those whose synonyms are merged; at most 20.")
    detail: str


async def warnings_of(vocabulary: Vocabulary, runtime: ModelRuntime) -> list[VocabularyWarning]:
    """Return the warnings about the labels of a vocabulary and their synonyms."""
    templates = vocabulary.templates or runtime.contract.text.templates
    merges = await runtime.bank.merges(vocabulary.own_phrases, templates[0])
    owners = [index for index, label in enumerate(vocabulary.labels) for _ in label.phrases]
    return _warnings(merges, vocabulary.label_names, owners, model=runtime.reference, vocabulary=vocabulary.reference)


async def warnings_of_labels(labels: tuple[str, ...], template: str, runtime: ModelRuntime) -> list[VocabularyWarning]:
    """Return the warnings about the labels of a request, at most `MAX_GROUPS_SHOWN`."""
    merges = await runtime.bank.merges(labels, template)
    found = _warnings(merges, labels, range(len(labels)), model=runtime.reference, vocabulary=None)
    return found[:MAX_GROUPS_SHOWN]


def warnings_of_negatives(vocabulary: Vocabulary) -> list[VocabularyWarning]:
    """Negative phrases that are a name or synonym of another label; a video of that label lowers this label's score."""
    if not any(label.negatives for label in vocabulary.labels):
        return []
    owners = {normal_form(text): index for index, label in enumerate(vocabulary.labels) for text in label.phrases}
    found = []
    for index, label in enumerate(vocabulary.labels):
        for text in label.negatives:
            other = owners.get(normal_form(text), index)
            if other != index:
                labels = [label.name, vocabulary.labels[other].name]
                detail = (
                    f"the negative phrase {text[:MAX_CHARS_SHOWN]!r} of {_shown(labels[:1])} is also the label "
                    f"{_shown(labels[1:])}: it counts twice against the score of {_shown(labels[:1])}"
                )
                found.append(_warning("label_as_negative", labels, detail, model=None, vocabulary=vocabulary.reference))
    return found


def _warnings(
    merges: Merges, names: Sequence[str], owners: Sequence[int], *, model: str, vocabulary: str | None
) -> list[VocabularyWarning]:
    """`owners` holds the label of each phrase. Merged phrases of one label need no warning: its score is the same."""
    found = []
    for group in merges.groups:
        labels = [names[index] for index in dict.fromkeys(owners[place] for place in group)]
        if len(labels) > 1:
            detail = f"{model} reads {_shown(labels)} as the same prompt; they share its score"
            found.append(_warning("merged_labels", labels, detail, model=model, vocabulary=vocabulary))
    empty = [names[index] for index in dict.fromkeys(owners[place] for place in merges.empty)]
    if empty:
        detail = f"the tokenizer of {model} removes all text of {_shown(empty)}; their scores are meaningless"
        found.append(_warning("empty_labels", empty, detail, model=model, vocabulary=vocabulary))
    return found


def _warning(
    kind: Literal["merged_labels", "empty_labels", "label_as_negative"],
    labels: Sequence[str],
    detail: str,
    *,
    model: str | None,
    vocabulary: str | None,
) -> VocabularyWarning:
    shown = list(labels[:MAX_GROUPS_SHOWN])
    return VocabularyWarning(kind=kind, model=model, vocabulary=vocabulary, labels=shown, detail=detail)


def _shown(labels: Sequence[str]) -> str:
    """Return labels for a message, and how many more there are."""
    words = ", ".join(repr(label[:MAX_CHARS_SHOWN]) for label in labels[:MAX_GROUPS_SHOWN])
    more = len(labels) - MAX_GROUPS_SHOWN
    return f"{words} and {more} more" if more > 0 else words
