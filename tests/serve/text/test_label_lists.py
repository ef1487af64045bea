"""The grammar of label lists, by one table that the page's tests read too."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.text.label_lists import LabelListError, parse_document, parse_list, write_document
from serve.text.normalization import trim

TABLE = Path(__file__).resolve().parents[2] / "golden" / "text" / "label_lists.json"
CASES: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:30])
def test_a_list_is_read_as_the_table_says(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(LabelListError) as caught:
            parse_list(case["text"])
        assert str(caught.value).startswith(case["error"])
    else:
        assert parse_list(case["text"]) == case["list"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:30])
def test_a_document_of_several_lines_holds_one_label_a_line(case: dict[str, Any]) -> None:
    wanted = case.get("document", case.get("list"))
    if wanted is None:
        with pytest.raises(LabelListError) as caught:
            parse_document(case["text"])
        assert str(caught.value).startswith(case["error"])
    else:
        assert parse_document(case["text"]) == wanted


LABELS = st.text(
    st.sampled_from("ab \\\"'“”„‘’«»,;，；、،&[]{}#39") | st.characters(categories=["L", "N", "P"]),
    min_size=1,
    max_size=9,
).filter(lambda text: text == trim(text))


@given(st.lists(LABELS, max_size=5))
def test_written_labels_are_read_back_both_ways(labels: list[str]) -> None:
    assert parse_document(write_document(labels)) == parse_list(write_document(labels)) == labels


def test_long_texts_take_time_in_proportion() -> None:
    assert len(parse_list("\n".join(f"label {number}" for number in range(50_000)))) == 50_000
    assert parse_list('"' + '""' * 50_000 + '"') == ['"' * 50_000]
    assert parse_list("&" * 100_000) == ["&" * 100_000]
