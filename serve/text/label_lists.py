r"""The grammar of label lists as plain text: options of a request, the command line, `.txt` files, the page.

    list       = JSON list | items
    items      = [ item { separator item } [ separator ] ]
    separator  = line break | one of  , ; ， ； 、 ､ ، ؛ ﹐ ﹑ ﹔   with white space around it
    item       = quoted | plain
    quoted     = opening quote, text, its closing quote, one pair of
                 "…"  '…'  “…”  ”…”  „…“  „…”  ‘…’  ‚…‘  ‚…’  «…»  »…«  ‹…›  ›…‹  「…」  『…』  ＂…＂
    plain      = text without a separator that does not start with an opening quote

- Text that starts with `[` is a JSON list of strings.
- Inside quotes separators are ordinary characters, and a doubled closing quote stands for one. A quote opens only at
  the start of an item; an apostrophe inside a word is an ordinary character.
- A backslash before a separator, a quote, `[` or another backslash makes that character ordinary; before any other
  character, the backslash is an ordinary character.
- The semicolon of an HTML character reference (`&amp;`, `&#39;`) separates nothing.
- Blank lines and one separator at the end are ignored. Nothing between two separators is an error.
- A document (`parse_document`: a `.txt` file, a `text/plain` body, a text box for labels) of several lines holds one
  label per line: only line breaks separate, since class names of many data sets contain commas. A document of one line
  is a list.

Errors name line and character. `serve/web/label_lists.js` implements the same grammar in the page; both are tested with
one table of cases.
"""

import re
from collections.abc import Sequence
from html.entities import html5
from typing import Any

from serve import strict_json
from serve.text.normalization import trimmed

LINE_BREAKS = "\n\r\x85\u2028\u2029"
SEPARATORS = ",;，；、､،؛﹐﹑﹔"
CLOSING = {
    '"': '"', "'": "'", "“": "”", "”": "”", "„": "“”", "‘": "’", "‚": "‘’",
    "«": "»", "»": "«", "‹": "›", "›": "‹", "「": "」", "『": "』", "＂": "＂",
}  # fmt: skip
ESCAPABLE = frozenset(SEPARATORS + "\\[" + "".join(CLOSING) + "".join(CLOSING.values()))
REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
LINES = re.compile(rf"\r\n|[{LINE_BREAKS}]")


class LabelListError(ValueError):
    """The text is not a label list; the message names line and character."""


def parse_list(text: str) -> list[str]:
    """Parse a text with separators and line breaks between labels.

    Raises:
        LabelListError: the text is invalid; names the position.
    """
    if not is_json_list(text):
        return _Reader(text, SEPARATORS).items()
    found = read_json_list(text)
    for index, item in enumerate(found):
        if not isinstance(item, str):
            raise LabelListError(f"item {index} of the JSON list is not a string")
    return found


def parse_document(text: str) -> list[str]:
    """Parse a document: one label per line, or a list on a single line.

    Raises:
        LabelListError: the text is invalid; names the position.
    """
    num_lines = sum(1 for line in LINES.split(text) if trimmed(line))
    return parse_list(text) if num_lines < 2 or is_json_list(text) else _Reader(text, "").items()


def is_json_list(text: str) -> bool:
    """Return whether the text is a JSON list."""
    return trimmed(text).startswith("[")


def read_json_list(text: str) -> list[Any]:
    """Return the items of a JSON list, of any type.

    Raises:
        LabelListError: it is not JSON.
    """
    try:
        found: list[Any] = strict_json.loads(trimmed(text))
    except strict_json.InvalidJson as error:
        raise LabelListError(
            f"the text starts with [ and cannot be read as a JSON list: {error}; "
            "write \\[ for a label that starts with it"
        ) from error
    return found


def write_document(labels: Sequence[str]) -> str:
    """Write one label per line, quoted if needed, so that `parse_document` and `parse_list` restore them."""
    return "".join(f"{_quoted(label)}\n" for label in labels)


def _quoted(label: str) -> str:
    is_plain = not (label[:1] in CLOSING or label[:1] == "[" or any(letter in SEPARATORS for letter in label))
    if is_plain and "\\" not in label and label == trimmed(label) != "":
        return label
    return '"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _reference(text: str, at: int) -> re.Match[str] | None:
    """Return an HTML character reference at a position, or None."""
    found = REFERENCE.match(text, at)
    return found if found is not None and (found[0][1] == "#" or found[0][1:] in html5) else None


class _Reader:
    """Reads items from left to right; `separators` in addition to line breaks."""

    def __init__(self, text: str, separators: str) -> None:
        self._text = text.removeprefix("\ufeff")
        self._separators = separators
        self._plain_run = re.compile(rf"[^{re.escape(LINE_BREAKS + separators)}\\&]+")
        self._at = 0

    def items(self) -> list[str]:
        found: list[str] = []
        self._skip_blank()
        while self._at < len(self._text):
            if self._text[self._at] in self._separators:
                raise self._error(f"label {len(found)} is empty: there is nothing before this separator", self._at)
            found.append(self._item())
            self._skip_separator()
        return found

    def _item(self) -> str:
        opening = self._text[self._at]
        return self._quoted(CLOSING[opening]) if opening in CLOSING else self._plain()

    def _plain(self) -> str:
        letters = list[str]()
        while self._at < len(self._text) and not self._ends_item():
            letters.append(self._next(self._plain_run))
        return trimmed("".join(letters))

    def _quoted(self, closing: str) -> str:
        start, letters = self._at, list[str]()
        run = re.compile(rf"[^{re.escape(LINE_BREAKS + closing)}\\&]+")
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] not in LINE_BREAKS:
            letter = self._text[self._at]
            if letter in closing:
                self._at += 1
                if self._text[self._at : self._at + 1] != letter:
                    self._require_end(start)
                    return "".join(letters)
                letters.append(letter)
                self._at += 1
            else:
                letters.append(self._next(run))
        raise self._error(f"the quote {self._text[start]} is not closed before the end of its line", start)

    def _require_end(self, start: int) -> None:
        self._skip_white()
        if self._at < len(self._text) and not self._ends_item():
            raise self._error(
                f"text follows the closing quote of the label that starts with {self._text[start]}; "
                f"write \\{self._text[start]} for a quote that belongs to a label",
                self._at,
            )

    def _next(self, run: re.Pattern[str]) -> str:
        """Return a run of ordinary characters, a character reference, or one character with its escape resolved."""
        start = self._at
        if self._text[start] == "\\" and self._text[start + 1 : start + 2] in ESCAPABLE:
            self._at += 2
            return self._text[start + 1]
        found = run.match(self._text, start) or _reference(self._text, start)
        self._at = start + 1 if found is None else found.end()
        return self._text[start : self._at]

    def _ends_item(self) -> bool:
        letter = self._text[self._at]
        return letter in LINE_BREAKS or letter in self._separators

    def _skip_separator(self) -> None:
        """Skip one separator with surrounding white space, or line breaks."""
        self._skip_blank()
        if self._at < len(self._text) and self._text[self._at] in self._separators:
            self._at += 1
            self._skip_blank()

    def _skip_white(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace() and not self._ends_item():
            self._at += 1

    def _skip_blank(self) -> None:
        while self._at < len(self._text) and (self._text[self._at].isspace() or self._text[self._at] in LINE_BREAKS):
            self._at += 1

    def _error(self, message: str, at: int) -> LabelListError:
        lines = LINES.split(self._text[:at])
        return LabelListError(f"line {len(lines)}, character {len(lines[-1]) + 1}: {message}")
