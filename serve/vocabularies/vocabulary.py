"""A vocabulary: a named, versioned, ordered list of labels with their phrases, thresholds and examples.

A version is immutable; every change creates the next version.
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

NAME_FORMS: tuple[Callable[[str], str], ...] = (
    str,
    normal_form,
    caseless_form,
)  # forms by which a label name is looked up, tried in this order


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """One version of a vocabulary."""

    name: str
    version: int
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None  # None: the templates of the model
    phrase_rule: PhraseRule = "best"
    background: tuple[str, ...] = ()  # phrases for videos that show none of the labels
    acceptance: Acceptance | None = None  # None: labels that score above "none of the labels" are accepted
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    note: str = ""  # why this version was created
    created_at: str = ""  # ISO 8601, UTC
    unreadable: tuple[Fault, ...] = ()  # stored values that JSON cannot represent

    @property
    def reference(self) -> str:
        """`name@version`, as used in responses."""
        return f"{self.name}@{self.version}"

    def content(self) -> dict[str, Any]:
        """Return the content as plain JSON values, in the format that clients send and the database stores."""
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
        """Return all phrases of the bank [P]: phrases of the labels in order, then negatives, then background."""
        negatives = tuple(phrase for label in self.labels for phrase in label.negatives)
        return self.label_phrases + negatives + self.background

    @cached_property
    def label_phrases(self) -> tuple[str, ...]:
        """Return the names and synonyms of all labels, in order."""
        return tuple(phrase for label in self.labels for phrase in label.phrases)

    @cached_property
    def phrase_layout(self) -> PhraseLayout | None:
        """Return how phrases are combined into labels; None if each phrase is a label."""
        if len(self.phrases) == len(self.labels):
            return None
        return PhraseLayout(counts=tuple(len(label.phrases) for label in self.labels), rule=self.phrase_rule)

    @cached_property
    def thresholds(self) -> Float32Array:
        """Return the threshold of each label [K]; -inf if it has none."""
        common = None if self.acceptance is None else self.acceptance.threshold
        thresholds = [common if label.threshold is None else label.threshold for label in self.labels]
        return np.array([-np.inf if value is None else value for value in thresholds], np.float32)

    def acceptance_rule(self) -> AcceptanceRule:
        """Return the acceptance rule of this version."""
        acceptance = self.acceptance or Acceptance()
        scale = LogitScaling(temperature=acceptance.temperature, bias=acceptance.bias)
        return AcceptanceRule(criterion=acceptance.criterion, thresholds=self.thresholds, scale=scale)

    @cached_property
    def examples(self) -> tuple[tuple[int, Example], ...]:
        """Return (index of the label, example) of every example, in order."""
        return tuple((index, example) for index, label in enumerate(self.labels) for example in label.examples)

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """Return the validation errors of this version; only versions stored by older releases can have any."""
        return (*self.unreadable, *phrase_faults(self))

    @cached_property
    def digest(self) -> str:
        """Return a hash of what scores depend on, except templates: all phrases, the phrase rule and the examples."""
        counts = [len(label.phrases) for label in self.labels]
        clips = [(index, example.sha256) for index, example in self.examples]
        content = repr((self.phrases, counts, self.phrase_rule, clips))
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]


class LabelFinder:
    """Finds a label by label_id or by name; a name is compared exactly, then normalised, then ignoring case."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._by_id = {label.label_id: label for label in vocabulary.labels}
        self._labels_by_form: dict[Callable[[str], str], dict[str, list[Label]]] = {}  # filled on first use

    def __call__(self, key: str) -> Label:
        """Return the label with this label_id or name.

        Raises:
            UnknownLabel: no label matches.
            InvalidVocabulary: the name matches several labels, none of them exactly.
        """
        label = self._by_id.get(key)
        if label is not None:
            return label
        for form in NAME_FORMS:
            candidates = self._group_by_form(form).get(form(key), ())
            if len(candidates) > 1:
                raise InvalidVocabulary(
                    f"{key!r} matches {len(candidates)} labels of vocabulary {self._vocabulary.name!r}; "
                    f"name one by its label_id: {', '.join(label.label_id for label in candidates[:20])}",
                    label=key,
                )
            if candidates:
                return candidates[0]
        raise UnknownLabel(f"vocabulary {self._vocabulary.name!r} has no label {key!r}", label=key)

    def _group_by_form(self, form: Callable[[str], str]) -> dict[str, list[Label]]:
        """Return the labels by a form of their names, e.g. the normal form."""
        if form not in self._labels_by_form:
            groups: dict[str, list[Label]] = {}
            for label in self._vocabulary.labels:
                groups.setdefault(form(label.name), []).append(label)
            self._labels_by_form[form] = groups
        return self._labels_by_form[form]
