"""Templates and prompts, and the validation of labels and templates."""

import unicodedata
from collections.abc import Sequence

from serve.errors import InvalidVocabulary
from serve.text.normalization import duplicate_groups, is_visible, normal_form, trim

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
DIRECTION_OVERRIDES = "\u202d\u202e"  # override the text direction, which could disguise a label
DIRECTION_CONTROLS = {  # directional embeddings and isolates -> the character that closes them
    **dict.fromkeys("\u202a\u202b", "\u202c"),
    **dict.fromkeys("\u2066\u2067\u2068", "\u2069"),
}
CLOSING_CONTROLS = frozenset(DIRECTION_CONTROLS.values())
MAX_GROUPS_SHOWN = 20  # in messages: groups of duplicate labels, and labels per group
MAX_CHARS_SHOWN = 80  # in messages: characters of a label


def fill(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return the prompts, template-major: row = template * K + label.

    >>> fill(["waving", "bowing"], ["{}", "a video of {}"])
    ['waving', 'bowing', 'a video of waving', 'a video of bowing']
    """
    return [template.replace("{}", label) for template in templates for label in labels]


def clean_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Validate labels; return them without surrounding whitespace and byte-order marks.

    Raises:
        InvalidVocabulary: there are no labels, a label has no visible character or contains a control character, or
            labels have the same normal form; the message lists them.

    >>> clean_labels([" waving", "bowing"])
    ('waving', 'bowing')
    """
    if not labels:
        raise InvalidVocabulary("there are no labels; at least 1 is needed")
    cleaned = tuple(trim(label) for label in labels)
    for index, label in enumerate(cleaned):
        check_text(label, f"label {index}")
    groups = duplicate_groups(map(normal_form, cleaned))
    if groups:
        raise InvalidVocabulary(
            "; ".join(
                describe_duplicates(group, [cleaned[index] for index in group]) for group in groups[:MAX_GROUPS_SHOWN]
            ),
            indices=groups[0],
            same_labels=[[cleaned[index] for index in group] for group in groups[:MAX_GROUPS_SHOWN]],
        )
    return cleaned


def describe_duplicates(positions: Sequence[object], texts: Sequence[str]) -> str:
    """Return a message about labels with the same normal form; invisible characters are escaped.

    >>> describe_duplicates([0, 2], ["waving", "Waving"])
    "labels 0 and 2 are the same: 'waving' and 'Waving'"
    """
    shown = [repr(text[:MAX_CHARS_SHOWN]) for text in texts[:MAX_GROUPS_SHOWN]]
    where = [str(position) for position in positions[:MAX_GROUPS_SHOWN]]
    return f"labels {_join(where)} are the same: {_join(shown)}"


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Validate templates; return them as a tuple.

    Raises:
        InvalidVocabulary: there are no templates, a template does not contain exactly one `{}` or contains a control
            character, or two templates have the same normal form.

    >>> check_templates(["a video of {}"])
    ('a video of {}',)
    """
    if not templates:
        raise InvalidVocabulary("there are no templates; at least 1 is needed")
    for index, template in enumerate(templates):
        check_text(template, f"template {index}")
        if template.count("{}") != 1:
            raise InvalidVocabulary(
                f"template {index}, {template!r}, contains {{}} {template.count('{}')} times; it must contain it once",
                index=index,
            )
    for group in duplicate_groups(map(normal_form, templates)):
        raise InvalidVocabulary(
            f"templates {group[0]} and {group[1]} are the same: {templates[group[0]]!r} and {templates[group[1]]!r}",
            indices=group,
        )
    return tuple(templates)


def check_text(text: str, name: str) -> None:
    """Reject a phrase or template without a visible character or with a forbidden one.

    Raises:
        InvalidVocabulary: the text is rejected; the message contains `name` and the character.

    >>> check_text("waving", "label 0")
    """
    if text.isascii() and text.isprintable() and "&" not in text and text.strip():
        return
    if not is_visible(normal_form(text)):
        shown = "" if not text.strip() else f": {text[:MAX_CHARS_SHOWN]!r} has no visible character"
        raise InvalidVocabulary(f"{name} is empty{shown}")
    character = forbidden_character(text)
    if character is not None:
        raise InvalidVocabulary(f"{name} contains the control character U+{ord(character):04X}")


def forbidden_character(text: str) -> str | None:
    """Return a forbidden character of the text, or None.

    Control characters, unpaired surrogates and direction overrides are forbidden, as are other directional controls
    that are not closed within the text and would affect the text after it.

    >>> forbidden_character("waving")
    >>> forbidden_character("a\\tb")
    '\\t'
    """
    if text.isascii() and text.isprintable():
        return None
    open_controls: list[str] = []
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION_OVERRIDES:
            return character
        if character in DIRECTION_CONTROLS:
            open_controls.append(character)
        elif character in CLOSING_CONTROLS and (
            not open_controls or DIRECTION_CONTROLS[open_controls.pop()] != character
        ):
            return character
    return open_controls[-1] if open_controls else None


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
