"""What a vocabulary is: ordered labels under a name and a version, the phrases each is known by, and how to score them.

A version never changes once it exists; every change makes the next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from serve.contract import PhraseRule
from serve.scoring import Phrasing


@dataclass(frozen=True, kw_only=True)
class Label:
    """One class: its name, other phrases for it, and phrases that are near it and are not it."""

    label_id: str  # stable through renames; made by the server
    name: str
    synonyms: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()  # their probability counts as none of the labels

    @property
    def phrases(self) -> tuple[str, ...]:
        """What is compared with a video: the name, then the synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """One version of a vocabulary; `templates` of its own, or None for the model's."""

    name: str
    version: int
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None
    phrase_rule: PhraseRule = "best"
    background: tuple[str, ...] = ()  # phrases of what is none of the labels
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    note: str = ""  # why this version was made
    created_at: str = ""  # ISO 8601, UTC

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
                }
                for label in self.labels
            ],
            "templates": None if self.templates is None else list(self.templates),
            "phrase_rule": self.phrase_rule,
            "background": list(self.background),
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
        own = tuple(phrase for label in self.labels for phrase in label.phrases)
        negatives = tuple(phrase for label in self.labels for phrase in label.negatives)
        return own + negatives + self.background

    @cached_property
    def phrasing(self) -> Phrasing | None:
        """How the phrases make labels; None where each phrase is a label."""
        if len(self.phrases) == len(self.labels):
            return None
        return Phrasing(counts=tuple(len(label.phrases) for label in self.labels), rule=self.phrase_rule)
