"""Validation of the phrases of a vocabulary: changes reject faults, and reads report faults of stored versions.

Older releases accepted labels with the same prompt and labels without a visible character. Such a vocabulary can still
be read, and it can be patched as long as the patch does not change these labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serve.errors import InvalidVocabulary
from serve.text import prompts
from serve.text.normalization import is_visible, normal_form
from serve.vocabularies.labels import Label

MAX_FAULTS_SHOWN = 20  # per error message

Kind = Literal["same_labels", "empty_label", "forbidden_character", "unreadable_value"]


class PhraseSet(Protocol):
    """The phrases of a vocabulary."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, in order."""
        ...

    @property
    def background(self) -> tuple[str, ...]:
        """Phrases for videos that show none of the labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, with the paths of the affected values."""

    kind: Kind
    places: tuple[str, ...]  # paths in the JSON document, e.g. `labels[2].name`
    texts: tuple[str, ...]  # the text at each path
    detail: str


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A phrase of a vocabulary and its position."""

    path: str  # in the JSON document, e.g. `labels[2].name`
    description: str  # of the position, for messages
    owner: str  # label_id; empty for a background phrase
    text: str
    is_competing: bool  # a negative or background phrase, not a name or synonym

    @property
    def identity(self) -> tuple[str, str]:
        """Return a key that stays equal between versions unless the phrase is edited."""
        return self.owner, self.text


def phrase_faults(vocabulary: PhraseSet, *, previous: PhraseSet | None = None) -> list[Fault]:
    """Return the faults of a vocabulary, except faults whose phrases are all in the previous version already.

    Names and synonyms of all labels must differ, since two labels with the same prompt always get the same score. A
    negative phrase must differ from the other phrases of its label, a background phrase from the names and synonyms of
    all labels.
    """
    if _has_no_faults(vocabulary):
        return []
    old = set() if previous is None else {phrase.identity for phrase in _iterate_phrases(previous)}
    faults: list[Fault] = []
    groups: dict[tuple[str, str], list[Phrase]] = {}
    for phrase in _iterate_phrases(vocabulary):
        form = normal_form(phrase.text)
        fault = _check_phrase(phrase, form)
        if fault is None:
            groups.setdefault((_scope(phrase), form), []).append(phrase)
        elif phrase.identity not in old:
            faults.append(fault)
    for group in _duplicate_groups(groups):
        if any(phrase.identity not in old for phrase in group):
            faults.append(_duplicate_fault(group))
    return faults


def raise_for_faults(faults: Sequence[Fault]) -> None:
    """Raise an error if there are faults.

    Raises:
        InvalidVocabulary: there are faults; the message lists at most `MAX_FAULTS_SHOWN` of them.
    """
    if faults:
        raise InvalidVocabulary(
            "; ".join(fault.detail for fault in faults[:MAX_FAULTS_SHOWN]),
            places=[list(fault.places) for fault in faults[:MAX_FAULTS_SHOWN]],
            same_labels=[list(fault.texts) for fault in faults[:MAX_FAULTS_SHOWN] if fault.kind == "same_labels"],
        )


def _has_no_faults(vocabulary: PhraseSet) -> bool:
    """Return whether there are no faults; much faster than `phrase_faults`, since it records no positions."""
    seen: set[str] = set()
    for label in vocabulary.labels:
        label_forms = {normal_form(text) for text in label.phrases}
        forms = label_forms.union(map(normal_form, label.negatives)) if label.negatives else label_forms
        if len(forms) < len(label.phrases) + len(label.negatives) or not seen.isdisjoint(label_forms):
            return False
        if not all(map(is_visible, forms)) or any(map(prompts.forbidden_character, (*label.phrases, *label.negatives))):
            return False
        seen |= label_forms
    background = {normal_form(text) for text in vocabulary.background}
    return (
        len(background) == len(vocabulary.background)
        and seen.isdisjoint(background)
        and all(map(is_visible, background))
        and not any(map(prompts.forbidden_character, vocabulary.background))
    )


def _iterate_phrases(vocabulary: PhraseSet) -> Iterator[Phrase]:
    for index, label in enumerate(vocabulary.labels):
        yield Phrase(
            path=f"labels[{index}].name",
            description=str(index),
            owner=label.label_id,
            text=label.name,
            is_competing=False,
        )
        for kind, texts in (("synonyms", label.synonyms), ("negatives", label.negatives)):
            for number, text in enumerate(texts):
                yield Phrase(
                    path=f"labels[{index}].{kind}[{number}]",
                    description=f"{index} ({kind[:-1]} {number} of {label.name[: prompts.MAX_CHARS_SHOWN]!r})",
                    owner=label.label_id,
                    text=text,
                    is_competing=kind == "negatives",
                )
    for number, text in enumerate(vocabulary.background):
        yield Phrase(
            path=f"background[{number}]",
            description=f"background phrase {number}",
            owner="",
            text=text,
            is_competing=True,
        )


def _scope(phrase: Phrase) -> str:
    """Return the scope in which a phrase must be unique: its label for a negative phrase, else "" (everywhere)."""
    return phrase.owner if phrase.is_competing and phrase.owner else ""


def _duplicate_groups(groups: dict[tuple[str, str], list[Phrase]]) -> Iterator[list[Phrase]]:
    """Yield groups of phrases that must differ but do not; `groups` maps (scope, normal form) to phrases."""
    for (scope, form), group in groups.items():
        label_phrases = [phrase for phrase in groups.get(("", form), ()) if phrase.owner == scope] if scope else []
        if len(group) + len(label_phrases) > 1:
            yield [*label_phrases, *group]


def _check_phrase(phrase: Phrase, form: str) -> Fault | None:
    """Return the fault of a single phrase with this normal form, if it has one."""
    where = phrase.description if phrase.description.startswith("background") else f"label {phrase.description}"
    if not is_visible(form):
        shown = f": {phrase.text[: prompts.MAX_CHARS_SHOWN]!r} has no visible character" if phrase.text.strip() else ""
        return _make_fault("empty_label", [phrase], f"{where} is empty{shown}")
    character = prompts.forbidden_character(phrase.text)
    if character is None:
        return None
    return _make_fault(
        "forbidden_character", [phrase], f"{where} contains the control character U+{ord(character):04X}"
    )


def _duplicate_fault(group: Sequence[Phrase]) -> Fault:
    detail = prompts.describe_duplicates([phrase.description for phrase in group], [phrase.text for phrase in group])
    return _make_fault("same_labels", group[: prompts.MAX_GROUPS_SHOWN], detail)


def _make_fault(kind: Kind, phrases: Sequence[Phrase], detail: str) -> Fault:
    return Fault(
        kind=kind,
        places=tuple(phrase.path for phrase in phrases),
        texts=tuple(phrase.text for phrase in phrases),
        detail=detail,
    )
