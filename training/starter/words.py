"""Label files of the starter model: default vocabulary, and labels of the evaluation in four languages."""

import csv
from importlib.resources import files

LANGUAGES = ("en", "zh", "es", "de")


def everyday() -> tuple[str, ...]:
    """Return the default vocabulary."""
    return tuple((files(__package__) / "everyday.txt").read_text(encoding="utf-8").splitlines())


def activities() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return activities with their objects, by WordNet names of ImageNet classes.

    No activity is a label of the evaluation.
    """
    lines = (files(__package__) / "activities.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.split(": ") for line in lines)
    return tuple((activity, tuple(objects.split(", "))) for activity, objects in parts)


def translations() -> dict[str, tuple[str, ...]]:
    """Return language -> the 52 labels of the evaluation, in the same order."""
    text = (files(__package__) / "translations.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {language: tuple(row[language] for row in rows) for language in LANGUAGES}
