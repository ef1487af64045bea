"""Options mean the same whichever way they come in, and say what is wrong with them."""

from typing import Any

import pytest

from serve.api.options import merge_options, parse_classify_options
from serve.errors import InvalidOption


@pytest.mark.parametrize(
    "given",
    [["walking", "running, fast"], '["walking", "running, fast"]'],
    ids=["a list", "JSON text"],
)
def test_labels_with_commas_come_as_a_list(given: Any) -> None:
    assert parse_classify_options({"candidate_labels": given}).candidate_labels == ["walking", "running, fast"]


def test_plain_text_is_split_at_commas() -> None:
    assert parse_classify_options({"candidate_labels": "walking, running"}).candidate_labels == ["walking", "running"]


def test_numbers_may_come_as_text() -> None:
    options = parse_classify_options({"top_k": "3", "num_clips": "2", "num_crops": "3", "threshold": "0.5"})
    assert (options.top_k, options.num_clips, options.num_crops, options.threshold) == (3, 2, 3, 0.5)


def test_templates_of_the_request_go_over_the_default() -> None:
    assert parse_classify_options({}).resolve_templates(("a {}",)) == ("a {}",)
    assert parse_classify_options({"hypothesis_template": "b {}"}).resolve_templates(("a {}",)) == ("b {}",)
    assert parse_classify_options({"templates": ["b {}", "c {}"]}).resolve_templates(("a {}",)) == ("b {}", "c {}")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": True}, "top_k: must be a number, got true"),
        ({"num_crops": True}, "num_crops: must be a number, got true"),
        ({"threshold": False}, "threshold: must be a number, got false"),
        ({"num_crops": 2}, "num_crops"),
        ({"num_clips": 11}, "num_clips"),
        ({"topk": 3}, "topk"),
        ({"candidate_labels": 7}, "candidate_labels"),
        ({"candidate_labels": "[1,"}, "JSON"),
        ({"function_to_apply": "tanh"}, "function_to_apply"),
        ({"threshold": "nan"}, "threshold"),
        ({"vocabulary": "a", "candidate_labels": ["b"]}, "cannot be combined"),
        ({"templates": ["{}"], "hypothesis_template": "{}"}, "cannot be combined"),
        ({"threshold": 0.5, "function_to_apply": "none"}, "needs scores, but there are none"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_named(document: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words) as caught:
        parse_classify_options(document)
    assert caught.value.details["errors"]


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000], ids=["empty", "list", "number", "cut", "deep"])
def test_an_options_part_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        merge_options({"options": [text]})


@pytest.mark.parametrize(
    ("fields", "query", "words"),
    [
        ({"options": ['{"top_k": 3}'], "top_k": ["2"]}, {}, "`top_k` is in `options` of the form"),
        ({"top_k": ["3"]}, {"top_k": ["3"]}, "`top_k` is in the form and in the query"),
        ({"options": ['{"model": "a"}']}, {"model": ["b"]}, "is in `options` of the form and in the query"),
        ({"options": ['{"model": "a"}']}, {"options": ['{"model": "a"}']}, "`model` is in `options` of the form"),
        ({"candidate_labels": ["a", "b"]}, {"candidate_labels": ["c"]}, "`candidate_labels` is in the form"),
        ({"top_k": ["2", "2"]}, {}, "the form has `top_k` 2 times"),
        ({}, {"model": ["a", "b"]}, "the query has `model` 2 times"),
        ({"options": ["{}", "{}"]}, {}, "the form has `options` 2 times"),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_is_given_once(fields: dict[str, list[str]], query: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        merge_options(fields, query)


def test_options_of_a_form_and_of_a_query_are_joined() -> None:
    fields = {"options": ['{"top_k": 3}'], "candidate_labels": ["a", "b"]}
    query = {"model": ["m"], "templates": ["x {}", "y {}"]}
    assert merge_options(fields, query) == {
        "top_k": 3, "candidate_labels": ["a", "b"], "model": "m", "templates": ["x {}", "y {}"],
    }  # fmt: skip


@pytest.mark.parametrize("value", ["9" * 5000, "\u0663", " 3", "1" * 10])
def test_a_number_as_text_is_plain_digits(value: str) -> None:
    with pytest.raises(InvalidOption, match="num_crops"):
        parse_classify_options({"num_crops": value})


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "a,\udcff"])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    for document in ({"candidate_labels": text}, {"candidate_labels": ["a", text]}, {"model": text}):
        with pytest.raises(InvalidOption, match="contains"):
            parse_classify_options(document)
