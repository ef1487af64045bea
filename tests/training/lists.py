"""Rows of a list in one call."""

from pathlib import Path

from training.data.lists.listing import read_listing
from training.data.lists.rows import ListOptions, ListRow


def read_rows(kind: str, path: Path, *, root: Path | None = None) -> list[ListRow]:
    """Rows of a list of a kind."""
    return list(read_listing(path, ListOptions(kind=kind, root=root)).rows)
