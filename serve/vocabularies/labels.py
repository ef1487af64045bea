"""Labels of a vocabulary and their example clips, as values."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip that shows a label; its bytes lie in the store under their hash."""

    example_id: str
    sha256: str
    filename: str  # as the caller named it; to be shown, never a path
    num_bytes: int
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class Label:
    """One class: its name, other phrases for it, and phrases that are near it and are not it."""

    label_id: str  # stable through renames; made by the server
    name: str
    synonyms: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()  # their probability counts as none of the labels
    threshold: float | None = None  # of its own; the vocabulary's where None
    examples: tuple[Example, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """What is compared with a video: the name, then the synonyms."""
        return (self.name, *self.synonyms)
