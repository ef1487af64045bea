"""Value types: a label of a vocabulary and its example clips."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip that shows a label; the database stores its bytes by SHA-256."""

    example_id: str
    sha256: str
    filename: str  # from the client; for display, never used as a path
    num_bytes: int
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, kw_only=True)
class Label:
    """One class: its name, synonyms, and negative phrases that compete with it."""

    label_id: str  # assigned by the server; unchanged by a rename
    name: str
    synonyms: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()  # their probability counts towards "none of the labels"
    threshold: float | None = None  # None: the threshold of the vocabulary
    examples: tuple[Example, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """Return the phrases that describe the label: its name, then its synonyms."""
        return (self.name, *self.synonyms)
