"""Text from outside: Unicode without NUL and without surrogates, so that it can be written, stored and answered.

UTF-8 cannot encode surrogates, and PostgreSQL stores no NUL. Which characters a label may hold beyond that is decided
by `serve.text.prompts`.
"""

import re

MAX_FILENAME_CHARS = 200
_REFUSED = re.compile("[\x00\ud800-\udfff]")


def text_fault(text: str) -> str | None:
    """What makes a text unusable, as an object of "holds"; None where nothing does.

    >>> text_fault("été")
    >>> text_fault("a\\x00b")
    'the NUL character (U+0000) at position 1'
    """
    if text.isascii() and "\x00" not in text:
        return None
    found = _REFUSED.search(text)
    if found is None:
        return None
    code = ord(found[0])
    what = "the NUL character" if code == 0 else "an unpaired surrogate"
    return f"{what} (U+{code:04X}) at position {found.start()}"


def shown_filename(filename: str) -> str:
    """A client's name of a file as other users may see it: without control characters, and not too long.

    >>> shown_filename("été\x1b[2J.mp4")
    'été[2J.mp4'
    """
    return "".join(letter for letter in filename if letter.isprintable())[:MAX_FILENAME_CHARS]
