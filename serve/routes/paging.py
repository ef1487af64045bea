"""Pagination of lists: an opaque token marks the position after which the next page starts.

Tokens of clients are validated: a token must belong to the requested list and have exactly the format that this server
creates.
"""

import base64
import json
import re
from typing import Annotated

from fastapi import Query

from serve import strict_json
from serve.errors import InvalidOption
from serve.version_numbers import MAX_VERSION

PageSize = Annotated[int, Query(ge=1, le=1000, description="Number of items per page.")]
PageToken = Annotated[str | None, Query(max_length=500, description="`next_page_token` of the previous page.")]


def make_token(list_id: str, after: str | int) -> str:
    """Return the token of the page that starts after the item `after` of the list `list_id`."""
    return base64.urlsafe_b64encode(json.dumps([list_id, after]).encode()).decode().rstrip("=")


def read_text_token(list_id: str, token: str | None, pattern: re.Pattern[str]) -> str | None:
    """Return the text of a token, after which the page starts; None for the first page.

    Raises:
        InvalidOption: the token is not a token of this list.
    """
    after = _parse_token(list_id, token)
    if after is not None and (not isinstance(after, str) or pattern.fullmatch(after) is None):
        raise _invalid_token_error()
    return after


def read_version_token(list_id: str, token: str | None) -> int | None:
    """Return the version of a token, after which the page starts; None for the first page.

    Raises:
        InvalidOption: the token is not a token of this list.
    """
    after = _parse_token(list_id, token)
    if after is not None and (type(after) is not int or not 1 <= after <= MAX_VERSION):
        raise _invalid_token_error()
    return after


def _parse_token(list_id: str, token: str | None) -> str | int | None:
    if token is None:
        return None
    try:
        items = strict_json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError as error:  # not base64, or not strict JSON
        raise _invalid_token_error() from error
    if not isinstance(items, list) or len(items) != 2 or not isinstance(items[1], (str, int)):
        raise _invalid_token_error()
    if items[0] != list_id:
        raise InvalidOption("page_token belongs to another list; use the `next_page_token` of the previous page")
    after: str | int = items[1]
    if make_token(list_id, after) != token:
        raise _invalid_token_error()
    return after


def _invalid_token_error() -> InvalidOption:
    return InvalidOption("page_token is not a token of this server; use the `next_page_token` of the previous page")
