"""Read the label files of the starter model: default vocabulary, activities, evaluation labels in four languages."""

import csv
from importlib.resources import files

LANGUAGES = ("en", "zh", "es", "de")


def everyday_labels() -> tuple[str, ...]:
    """Return the default vocabulary."""
    return tuple((files(__package__) / "everyday.txt").read_text(encoding="utf-8").splitlines())


def activity_objects() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (activity, names of ImageNet classes that are seen in it) for each activity.

    The labels of the evaluation are not among the activities.
    """
    lines = (files(__package__) / "activities.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.split(": ") for line in lines)
    return tuple((activity, tuple(objects.split(", "))) for activity, objects in parts)


def evaluation_labels() -> dict[str, tuple[str, ...]]:
    """Return the 52 labels of the evaluation by language, in the same order for every language."""
    text = (files(__package__) / "translations.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {language: tuple(row[language] for row in rows) for language in LANGUAGES}
