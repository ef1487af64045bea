"""Normalise labels for comparison. Every write compares labels by this form, independently of the model.

Two labels with the same normal form would result in the same prompt or look the same to a user. The normal form is used
for comparison only; the caller's text is stored and shown without leading and trailing whitespace.

- Unicode compatibility composition (NFKC): full-width letters, ligatures, composed and decomposed accents.
- HTML character references are resolved, including references that were escaped repeatedly.
- Typographic apostrophes, quotes, dashes, slashes, colons, tildes and ellipses become their ASCII forms.
- Invisible characters are removed: zero-width spaces, byte-order marks, directional marks, variation selectors, soft
  hyphens, fillers. Joiners are kept where they change the rendering: inside an emoji sequence, after a virama of an
  Indic script, and between letters of a cursive script. Flags that are encoded as emoji tag sequences are kept.
- Each run of whitespace becomes one space.

Letter case is kept: "Polish" and "polish" are different labels. `serve.text.merged_labels` reports labels that
the tokenizer of a model does not distinguish, for example because it ignores case.
"""

import html
import re
import unicodedata
from collections.abc import Iterable

import regex

LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("`´ʹʻʼʽˈ՚Ꞌꞌ‘’‚‛′‵＇׳", "'"),
        **dict.fromkeys("“”„‟«»〝〞〟＂״", '"'),
        "″": "''",
        **dict.fromkeys("‐‑‒–—―−﹘﹣－⁃", "-"),
        **dict.fromkeys("⁄∕", "/"),  # NFKC writes ½ with a fraction slash
        **dict.fromkeys("∶", ":"),
        "∼": "~",
        "…": "...",
        **dict.fromkeys("\u2800\U0001d159", " "),  # blank glyphs: BRAILLE PATTERN BLANK, MUSICAL SYMBOL NULL NOTEHEAD
    }
)
JOINING_SCRIPTS = r"\p{Arabic}\p{Syriac}\p{Mandaic}\p{Nko}\p{Mongolian}\p{Phags_Pa}\p{Manichaean}\p{Adlam}"
SIGNIFICANT_INVISIBLE = "|".join(  # invisible characters that change how their neighbours are rendered
    (
        r"(?<=\p{Extended_Pictographic}[\uFE0F\U0001F3FB-\U0001F3FF]{0,2})\u200D(?=\p{Extended_Pictographic})",
        r"(?<=\p{ccc=9})[\u200C\u200D]",
        rf"(?<=[{JOINING_SCRIPTS}]\p{{M}}{{0,4}})[\u200C\u200D](?=[{JOINING_SCRIPTS}])",
        r"(?<=\U0001F3F4)[\U000E0020-\U000E007E]+\U000E007F",
    )
)
IGNORABLE = r"[\p{Default_Ignorable_Code_Point}\uFFF9-\uFFFB]"
CONTAINS_IGNORABLE = regex.compile(
    IGNORABLE
)  # cheap check; most texts contain none, so that the slow pattern is skipped
INVISIBLE = regex.compile(rf"({SIGNIFICANT_INVISIBLE})|{IGNORABLE}")
VISIBLE = regex.compile(r"[^\p{M}\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Noncharacter_Code_Point}]")
SURROUNDING_SPACE = re.compile(r"^[\s\ufeff]+|[\s\ufeff]+$")
REPEATED_ESCAPES = re.compile(r"&(?:amp;)+", re.IGNORECASE)
MAX_PASSES = 10  # a text that still changes after these passes is adversarial; each pass is linear in its length


def trim(text: str) -> str:
    """Return the text without leading and trailing whitespace and byte-order marks."""
    return (
        text
        if text.isascii() and text.isprintable() and text[:1] > " " < text[-1:]
        else SURROUNDING_SPACE.sub("", text)
    )


def normal_form(text: str) -> str:
    """Return the form by which labels are compared; labels with equal forms are duplicates."""
    if text.isascii() and "&" not in text and "`" not in text:
        return " ".join(text.split())
    for _ in range(MAX_PASSES):
        before = text
        if "&" in text:
            text = html.unescape(REPEATED_ESCAPES.sub("&", text))
        text = unicodedata.normalize("NFKC", text.translate(LOOKALIKES))
        if CONTAINS_IGNORABLE.search(text):
            text = INVISIBLE.sub(r"\1", text)
        if text == before:
            break
    return " ".join(text.split())


def caseless_form(text: str) -> str:
    """Return the case-folded normal form, for finding a label by a name that a user typed."""
    return normal_form(text).casefold()


def is_visible(normal: str) -> bool:
    """Return whether a normal form contains a letter, digit, symbol or emoji, not only combining marks."""
    return bool(normal) and (normal.isascii() or VISIBLE.search(normal) is not None)


def duplicate_groups(normal_forms: Iterable[str]) -> list[list[int]]:
    """Return groups of indices whose normal forms are equal, ordered by the first index of each group."""
    indices: dict[str, list[int]] = {}
    for index, form in enumerate(normal_forms):
        indices.setdefault(form, []).append(index)
    return [group for group in indices.values() if len(group) > 1]
