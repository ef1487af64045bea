"""Check of external text: Unicode without NUL and surrogates, so that it can be logged, stored and returned.

UTF-8 cannot encode surrogates, and PostgreSQL cannot store NUL. `serve.text.prompts` has the additional rules for the
characters of labels.
"""

import re

MAX_FILENAME_CHARS = 200
_INVALID = re.compile("[\x00\ud800-\udfff]")


def describe_text_fault(text: str) -> str | None:
    """Return a phrase for the first invalid character of a text, e.g. for "`name` contains ..."; None if it is valid.

    >>> describe_text_fault("été")
    >>> describe_text_fault("a\\x00b")
    'the NUL character (U+0000) at position 1'
    """
    if text.isascii() and "\x00" not in text:
        return None
    match = _INVALID.search(text)
    if match is None:
        return None
    code = ord(match[0])
    what = "the NUL character" if code == 0 else "an unpaired surrogate"
    return f"{what} (U+{code:04X}) at position {match.start()}"


def shown_filename(filename: str) -> str:
    """A client's name of a file as other users may see it: without control characters, and not too long.

    >>> shown_filename("été\x1b[2J.mp4")
    'été[2J.mp4'
    """
    return "".join(letter for letter in filename if letter.isprintable())[:MAX_FILENAME_CHARS]
