"""Vocabulary: ordered labels under a name and a version, the phrases of each label, and the scoring rule.

A version never changes; every change makes the next version.
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
from serve.scoring import LogitScaling, PhraseLayout
from serve.text.normalization import caseless_form, normal_form
from serve.vocabularies.acceptance import Acceptance, AcceptanceRule
from serve.vocabularies.faults import Fault, phrase_faults
from serve.vocabularies.labels import Example, Label

NAME_RULES: tuple[Callable[[str], str], ...] = (
    str,
    normal_form,
    caseless_form,
)  # the forms in which a name is looked up, in order


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """One version of a vocabulary; without `templates`, those of the model apply."""

    name: str
    version: int
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None
    phrase_rule: PhraseRule = "best"
    background: tuple[str, ...] = ()  # phrases of what is none of the labels
    acceptance: Acceptance | None = None  # without it every label that exceeds the rivals is accepted
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    note: str = ""  # why this version was made
    created_at: str = ""  # ISO 8601, UTC
    unreadable: tuple[Fault, ...] = ()  # values in the store that JSON does not have

    @property
    def reference(self) -> str:
        """`name@version`, as answers name it."""
        return f"{self.name}@{self.version}"

    def content(self) -> dict[str, Any]:
        """Return the content as plain JSON values, as clients send it and the store keeps it."""
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
        """Return the names of the labels [K], in order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """Return all phrases of the bank [P]: those of the labels in order, then the rivals."""
        negatives = tuple(phrase for label in self.labels for phrase in label.negatives)
        return self.own_phrases + negatives + self.background

    @cached_property
    def own_phrases(self) -> tuple[str, ...]:
        """Return names and synonyms of the labels, in order."""
        return tuple(phrase for label in self.labels for phrase in label.phrases)

    @cached_property
    def phrase_layout(self) -> PhraseLayout | None:
        """Return the rule from phrases to labels; None if each phrase is a label."""
        if len(self.phrases) == len(self.labels):
            return None
        return PhraseLayout(counts=tuple(len(label.phrases) for label in self.labels), rule=self.phrase_rule)

    @cached_property
    def thresholds(self) -> Float32Array:
        """Return the threshold of each label [K]; -inf if it has none."""
        common = None if self.acceptance is None else self.acceptance.threshold
        least = [common if label.threshold is None else label.threshold for label in self.labels]
        return np.array([-np.inf if value is None else value for value in least], np.float32)

    def rule(self) -> AcceptanceRule:
        """Return the acceptance rule of this version."""
        acceptance = self.acceptance or Acceptance()
        scale = LogitScaling(temperature=acceptance.temperature, bias=acceptance.bias)
        return AcceptanceRule(criterion=acceptance.criterion, thresholds=self.thresholds, scale=scale)

    @cached_property
    def examples(self) -> tuple[tuple[int, Example], ...]:
        """Return (index of the label, example) of every example, in order."""
        return tuple((place, example) for place, label in enumerate(self.labels) for example in label.examples)

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """Return the faults of this version; versions made by this release have none."""
        return (*self.unreadable, *phrase_faults(self))

    @cached_property
    def digest(self) -> str:
        """Return a hash of everything that scores depend on, except templates: phrases, rivals, rule and examples."""
        counts = [len(label.phrases) for label in self.labels]
        clips = [(place, example.sha256) for place, example in self.examples]
        content = repr((self.phrases, counts, self.phrase_rule, clips))
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]


class LabelFinder:
    """Finds a label by label_id or by name: first as written, then normalized, then ignoring case."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._by_id = {label.label_id: label for label in vocabulary.labels}
        self._indices: dict[Callable[[str], str], dict[str, list[Label]]] = {}  # built on first use

    def __call__(self, key: str) -> Label:
        """Return the label of a label_id or name.

        Raises:
            UnknownLabel: there is none.
            InvalidVocabulary: the name matches several labels, none of them exactly.
        """
        found = self._by_id.get(key)
        if found is not None:
            return found
        for rule in NAME_RULES:
            candidates = self._by_name(rule).get(rule(key), ())
            if len(candidates) > 1:
                raise InvalidVocabulary(
                    f"{key!r} matches {len(candidates)} labels of vocabulary {self._vocabulary.name!r}; "
                    f"name one by its label_id: {', '.join(label.label_id for label in candidates[:20])}",
                    label=key,
                )
            if candidates:
                return candidates[0]
        raise UnknownLabel(f"vocabulary {self._vocabulary.name!r} has no label {key!r}", label=key)

    def _by_name(self, rule: Callable[[str], str]) -> dict[str, list[Label]]:
        """Return the labels by the form of their names under a rule."""
        if rule not in self._indices:
            index: dict[str, list[Label]] = {}
            for label in self._vocabulary.labels:
                index.setdefault(rule(label.name), []).append(label)
            self._indices[rule] = index
        return self._indices[rule]
