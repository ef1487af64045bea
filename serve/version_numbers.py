"""Numbers of versions, of vocabularies and of models: how they are written and how far they go."""

import re

MAX_VERSION = 2**31 - 1  # what an Integer column of every database holds

_WRITTEN = re.compile(r"[1-9][0-9]{0,9}")


def parse_version(text: str) -> int | None:
    """The version a text names in ASCII digits without leading zeros; None where it names none.

    >>> parse_version("12"), parse_version("012"), parse_version("99999999999")
    (12, None, None)
    """
    if _WRITTEN.fullmatch(text) is None:
        return None
    version = int(text)
    return version if version <= MAX_VERSION else None
