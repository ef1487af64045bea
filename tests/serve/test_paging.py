"""Page tokens are those this server made, for the list that is asked for."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InvalidOption
from serve.routes.paging import make_token, read_text_token, read_version_token
from serve.version_numbers import MAX_VERSION

NAME = re.compile("[a-z]+")


def encoded(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_token_leads_back_to_its_item() -> None:
    assert read_version_token("versions of a", make_token("versions of a", 7)) == 7
    assert read_text_token("names", make_token("names", "walking"), NAME) == "walking"
    assert read_version_token("versions of a", None) is None


@pytest.mark.parametrize(
    "token",
    [
        *(make_token("list", item) for item in ("abc", 0, -1, MAX_VERSION + 1, 10**30)),
        *(encoded(json.dumps(["list", item])) for item in (True, None, 1.0, 1e300, [1], {"a": 1})),
        encoded('["list",7]'),  # not as this server writes it
        encoded('["list", 7] '),
        make_token("list", 7) + "=",
        make_token("list", 7) + "!",
        make_token("other list", 7),
        encoded("[" * 300),
        encoded('["list", ' + "9" * 300 + "]"),
        encoded('["list", "\\ud800"]'),
        encoded('["list", "\ud800"]'),
        encoded(b"\xff\xfe"),
        "",
        "%",
        "\u0663",
        "\x00",
    ],
)
def test_a_forged_token_is_refused(token: str) -> None:
    for read in (read_version_token, lambda kind, text: read_text_token(kind, text, re.compile("[x]+"))):
        with pytest.raises(InvalidOption, match="page_token"):
            read("list", token)


@given(st.one_of(st.text(), st.builds(encoded, st.one_of(st.text(), st.binary(), st.from_regex(r'\["list", .*\]')))))
def test_whatever_comes_is_an_item_or_refused(token: str) -> None:
    try:
        found: Any = read_version_token("list", token)
    except InvalidOption:
        return
    assert make_token("list", found) == token
