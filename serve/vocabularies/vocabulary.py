"""What a vocabulary is: ordered labels under a name and a version, and how to score them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Ordered class names; `templates` of its own, or None for the model's."""

    name: str
    version: int
    labels: tuple[str, ...]
    templates: tuple[str, ...] | None = None
    description: str = ""

    @property
    def reference(self) -> str:
        """`name@version`, as answers name it."""
        return f"{self.name}@{self.version}"
