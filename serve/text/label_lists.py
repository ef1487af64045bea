r"""Read and write lists of labels as plain text, as used in request options, command lines, `.txt` files and the page.

    list       = JSON list | items
    items      = [ item { separator item } [ separator ] ]
    separator  = line break | one of  , ; ， ； 、 ､ ، ؛ ﹐ ﹑ ﹔   with whitespace around it
    item       = quoted | plain
    quoted     = opening quote, text, its closing quote, one pair of
                 "…"  '…'  “…”  ”…”  „…“  „…”  ‘…’  ‚…‘  ‚…’  «…»  »…«  ‹…›  ›…‹  「…」  『…』  ＂…＂
    plain      = text without a separator that does not start with an opening quote

- Text that starts with `[` is a JSON list of strings.
- Inside quotes, separators are ordinary characters, and a doubled closing quote stands for a single one. A quote opens
  only at the start of an item; an apostrophe inside a word is an ordinary character.
- A backslash before a separator, a quote, `[` or another backslash makes that character ordinary; before any other
  character, the backslash is an ordinary character.
- The semicolon of an HTML character reference (`&amp;`, `&#39;`) is not a separator.
- Blank lines and one trailing separator are ignored. An empty item between two separators is an error.
- A document (`parse_document`: a `.txt` file, a `text/plain` body, a text box for labels) of several lines contains one
  label per line; only line breaks separate labels, since class names of many data sets contain commas. A document of
  one line is a list.

Error messages state line and character. `serve/web/label_lists.js` implements the same grammar in the page; both are
tested with the same table of cases.
"""

import re
from collections.abc import Sequence
from html.entities import html5
from typing import Any

from serve import strict_json
from serve.text.normalization import trim

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
    """The text is not a valid label list; the message states line and character."""


def parse_list(text: str) -> list[str]:
    """Parse labels separated by separators or line breaks, or a JSON list.

    Raises:
        LabelListError: the text is invalid; the message states the position.
    """
    if not is_json_list(text):
        return _Parser(text, SEPARATORS).parse_items()
    items = read_json_list(text)
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise LabelListError(f"item {index} of the JSON list is not a string")
    return items


def parse_document(text: str) -> list[str]:
    """Parse a document: one label per line, or a list on a single line.

    Raises:
        LabelListError: the text is invalid; the message states the position.
    """
    num_lines = sum(1 for line in LINES.split(text) if trim(line))
    return parse_list(text) if num_lines < 2 or is_json_list(text) else _Parser(text, "").parse_items()


def is_json_list(text: str) -> bool:
    """Return whether the text is to be read as a JSON list, i.e. starts with `[`."""
    return trim(text).startswith("[")


def read_json_list(text: str) -> list[Any]:
    """Return the items of a JSON list, of any type.

    Raises:
        LabelListError: the text is not a JSON list.
    """
    try:
        items: list[Any] = strict_json.loads(trim(text))
    except strict_json.InvalidJson as error:
        raise LabelListError(
            f"the text starts with [ and cannot be read as a JSON list: {error}; "
            "write \\[ for a label that starts with it"
        ) from error
    return items


def write_document(labels: Sequence[str]) -> str:
    """Return one label per line, quoted if needed; `parse_document` and `parse_list` restore the labels."""
    return "".join(f"{_quote(label)}\n" for label in labels)


def _quote(label: str) -> str:
    is_plain = not (label[:1] in CLOSING or label[:1] == "[" or any(letter in SEPARATORS for letter in label))
    if is_plain and "\\" not in label and label == trim(label) != "":
        return label
    return '"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _match_reference(text: str, position: int) -> re.Match[str] | None:
    """Return the match of an HTML character reference at a position, or None."""
    match = REFERENCE.match(text, position)
    return match if match is not None and (match[0][1] == "#" or match[0][1:] in html5) else None


class _Parser:
    """Parses items from left to right; they are separated by line breaks and by any of `separators`."""

    def __init__(self, text: str, separators: str) -> None:
        self._text = text.removeprefix("\ufeff")
        self._separators = separators
        self._plain_run = re.compile(rf"[^{re.escape(LINE_BREAKS + separators)}\\&]+")
        self._position = 0

    def parse_items(self) -> list[str]:
        items: list[str] = []
        self._skip_blank()
        while self._position < len(self._text):
            if self._text[self._position] in self._separators:
                raise self._error(
                    f"label {len(items)} is empty: there is nothing before this separator", self._position
                )
            items.append(self._parse_item())
            self._skip_separator()
        return items

    def _parse_item(self) -> str:
        opening = self._text[self._position]
        return self._parse_quoted(CLOSING[opening]) if opening in CLOSING else self._parse_plain()

    def _parse_plain(self) -> str:
        letters = list[str]()
        while self._position < len(self._text) and not self._ends_item():
            letters.append(self._consume(self._plain_run))
        return trim("".join(letters))

    def _parse_quoted(self, closing: str) -> str:
        start, letters = self._position, list[str]()
        run = re.compile(rf"[^{re.escape(LINE_BREAKS + closing)}\\&]+")
        self._position += 1
        while self._position < len(self._text) and self._text[self._position] not in LINE_BREAKS:
            letter = self._text[self._position]
            if letter in closing:
                self._position += 1
                if self._text[self._position : self._position + 1] != letter:
                    self._require_end(start)
                    return "".join(letters)
                letters.append(letter)
                self._position += 1
            else:
                letters.append(self._consume(run))
        raise self._error(f"the quote {self._text[start]} is not closed before the end of its line", start)

    def _require_end(self, start: int) -> None:
        self._skip_spaces()
        if self._position < len(self._text) and not self._ends_item():
            raise self._error(
                f"text follows the closing quote of the label that starts with {self._text[start]}; "
                f"write \\{self._text[start]} for a quote that belongs to a label",
                self._position,
            )

    def _consume(self, run: re.Pattern[str]) -> str:
        """Consume and return a run of ordinary characters, a character reference, or one (unescaped) character."""
        start = self._position
        if self._text[start] == "\\" and self._text[start + 1 : start + 2] in ESCAPABLE:
            self._position += 2
            return self._text[start + 1]
        match = run.match(self._text, start) or _match_reference(self._text, start)
        self._position = start + 1 if match is None else match.end()
        return self._text[start : self._position]

    def _ends_item(self) -> bool:
        letter = self._text[self._position]
        return letter in LINE_BREAKS or letter in self._separators

    def _skip_separator(self) -> None:
        """Skip one separator with surrounding whitespace, or line breaks."""
        self._skip_blank()
        if self._position < len(self._text) and self._text[self._position] in self._separators:
            self._position += 1
            self._skip_blank()

    def _skip_spaces(self) -> None:
        while self._position < len(self._text) and self._text[self._position].isspace() and not self._ends_item():
            self._position += 1

    def _skip_blank(self) -> None:
        while self._position < len(self._text) and (
            self._text[self._position].isspace() or self._text[self._position] in LINE_BREAKS
        ):
            self._position += 1

    def _error(self, message: str, position: int) -> LabelListError:
        lines = LINES.split(self._text[:position])
        return LabelListError(f"line {len(lines)}, character {len(lines[-1]) + 1}: {message}")
