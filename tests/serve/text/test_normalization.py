"""Which labels are the same, whatever the model; none of them is changed."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InvalidVocabulary
from serve.text.normalization import caseless_form, is_visible, normal_form, trim
from serve.text.prompts import check_templates, clean_labels
from tests.shared_data import SHARED, needs_shared

SAME = [
    ("brushing someone's hair", "brushing someone\u2019s hair"),
    ("brushing someone's hair", "brushing someone\u00b4s hair"),
    ("brushing someone's hair", "brushing someone\u02bcs hair"),
    ("brushing someone's hair", "brushing someone&rsquo;s hair"),
    ("salt & pepper", "salt &amp; pepper"),
    ("salt & pepper", "salt &amp;amp;amp; pepper"),
    ("salt & pepper", "salt &#38; pepper"),
    ("salt & pepper", "salt ＆ａｍｐ； pepper"),
    ("walking", "\ufeffwalking"),
    ("walking", "walk\u200bing"),
    ("walking", "walk\u200ding"),
    ("walking", "walk\u00ading"),
    ("walking", "walk&shy;ing"),
    ("walking", "walking\u200e"),
    ("walking", "walk\u2060ing\u180e"),
    ("walking", "ｗａｌｋｉｎｇ"),
    ("walking a dog", "walking\u00a0a \u3000dog"),
    ("walking a dog", "walking  a\u2009dog"),
    ("fishing", "ﬁshing"),
    ("café", "cafe\u0301"),
    ("can't stop", "can\u055at stop"),
    ("sit/stand", "sit\u2044stand"),
    ("1/2 turn", "½ turn"),
    ("10:30", "10\u223630"),
    ("T-shirt", "T\u2011shirt"),
    ("T-shirt", "T\u2013shirt"),
    ("wait...", "wait\u2026"),
    ('"x"', "\u201cx\u201d"),
    ("❤", "❤\ufe0f"),
    ("سلام", "\u200fسلام"),
]
ENGLAND, SCOTLAND = (
    "".join(chr(0xE0000 + ord(letter)) for letter in code) + "\U000e007f" for code in ("gbeng", "gbsct")
)
DIFFERENT = [
    ("Polish", "polish"),
    ("👨\u200d👩\u200d👧", "👨👩👧"),
    ("🏃🏽\u200d♀️", "🏃🏽\u200d♂️"),
    ("👍🏽", "👍"),
    (f"🏴{ENGLAND}", f"🏴{SCOTLAND}"),
    ("می\u200cخواهم", "میخواهم"),
    ("क्\u200dष", "क्ष"),
    ("चलना", "चलन"),
    ("เดิน", "เดน"),
    ("カー", "カ-"),
    ("C++", "C"),
    ("100 m", "100m"),
]  # fmt: skip
NOTHING = [
    "", " ", "\u200b", "\ufeff", "\u3164", "\u115f", "\uffa0", "\u2800", "\u0301", "\u093e", "\ufe0f", "\u00ad",
    "\u034f", "\u180e", "\u2063", "\u200e\u200f", "\ufff9", "\ufffe", "\U000e0061", "\u17b4",
    "&nbsp;", "&#8203;", "&zwj;", "&shy; &nbsp;",
]  # fmt: skip
SHOWN = ["?", "&", "走", "👨\u200d👩\u200d👧", "1️⃣", "مشي", "ก็", "की", "\ue000", "א", "ㄱ", "ä", "🏴\u200d☠️"]


@pytest.mark.parametrize(("one", "other"), SAME, ids=ascii)
def test_labels_that_are_one_prompt_are_refused_by_name(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)
    with pytest.raises(InvalidVocabulary, match="labels 0 and 2 are the same") as caught:
        clean_labels([one, "something else", other])
    assert caught.value.details["same_labels"] == [[trim(one), trim(other)]]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=ascii)
def test_labels_that_differ_to_a_reader_are_both_taken_as_they_are(one: str, other: str) -> None:
    assert clean_labels([one, other]) == (one, other)


@pytest.mark.parametrize("label", NOTHING, ids=ascii)
def test_labels_that_show_nothing_are_refused(label: str) -> None:
    assert not is_visible(normal_form(label))
    with pytest.raises(InvalidVocabulary, match="label 1 is empty"):
        clean_labels(["walking", label])
    with pytest.raises(InvalidVocabulary):
        check_templates(["{}", label])


@pytest.mark.parametrize("label", SHOWN, ids=ascii)
def test_labels_of_every_script_are_taken(label: str) -> None:
    assert clean_labels([label]) == (label,)


@pytest.mark.parametrize(
    ("label", "is_taken"),
    [
        ("\u2067سلام\u2069", True),
        ("\u202bسلام\u202c", True),
        ("\u2067سلام", False),
        ("a\u2069", False),
        ("\u2067\u202bسلام\u2069\u202c", False),
        ("a\u202eb\u202c", False),
        ("a\x1bb", False),
    ],
    ids=ascii,
)
def test_directional_controls_have_to_end_within_the_label(label: str, is_taken: bool) -> None:
    if is_taken:
        assert clean_labels([label]) == (label,)
    else:
        with pytest.raises(InvalidVocabulary, match="control character U"):
            clean_labels([label])


def test_every_group_of_equal_labels_is_named() -> None:
    with pytest.raises(InvalidVocabulary) as caught:
        clean_labels(["a", "b", "c", "b\u200b", "a&shy;", "ａ"])
    assert caught.value.details["same_labels"] == [["a", "a&shy;", "ａ"], ["b", "b\u200b"]]
    assert "'b\\u200b'" in caught.value.message, "what is invisible is escaped"


@needs_shared
def test_the_labels_of_the_field_report_are_refused_by_name() -> None:
    labels = json.loads((SHARED / "data" / "field" / "labels_same_prompt.json").read_text(encoding="utf-8"))
    with pytest.raises(InvalidVocabulary) as caught:
        clean_labels(labels["candidate_labels"])
    assert [len(group) for group in caught.value.details["same_labels"]] == [2, 2, 2]


def test_templates_that_are_the_same_are_refused() -> None:
    with pytest.raises(InvalidVocabulary, match="templates 0 and 1 are the same"):
        check_templates(["a video of {}", "a video  of\u200b {}"])
    assert check_templates(["A {}", "a {}"]) == ("A {}", "a {}")


@given(st.text(max_size=20))
def test_a_normal_form_is_its_own(text: str) -> None:
    form = normal_form(text)
    assert normal_form(form) == form == unicodedata.normalize("NFKC", form)
    assert caseless_form(text) == form.casefold()


def test_hostile_texts_take_time_in_proportion() -> None:
    for text in (
        "&amp;" * 20_000,
        "&" + "amp;" * 20_000,
        "&#38;" * 20_000,
        "\u0643\u064b" * 20_000,
        "🏳\ufe0f" * 20_000,
    ):
        normal_form(text)
    for text in ("🏳" + "\ufe0f" * 20_000, "\u0643" + "\u064b" * 20_000 + "\u200c", "\u202b" * 20_000):
        normal_form(text)
