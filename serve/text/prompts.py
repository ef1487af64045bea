"""Templates, prompts made of them, and what labels and templates may be."""

import unicodedata
from collections.abc import Sequence

from serve.errors import InvalidVocabulary

ACTIONCLIP_TEMPLATES = (  # in the published order: the index is the template's id
    "a photo of action {}",
    "a picture of action {}",
    "Human action of {}",
    "{}, an action",
    "{} this is an action",
    "{}, a video of action",
    "Playing action of {}",
    "{}",
    "Playing a kind of action, {}",
    "Doing a kind of action, {}",
    "Look, the human is {}",
    "Can you recognize the action of {}?",
    "Video classification of {}",
    "A video of {}",
    "The man is {}",
    "The woman is {}",
)
XCLIP_TEMPLATES = ("{}",)
TURNS_AROUND = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # make a label read as another


def fill(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Prompts, template-major: row = template * K + label."""
    return [template.replace("{}", label) for template in templates for label in labels]


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels with white space around them removed.

    Raises:
        InvalidVocabulary: none at all, an empty one, control characters, or two that are the same to a reader.
    """
    if not labels:
        raise InvalidVocabulary("there is no label")
    cleaned = tuple(label.strip() for label in labels)
    seen: dict[str, int] = {}
    for index, label in enumerate(cleaned):
        _check_text(label, f"label {index}")
        first = seen.setdefault(comparable(label), index)
        if first != index:
            raise InvalidVocabulary(
                f"labels {first} and {index} are the same: {cleaned[first]!r} and {label!r}", indices=[first, index]
            )
    return cleaned


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates.

    Raises:
        InvalidVocabulary: none at all, one without or with several `{}`, or control characters.
    """
    if not templates:
        raise InvalidVocabulary("there is no template")
    for index, template in enumerate(templates):
        _check_text(template, f"template {index}")
        if template.count("{}") != 1:
            raise InvalidVocabulary(
                f"template {index}, {template!r}, holds {template.count('{}')} times {{}}; exactly one is needed",
                index=index,
            )
    return tuple(templates)


def comparable(label: str) -> str:
    """A label as a reader sees it: Unicode normal form, case and white space folded."""
    folded = label.lower() if label.isascii() else unicodedata.normalize("NFKC", label).casefold()
    return " ".join(folded.split())


def _check_text(text: str, name: str) -> None:
    if not text.strip():
        raise InvalidVocabulary(f"{name} is empty")
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") or character in TURNS_AROUND:
            raise InvalidVocabulary(f"{name} holds the control character U+{ord(character):04X}")
