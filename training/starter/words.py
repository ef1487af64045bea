"""Label files of the starter model: its default vocabulary, and the evaluation's labels in four languages."""

import csv
from importlib.resources import files

LANGUAGES = ("en", "zh", "es", "de")


def everyday() -> tuple[str, ...]:
    """The default vocabulary."""
    return tuple((files(__package__) / "everyday.txt").read_text(encoding="utf-8").splitlines())


def activities() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Activities and the objects seen in them, by names WordNet has for classes of ImageNet.

    None is a label of the evaluation.
    """
    lines = (files(__package__) / "activities.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.split(": ") for line in lines)
    return tuple((activity, tuple(objects.split(", "))) for activity, objects in parts)


def translations() -> dict[str, tuple[str, ...]]:
    """Language -> the 52 labels the model was evaluated with, in one order."""
    text = (files(__package__) / "translations.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {language: tuple(row[language] for row in rows) for language in LANGUAGES}
