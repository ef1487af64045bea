"""Pages of a list: an opaque token says where the next one starts."""

import base64
import binascii
import json
from typing import Annotated

from fastapi import Query

from serve.errors import InvalidOption

PageSize = Annotated[int, Query(ge=1, le=1000, description="Items of a page.")]
PageToken = Annotated[str | None, Query(max_length=500, description="`next_page_token` of the page before.")]


def make_token(kind: str, after: str | int) -> str:
    """A token for the page after an item."""
    return base64.urlsafe_b64encode(json.dumps([kind, after]).encode()).decode().rstrip("=")


def read_token(kind: str, token: str | None) -> str | int | None:
    """The item a token stands after; None for the first page.

    Raises:
        InvalidOption: this server made no such token for such a list.
    """
    if token is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidOption("page_token is not one of this server") from error
    if not isinstance(found, list) or len(found) != 2 or found[0] != kind or not isinstance(found[1], (str, int)):
        raise InvalidOption("page_token belongs to another list")
    after: str | int = found[1]
    return after
