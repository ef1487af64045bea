"""Faults of the phrases of a vocabulary: changes refuse them, and reads report those of stored vocabularies.

Older releases accepted labels that make the same prompt, or that have no visible character. Such a vocabulary can
still be read, and patched as long as the patch does not touch these labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serve.errors import InvalidVocabulary
from serve.text import prompts
from serve.text.normalization import is_visible, normal_form
from serve.vocabularies.labels import Label

MAX_SHOWN = 20  # faults in one message

Kind = Literal["same_labels", "empty_label", "forbidden_character", "unreadable_value"]


class PhraseSet(Protocol):
    """The phrases of a vocabulary."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, in order."""
        ...

    @property
    def background(self) -> tuple[str, ...]:
        """Phrases of what is none of the labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault and its place."""

    kind: Kind
    places: tuple[str, ...]  # as in the JSON document, e.g. `labels[2].name`
    texts: tuple[str, ...]  # the text at each place
    detail: str


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A phrase of a vocabulary and its place."""

    place: str
    words: str  # the place as words of a message
    owner: str  # label_id; empty of a background phrase
    text: str
    competes: bool  # a negative or background phrase

    @property
    def identity(self) -> tuple[str, str]:
        """Return what identifies the phrase until it is edited."""
        return self.owner, self.text


def phrase_faults(vocabulary: PhraseSet, *, known: PhraseSet | None = None) -> list[Fault]:
    """Return the faults of a vocabulary, except those whose phrases are all in `known`, the previous version.

    Names and synonyms must differ between all labels, since two labels with one prompt share its score. A negative
    phrase must differ from the phrases of its own label, a background phrase from those of every label.
    """
    if _is_faultless(vocabulary):
        return []
    old = set() if known is None else {phrase.identity for phrase in _phrases(known)}
    found: list[Fault] = []
    groups: dict[tuple[str, str], list[Phrase]] = {}
    for phrase in _phrases(vocabulary):
        form = normal_form(phrase.text)
        fault = _fault_alone(phrase, form)
        if fault is None:
            groups.setdefault((_scope(phrase), form), []).append(phrase)
        elif phrase.identity not in old:
            found.append(fault)
    for group in _same(groups):
        if any(phrase.identity not in old for phrase in group):
            found.append(_same_fault(group))
    return found


def refuse_faults(faults: Sequence[Fault]) -> None:
    """Raise if there are faults.

    Raises:
        InvalidVocabulary: names up to `MAX_SHOWN` places.
    """
    if faults:
        raise InvalidVocabulary(
            "; ".join(fault.detail for fault in faults[:MAX_SHOWN]),
            places=[list(fault.places) for fault in faults[:MAX_SHOWN]],
            same_labels=[list(fault.texts) for fault in faults[:MAX_SHOWN] if fault.kind == "same_labels"],
        )


def _is_faultless(vocabulary: PhraseSet) -> bool:
    """Return whether there are no faults; many times faster than `phrase_faults`, since it records no places."""
    seen: set[str] = set()
    for label in vocabulary.labels:
        own = {normal_form(text) for text in label.phrases}
        forms = own.union(map(normal_form, label.negatives)) if label.negatives else own
        if len(forms) < len(label.phrases) + len(label.negatives) or not seen.isdisjoint(own):
            return False
        if not all(map(is_visible, forms)) or any(map(prompts.forbidden_character, (*label.phrases, *label.negatives))):
            return False
        seen |= own
    background = {normal_form(text) for text in vocabulary.background}
    return (
        len(background) == len(vocabulary.background)
        and seen.isdisjoint(background)
        and all(map(is_visible, background))
        and not any(map(prompts.forbidden_character, vocabulary.background))
    )


def _phrases(vocabulary: PhraseSet) -> Iterator[Phrase]:
    for index, label in enumerate(vocabulary.labels):
        yield Phrase(
            place=f"labels[{index}].name", words=str(index), owner=label.label_id, text=label.name, competes=False
        )
        for kind, texts in (("synonyms", label.synonyms), ("negatives", label.negatives)):
            for number, text in enumerate(texts):
                yield Phrase(
                    place=f"labels[{index}].{kind}[{number}]",
                    words=f"{index} ({kind[:-1]} {number} of {label.name[: prompts.MAX_CHARS_SHOWN]!r})",
                    owner=label.label_id,
                    text=text,
                    competes=kind == "negatives",
                )
    for number, text in enumerate(vocabulary.background):
        yield Phrase(
            place=f"background[{number}]", words=f"background phrase {number}", owner="", text=text, competes=True
        )


def _scope(phrase: Phrase) -> str:
    """Return the scope in which a phrase must be unique; a negative may be the name of another label."""
    return phrase.owner if phrase.competes and phrase.owner else ""


def _same(groups: dict[tuple[str, str], list[Phrase]]) -> Iterator[list[Phrase]]:
    for (scope, form), group in groups.items():
        rivals = [phrase for phrase in groups.get(("", form), ()) if phrase.owner == scope] if scope else []
        if len(group) + len(rivals) > 1:
            yield [*rivals, *group]


def _fault_alone(phrase: Phrase, form: str) -> Fault | None:
    where = phrase.words if phrase.words.startswith("background") else f"label {phrase.words}"
    if not is_visible(form):
        shown = f": {phrase.text[: prompts.MAX_CHARS_SHOWN]!r} has no visible character" if phrase.text.strip() else ""
        return _fault("empty_label", [phrase], f"{where} is empty{shown}")
    character = prompts.forbidden_character(phrase.text)
    if character is None:
        return None
    return _fault("forbidden_character", [phrase], f"{where} holds the control character U+{ord(character):04X}")


def _same_fault(group: Sequence[Phrase]) -> Fault:
    words = prompts.same_words([phrase.words for phrase in group], [phrase.text for phrase in group])
    return _fault("same_labels", group[: prompts.MAX_GROUPS_SHOWN], words)


def _fault(kind: Kind, phrases: Sequence[Phrase], detail: str) -> Fault:
    return Fault(
        kind=kind,
        places=tuple(phrase.place for phrase in phrases),
        texts=tuple(phrase.text for phrase in phrases),
        detail=detail,
    )
