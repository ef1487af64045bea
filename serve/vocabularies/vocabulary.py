"""What a vocabulary is: ordered labels under a name and a version, the phrases each is known by, and how to score them.

A version never changes once it exists; every change makes the next one.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from serve.arrays import Float32Array
from serve.contract import PhraseRule
from serve.errors import InvalidVocabulary, UnknownLabel
from serve.scoring import Phrasing, Scale
from serve.text.normalization import caseless_form, normal_form
from serve.vocabularies.acceptance import Acceptance, Rule
from serve.vocabularies.faults import Fault, phrase_faults
from serve.vocabularies.labels import Example, Label

NAME_RULES: tuple[Callable[[str], str], ...] = (str, normal_form, caseless_form)  # in which a name is looked for


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """One version of a vocabulary; `templates` of its own, or None for the model's."""

    name: str
    version: int
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None
    phrase_rule: PhraseRule = "best"
    background: tuple[str, ...] = ()  # phrases of what is none of the labels
    acceptance: Acceptance | None = None  # when a label is accepted; without it every label that beats the background
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    note: str = ""  # why this version was made
    created_at: str = ""  # ISO 8601, UTC
    unreadable: tuple[Fault, ...] = ()  # values that the store holds and no JSON document can

    @property
    def reference(self) -> str:
        """`name@version`, as answers name it."""
        return f"{self.name}@{self.version}"

    def content(self) -> dict[str, Any]:
        """What a caller sends and the store keeps, as plain JSON values; written out, since `asdict` copies deeply."""
        return {
            "labels": [
                {
                    "name": label.name,
                    "label_id": label.label_id,
                    "synonyms": list(label.synonyms),
                    "negatives": list(label.negatives),
                    "threshold": label.threshold,
                    "examples": [asdict(example) for example in label.examples],
                }
                for label in self.labels
            ],
            "templates": None if self.templates is None else list(self.templates),
            "phrase_rule": self.phrase_rule,
            "background": list(self.background),
            "acceptance": None if self.acceptance is None else self.acceptance.model_dump(mode="json"),
            "description": self.description,
            "metadata": dict(self.metadata),
        }

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels [K], in order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """Every phrase of the bank [P]: those of the labels in order, then the rivals."""
        negatives = tuple(phrase for label in self.labels for phrase in label.negatives)
        return self.own_phrases + negatives + self.background

    @cached_property
    def own_phrases(self) -> tuple[str, ...]:
        """Names and synonyms of the labels, in order."""
        return tuple(phrase for label in self.labels for phrase in label.phrases)

    @cached_property
    def phrasing(self) -> Phrasing | None:
        """How the phrases make labels; None where each phrase is a label."""
        if len(self.phrases) == len(self.labels):
            return None
        return Phrasing(counts=tuple(len(label.phrases) for label in self.labels), rule=self.phrase_rule)

    @cached_property
    def thresholds(self) -> Float32Array:
        """Least value at which each label is accepted [K]; -inf where there is none."""
        common = None if self.acceptance is None else self.acceptance.threshold
        least = [common if label.threshold is None else label.threshold for label in self.labels]
        return np.array([-np.inf if value is None else value for value in least], np.float32)

    def rule(self) -> Rule:
        """Acceptance of this version, where it applies."""
        acceptance = self.acceptance or Acceptance()
        scale = Scale(temperature=acceptance.temperature, bias=acceptance.bias)
        return Rule(criterion=acceptance.criterion, thresholds=self.thresholds, scale=scale)

    @cached_property
    def examples(self) -> tuple[tuple[int, Example], ...]:
        """(place of the label, example) of every example, in order."""
        return tuple((place, example) for place, label in enumerate(self.labels) for example in label.examples)

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with this version; versions that this release made have none."""
        return (*self.unreadable, *phrase_faults(self))

    @cached_property
    def digest(self) -> str:
        """Hash of all that scores depend on but the templates: phrases and their labels, rivals, rule, examples."""
        counts = [len(label.phrases) for label in self.labels]
        clips = [(place, example.sha256) for place, example in self.examples]
        told = repr((self.phrases, counts, self.phrase_rule, clips))
        return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:16]


class LabelFinder:
    """Finds a label by label_id, or by name: as it is written, else normalized, else without regard to case."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._by_id = {label.label_id: label for label in vocabulary.labels}
        self._indices: dict[Callable[[str], str], dict[str, list[Label]]] = {}  # made when a name is looked for

    def __call__(self, key: str) -> Label:
        """The label a caller means.

        Raises:
            UnknownLabel: there is none.
            InvalidVocabulary: the name fits several labels, none of them exactly.
        """
        found = self._by_id.get(key)
        if found is not None:
            return found
        for rule in NAME_RULES:
            candidates = self._by_name(rule).get(rule(key), ())
            if len(candidates) > 1:
                raise InvalidVocabulary(
                    f"{key!r} fits {len(candidates)} labels of vocabulary {self._vocabulary.name!r}; "
                    f"name one by its label_id: {', '.join(label.label_id for label in candidates[:20])}",
                    label=key,
                )
            if candidates:
                return candidates[0]
        raise UnknownLabel(f"vocabulary {self._vocabulary.name!r} has no label {key!r}", label=key)

    def _by_name(self, rule: Callable[[str], str]) -> dict[str, list[Label]]:
        """The labels by what a rule makes of their names."""
        if rule not in self._indices:
            index: dict[str, list[Label]] = {}
            for label in self._vocabulary.labels:
                index.setdefault(rule(label.name), []).append(label)
            self._indices[rule] = index
        return self._indices[rule]
