"""The normal form of labels: one comparison of texts for every write, independent of any model.

Two labels with one normal form would become the same prompt, or look the same to a reader, and share one score. The
normal form is for comparison only; what is stored and shown is the text of the caller without outer white space.

- Unicode compatibility composition (NFKC): full-width letters, ligatures, composed and decomposed accents.
- HTML character references are resolved, also those that were escaped several times.
- Typographic apostrophes, quotes, dashes and ellipses become their ASCII forms.
- Characters without a picture are removed: zero-width spaces, byte-order marks, directional marks, variation
  selectors, soft hyphens, fillers. A joiner stays where it changes what is shown: inside an emoji sequence, after a
  virama of an Indic script, between letters of a script that joins them. Flags that are spelt with tags stay whole.
- White space becomes one space.

Letter case is kept: "Polish" and "polish" are different labels. A model whose tokenizer folds case merges them, which
`serve.text.merges` reports for each model.
"""

import html
import re
import unicodedata
from collections.abc import Iterable

import regex

LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("`´ʹʻʼʽˈ‘’‚‛′‵＇׳", "'"),
        **dict.fromkeys("“”„‟«»〝〞〟＂״", '"'),
        "″": "''",
        **dict.fromkeys("‐‑‒–—―−﹘﹣－⁃", "-"),
        "…": "...",
        **dict.fromkeys("\u2800\U0001d159", " "),  # blank pictures: Braille without dots, a note without a head
    }
)
JOINING_SCRIPTS = r"\p{Arabic}\p{Syriac}\p{Mandaic}\p{Nko}\p{Mongolian}\p{Phags_Pa}\p{Manichaean}\p{Adlam}"
MEANINGFUL = "|".join(  # invisible by themselves, and yet a part of what is shown
    (
        r"(?<=\p{Extended_Pictographic}[\uFE0F\U0001F3FB-\U0001F3FF]{0,2})\u200D(?=\p{Extended_Pictographic})",
        r"(?<=\p{ccc=9})[\u200C\u200D]",
        rf"(?<=[{JOINING_SCRIPTS}]\p{{M}}{{0,4}})[\u200C\u200D](?=[{JOINING_SCRIPTS}])",
        r"(?<=\U0001F3F4)[\U000E0020-\U000E007E]+\U000E007F",
    )
)
WITHOUT_PICTURE = r"[\p{Default_Ignorable_Code_Point}\uFFF9-\uFFFB]"
HOLDS_INVISIBLE = regex.compile(WITHOUT_PICTURE)  # much faster than the exceptions, and mostly enough
INVISIBLE = regex.compile(rf"({MEANINGFUL})|{WITHOUT_PICTURE}")
VISIBLE = regex.compile(r"[^\p{M}\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Noncharacter_Code_Point}]")
OUTER = re.compile(r"^[\s\ufeff]+|[\s\ufeff]+$")
REPEATED_ESCAPES = re.compile(r"&(?:amp;)+", re.IGNORECASE)
MAX_PASSES = 10  # a text that still changes then was made to; each pass is linear in its length


def trimmed(text: str) -> str:
    """The text without white space and byte-order marks around it."""
    return text if text.isascii() and text.isprintable() and text[:1] > " " < text[-1:] else OUTER.sub("", text)


def normal_form(text: str) -> str:
    """What is compared of a label; two labels with one normal form are the same."""
    if text.isascii() and "&" not in text and "`" not in text:
        return " ".join(text.split())
    for _ in range(MAX_PASSES):
        before = text
        if "&" in text:
            text = html.unescape(REPEATED_ESCAPES.sub("&", text))
        text = unicodedata.normalize("NFKC", text.translate(LOOKALIKES))
        if HOLDS_INVISIBLE.search(text):
            text = INVISIBLE.sub(r"\1", text)
        if text == before:
            break
    return " ".join(text.split())


def caseless_form(text: str) -> str:
    """The normal form without case, to find a label by a name that a user typed."""
    return normal_form(text).casefold()


def is_visible(normal: str) -> bool:
    """Whether a normal form shows anything: a letter, a digit, a sign or a picture, not combining marks alone."""
    return bool(normal) and (normal.isascii() or VISIBLE.search(normal) is not None)


def same_groups(normal_forms: Iterable[str]) -> list[list[int]]:
    """Indices of the texts that share a normal form, in order of the first of each group."""
    places: dict[str, list[int]] = {}
    for index, form in enumerate(normal_forms):
        places.setdefault(form, []).append(index)
    return [group for group in places.values() if len(group) > 1]
