"""Pages of a list: an opaque token says where the next one starts.

A token is checked when it comes back: it belongs to the list that is asked for, and it is written exactly as this
server writes it.
"""

import base64
import json
import re
from typing import Annotated

from fastapi import Query

from serve import strict_json
from serve.errors import InvalidOption
from serve.version_numbers import MAX_VERSION

PageSize = Annotated[int, Query(ge=1, le=1000, description="Items of a page.")]
PageToken = Annotated[str | None, Query(max_length=500, description="`next_page_token` of the page before.")]


def make_token(kind: str, after: str | int) -> str:
    """A token for the page after an item."""
    return base64.urlsafe_b64encode(json.dumps([kind, after]).encode()).decode().rstrip("=")


def read_text_token(kind: str, token: str | None, pattern: re.Pattern[str]) -> str | None:
    """The text a token stands after; None for the first page.

    Raises:
        InvalidOption: this server made no such token for such a list.
    """
    after = _read(kind, token)
    if after is not None and (not isinstance(after, str) or pattern.fullmatch(after) is None):
        raise _foreign()
    return after


def read_version_token(kind: str, token: str | None) -> int | None:
    """The version a token stands after; None for the first page.

    Raises:
        InvalidOption: this server made no such token for such a list.
    """
    after = _read(kind, token)
    if after is not None and (type(after) is not int or not 1 <= after <= MAX_VERSION):
        raise _foreign()
    return after


def _read(kind: str, token: str | None) -> str | int | None:
    if token is None:
        return None
    try:
        found = strict_json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError as error:  # of base64, or no strict JSON
        raise _foreign() from error
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], (str, int)):
        raise _foreign()
    if found[0] != kind:
        raise InvalidOption("page_token belongs to another list: give the `next_page_token` of the page before")
    after: str | int = found[1]
    if make_token(kind, after) != token:
        raise _foreign()
    return after


def _foreign() -> InvalidOption:
    return InvalidOption("page_token was not made by this server: give the `next_page_token` of the page before")
