"""JSON is finite, bounded and Unicode wherever it comes from."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.strict_json import LARGEST_INTEGER, MAX_DEPTH, SMALLEST_INTEGER, InvalidJson, loads


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("[" * 100_000, "nested deeper than the 64"),
        ('{"a":' * 100_000, "nested deeper than the 64"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than the 64"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nested deeper than the 64"),
        ("9" * 5000, "integers must be from"),
        (str(LARGEST_INTEGER + 1), "integers must be from"),
        (str(SMALLEST_INTEGER - 1), "integers must be from"),
        ("0." + "1" * 5000, "got 5002"),
        ("1e999", "too large for a double"),
        ('{"a": -1e400}', "too large for a double"),
        ("NaN", "NaN is not valid JSON"),
        ("[Infinity]", "Infinity is not valid JSON"),
        ("-Infinity", "-Infinity is not valid JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        ('{"\\ud800": 1, "\\ud800": 2}', "occurs twice"),
        ('"\\ud800"', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ('["a", "\\u0000"]', "NUL"),
        ('"\x00"', "control character|NUL"),
        ("\ud800", "surrogate"),
        (b'"\xff"', "not valid UTF-8"),
        (b'\xff\xfe"\x00a\x00"\x00', "not valid UTF-8"),
        ("", "Expecting value"),
        ("1 2", "Extra data"),
        ("{'a': 1}", "property name"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_not_strict_json_is_refused(source: str | bytes, words: str) -> None:
    with pytest.raises(InvalidJson, match=words) as caught:
        loads(source)
    str(caught.value).encode()  # a message can always be sent


@pytest.mark.parametrize(
    "source",
    [
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        str(LARGEST_INTEGER),
        str(SMALLEST_INTEGER),
        repr(5e-324),
        repr(1.7976931348623157e308),
        f"{5e-324:.1074f}",
        "-0.0",
        '"\\ud83d\\ude00"',
        '"[[[[[[[[["',
        '{"": {"": 1}}',
    ],
    ids=lambda value: value[:24],
)
def test_what_is_within_the_bounds_is_read_as_json_reads_it(source: str) -> None:
    assert loads(source) == json.loads(source)
    assert loads(source.encode()) == json.loads(source)
    assert loads(b"\xef\xbb\xbf" + source.encode()) == json.loads(source)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(SMALLEST_INTEGER, LARGEST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=1)), inner),
)


@given(json_values, st.booleans())
def test_everything_it_accepts_comes_back(value: Any, ascii_only: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=ascii_only)) == value


@given(st.text(st.sampled_from('[]{}",:\\u0d8 1e9-.NaIfity')))
def test_whatever_comes_is_a_value_or_a_fault(text: str) -> None:
    try:
        value = loads(text)
    except InvalidJson:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert not isinstance(value, float) or math.isfinite(value)
