"""Labels of a vocabulary and their example clips, as values."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip that shows a label; the store holds its bytes under their hash."""

    example_id: str
    sha256: str
    filename: str  # from the client; for display, never used as a path
    num_bytes: int
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class Label:
    """One class: its name, synonyms, and negative phrases that compete with it."""

    label_id: str  # made by the server; a rename keeps it
    name: str
    synonyms: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()  # their probability counts as none of the labels
    threshold: float | None = None  # None: that of the vocabulary
    examples: tuple[Example, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """Return the phrases that are compared with a video: the name, then the synonyms."""
        return (self.name, *self.synonyms)
