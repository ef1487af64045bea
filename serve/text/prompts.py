"""Templates and prompts, and the validation of labels and templates."""

import unicodedata
from collections.abc import Sequence

from serve.errors import InvalidVocabulary
from serve.text.normalization import is_visible, normal_form, same_groups, trimmed

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
OVERRIDES = "\u202d\u202e"  # overrides of the text direction, which could disguise a label
DIRECTIONS = {  # embeddings and isolates, with their closing characters
    **dict.fromkeys("\u202a\u202b", "\u202c"),
    **dict.fromkeys("\u2066\u2067\u2068", "\u2069"),
}
MAX_GROUPS_SHOWN = 20  # groups of equal labels, and labels per group
MAX_CHARS_SHOWN = 80  # of a label


def fill(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return the prompts, template-major: row = template * K + label.

    >>> fill(["waving", "bowing"], ["{}", "a video of {}"])
    ['waving', 'bowing', 'a video of waving', 'a video of bowing']
    """
    return [template.replace("{}", label) for template in templates for label in labels]


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Validate labels; return them without surrounding white space and byte-order marks.

    Raises:
        InvalidVocabulary: there are no labels, a label has no visible character or has control characters, or labels
            are equal when normalised; names all of them.

    >>> check_labels([" waving", "bowing"])
    ('waving', 'bowing')
    """
    if not labels:
        raise InvalidVocabulary("there is no label")
    cleaned = tuple(trimmed(label) for label in labels)
    for index, label in enumerate(cleaned):
        check_text(label, f"label {index}")
    groups = same_groups(map(normal_form, cleaned))
    if groups:
        raise InvalidVocabulary(
            "; ".join(same_words(group, [cleaned[index] for index in group]) for group in groups[:MAX_GROUPS_SHOWN]),
            indices=groups[0],
            same_labels=[[cleaned[index] for index in group] for group in groups[:MAX_GROUPS_SHOWN]],
        )
    return cleaned


def same_words(places: Sequence[object], texts: Sequence[str]) -> str:
    """Describe labels with the same normal form; invisible characters are escaped.

    >>> same_words([0, 2], ["waving", "Waving"])
    "labels 0 and 2 are the same: 'waving' and 'Waving'"
    """
    shown = [repr(text[:MAX_CHARS_SHOWN]) for text in texts[:MAX_GROUPS_SHOWN]]
    where = [str(place) for place in places[:MAX_GROUPS_SHOWN]]
    return f"labels {_joined(where)} are the same: {_joined(shown)}"


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates.

    Raises:
        InvalidVocabulary: there are no templates, one does not have exactly one `{}` or has control characters, or two
        are equal.

    >>> check_templates(["a video of {}"])
    ('a video of {}',)
    """
    if not templates:
        raise InvalidVocabulary("there is no template")
    for index, template in enumerate(templates):
        check_text(template, f"template {index}")
        if template.count("{}") != 1:
            raise InvalidVocabulary(
                f"template {index}, {template!r}, holds {template.count('{}')} times {{}}; exactly one is needed",
                index=index,
            )
    for group in same_groups(map(normal_form, templates)):
        raise InvalidVocabulary(
            f"templates {group[0]} and {group[1]} are the same: {templates[group[0]]!r} and {templates[group[1]]!r}",
            indices=group,
        )
    return tuple(templates)


def check_text(text: str, name: str) -> None:
    """Refuse a phrase or template without visible characters or with forbidden ones.

    Raises:
        InvalidVocabulary: the text is refused; names the text and the character.

    >>> check_text("waving", "label 0")
    """
    if text.isascii() and text.isprintable() and "&" not in text and text.strip():
        return
    if not is_visible(normal_form(text)):
        shown = "" if not text.strip() else f": {text[:MAX_CHARS_SHOWN]!r} has no visible character"
        raise InvalidVocabulary(f"{name} is empty{shown}")
    character = forbidden_character(text)
    if character is not None:
        raise InvalidVocabulary(f"{name} holds the control character U+{ord(character):04X}")


def forbidden_character(text: str) -> str | None:
    """Return the first forbidden character, or None.

    Forbidden are control characters, unpaired surrogates, overrides of the text direction, and other directional
    controls that are not closed within the text and would affect the text after it.

    >>> forbidden_character("waving")
    >>> forbidden_character("a\\tb")
    '\\t'
    """
    if text.isascii() and text.isprintable():
        return None
    is_open: list[str] = []
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") or character in OVERRIDES:
            return character
        if character in DIRECTIONS:
            is_open.append(character)
        elif character in DIRECTIONS.values() and (not is_open or DIRECTIONS[is_open.pop()] != character):
            return character
    return is_open[-1] if is_open else None


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
