"""Version numbers of vocabularies and models: format and range."""

import re

MAX_VERSION = 2**31 - 1  # largest value of an Integer column in every database

_PATTERN = re.compile(r"[1-9][0-9]{0,9}")


def parse_version(text: str) -> int | None:
    """Parse a version number: ASCII digits without leading zeros; return None if the text is not one.

    >>> parse_version("12"), parse_version("012"), parse_version("99999999999")
    (12, None, None)
    """
    if _PATTERN.fullmatch(text) is None:
        return None
    version = int(text)
    return version if version <= MAX_VERSION else None
