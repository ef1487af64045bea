"""Pages of a list: an opaque token marks where the next page starts.

A token is checked when it comes back: it must belong to the requested list and have exactly the form that this server
writes.
"""

import base64
import json
import re
from typing import Annotated

from fastapi import Query

from serve import strict_json
from serve.errors import InvalidOption
from serve.version_numbers import MAX_VERSION

PageSize = Annotated[int, Query(ge=1, le=1000, description="Number of items of a page.")]
PageToken = Annotated[str | None, Query(max_length=500, description="`next_page_token` of the previous page.")]


def make_token(kind: str, after: str | int) -> str:
    """Return the token of the page that starts after an item."""
    return base64.urlsafe_b64encode(json.dumps([kind, after]).encode()).decode().rstrip("=")


def read_text_token(kind: str, token: str | None, pattern: re.Pattern[str]) -> str | None:
    """Return the text after which a page starts; None for the first page.

    Raises:
        InvalidOption: this server did not make the token for this list.
    """
    after = _read(kind, token)
    if after is not None and (not isinstance(after, str) or pattern.fullmatch(after) is None):
        raise _foreign()
    return after


def read_version_token(kind: str, token: str | None) -> int | None:
    """Return the version after which a page starts; None for the first page.

    Raises:
        InvalidOption: this server did not make the token for this list.
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
    except ValueError as error:  # not base64, or not strict JSON
        raise _foreign() from error
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], (str, int)):
        raise _foreign()
    if found[0] != kind:
        raise InvalidOption("page_token belongs to another list: use the `next_page_token` of the previous page")
    after: str | int = found[1]
    if make_token(kind, after) != token:
        raise _foreign()
    return after


def _foreign() -> InvalidOption:
    return InvalidOption("page_token was not made by this server: use the `next_page_token` of the previous page")
