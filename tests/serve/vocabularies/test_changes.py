"""Changes as plain functions: identities, order of a patch, what is refused; files of every kind."""

import csv
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InvalidVocabulary, UnknownLabel, UnsupportedMedia
from serve.settings import LimitSettings, VocabularySettings
from serve.vocabularies import formats
from serve.vocabularies.changes import (
    LabelInput,
    VocabularyInput,
    VocabularyLimits,
    VocabularyPatch,
    apply_patch,
    compare_versions,
    replace_vocabulary,
)
from serve.vocabularies.vocabulary import Vocabulary
from tests.shared_data import LABELS, needs_shared

LIMITS = VocabularyLimits(vocabularies=VocabularySettings(max_labels=1000), requests=LimitSettings())


def make(*labels: Any, previous: Vocabulary | None = None, **fields: Any) -> Vocabulary:
    given = VocabularyInput.model_validate({"labels": list(labels), **fields})
    return replace_vocabulary("test", given, previous, limits=LIMITS)


def patch(vocabulary: Vocabulary, **changes: Any) -> Vocabulary:
    return apply_patch(vocabulary, VocabularyPatch.model_validate(changes), limits=LIMITS)


def test_labels_keep_their_identity_through_replacing_and_renaming() -> None:
    first = make("cat", "dog", "horse")
    ids = {label.name: label.label_id for label in first.labels}
    assert len(set(ids.values())) == 3
    second = make("DOG ", "cow", "cat", previous=first)
    assert [label.label_id for label in second.labels][::2] == [ids["dog"], ids["cat"]]
    third = patch(second, rename=[{"label": "cat", "to": "kitten"}])
    assert third.labels[2].label_id == ids["cat"]
    found = compare_versions(second, third)
    assert (found.renamed, found.added, found.removed, found.moved) == ((("cat", "kitten"),), (), (), False)


def test_a_patch_removes_before_it_adds() -> None:
    first = make("cat", "dog")
    second = patch(
        first,
        add=["bird", {"name": "cat", "synonyms": ["kitten"]}],
        remove=["cat"],
        update=[{"name": "dog", "negatives": ["wolf"]}],
        templates=["a {}"],
        background=["nothing"],
        phrase_rule="mean",
    )
    assert second.label_names == ("dog", "bird", "cat")
    assert second.phrases == ("dog", "bird", "cat", "kitten", "wolf", "nothing")
    assert second.phrase_layout is not None
    assert second.phrase_layout.counts == (1, 1, 2)
    assert second.labels[2].label_id != first.labels[0].label_id
    found = compare_versions(first, second)
    assert (found.added, found.removed, found.changed) == (("bird", "cat"), ("cat",), ("dog",))
    assert found.fields == ("templates", "phrase_rule", "background")
    assert patch(second, templates=[]).templates is None
    assert first.phrase_layout is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "no label"),
        (["cat", "cat "], "the same"),
        (["ﬁsh", "fish"], "the same"),
        ([""], "empty"),
        (["   "], "empty"),
        (["a\x00b"], "U\\+0000"),
        (["a\u202eb"], "U\\+202E"),
        (["x" * 501], "501 characters"),
        ([f"label {i}" for i in range(1001)], "at most 1000"),
        ([{"name": "cat", "synonyms": ["ｃａｔ"]}], "the same"),
        ([{"name": "cat", "synonyms": [""]}], "empty"),
        ([{"name": "cat", "synonyms": [str(i) for i in range(40)]}], "at most 32"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(labels: list[Any], words: str) -> None:
    with pytest.raises(InvalidVocabulary, match=words):
        make(*labels)


@pytest.mark.parametrize("templates", [["no place"], ["{} and {}"], ["{}"] * 65, [""]])
def test_templates_have_one_place(templates: list[str]) -> None:
    with pytest.raises(InvalidVocabulary):
        make("cat", templates=templates)


def test_ordinary_and_odd_labels_are_taken() -> None:
    odd = [
        "🏃‍♀️ laufen",
        "l'été à la plage",
        "跑步",
        "playing <|endoftext|>",
        "100% / half",
        "{} braces",
        "Ωμέγα и кириллица",
    ]
    assert make(*odd).label_names == tuple(odd)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"remove": ["bird"]}, UnknownLabel),
        ({"remove": ["cat", "cat"]}, InvalidVocabulary),
        ({"remove": ["cat"], "rename": [{"label": "cat", "to": "x"}]}, InvalidVocabulary),
        ({"rename": [{"label": "cat", "to": "dog"}]}, InvalidVocabulary),
        ({"add": ["dog"]}, InvalidVocabulary),
        ({"remove": ["cat", "dog"]}, InvalidVocabulary),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(changes: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        patch(make("cat", "dog"), **changes)


phrases = st.text(st.characters(categories=["L", "N"], include_characters=" ,\"'/%"), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text and "|" not in text
)


@given(names=st.lists(phrases, min_size=1, max_size=6, unique_by=lambda text: text.casefold()))
def test_every_format_reads_what_it_wrote(names: list[str]) -> None:
    try:
        vocabulary = make(*({"name": name, "synonyms": [f"{name} again"]} for name in names))
    except InvalidVocabulary:
        return  # some letters fold into one another
    for kind, media_type in formats.MEDIA_TYPES.items():
        text = formats.write(vocabulary, kind)
        back = replace_vocabulary("test", formats.parse(text.encode(), media_type), vocabulary, limits=LIMITS)
        assert back.label_names == vocabulary.label_names
        assert [label.label_id for label in back.labels] == [label.label_id for label in vocabulary.labels]
        if kind != "txt":
            assert back.phrases == vocabulary.phrases


@pytest.mark.parametrize(
    ("body", "media_type", "kind"),
    [
        (b"{", "application/json", InvalidVocabulary),
        (b'{"labels": [1]}', "application/json", InvalidVocabulary),
        (b'{"labels": ["a"], "lables": []}', "application/json", InvalidVocabulary),
        (b"\xff\xfe\x00", "text/plain", InvalidVocabulary),
        (b"caf\xe9", "text/plain", InvalidVocabulary),
        (b"label\ncat\n", "text/csv", InvalidVocabulary),
        (b'name\n"cat\n', "text/csv", InvalidVocabulary),
        (b"cat", "application/xml", UnsupportedMedia),
    ],
)
def test_files_that_cannot_be_read_are_refused(body: bytes, media_type: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        formats.parse(body, media_type)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"id,name\n0,cat\n", "line 1: .*`id`.*remove"),
        (b"name,synonym\ncat,kitten\n", "`synonym`"),
        (b"name,,negatives\ncat,x,dog\n", "no name"),
        (b"name,name\ncat,dog\n", "line 1: the column name is listed twice"),
        (b"name,\ncat,dog\n", "no name"),
    ],
)
def test_columns_that_would_be_ignored_are_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidVocabulary, match=words):
        formats.parse(body, "text/csv")


@pytest.mark.parametrize("name", ["=1+1", "-x", "'=1", "@x", "+1", "'quoted'", "push-up", "''-x"])
def test_a_csv_holds_no_formulas_and_is_read_as_it_was(name: str) -> None:
    text = formats.write(make({"name": name, "synonyms": ["-a", "=b"]}), "csv")
    cells = next(csv.reader(text.splitlines()[1:]))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    (label,) = formats.parse(text.encode(), "text/csv").labels
    assert isinstance(label, LabelInput) and (label.name, label.synonyms) == (name, ["-a", "=b"])


def test_empty_columns_at_the_end_of_a_csv_do_not_matter() -> None:
    assert formats.parse(b"name,synonyms,,\ncat,kitten,,\n", "text/csv") == formats.parse(
        b"name,synonyms\ncat,kitten\n", "text/csv"
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "，"], ids=["comma", "semicolon", "tab", "full width"])
def test_csv_is_read_with_the_delimiter_of_its_header(delimiter: str) -> None:
    rows = (("name", "synonyms", "negatives"), ('"a, b; c"', "x|y", ""), ("d", "", "e"))
    body = "\ufeff" + "\r\n".join(delimiter.join(row) for row in rows)
    vocabulary = replace_vocabulary("x", formats.parse(body.encode(), "text/csv"), None, limits=LIMITS)
    assert vocabulary.label_names == ("a, b; c", "d")
    assert (vocabulary.labels[0].synonyms, vocabulary.labels[1].negatives) == (("x", "y"), ("e",))


def test_a_csv_row_with_more_cells_than_the_header_is_refused() -> None:
    assert formats.parse(b"name,synonyms\na,b,,\n", "text/csv").labels
    with pytest.raises(InvalidVocabulary, match="line 2: 2 fields where the header names 1"):
        formats.parse(b"name\nlifting it, then dropping it\n", "text/csv")


def test_names_that_differ_in_case_keep_their_own_identity() -> None:
    first = make("polish", "cat")
    second = make("Polish", "polish", "CAT", previous=first)
    ids = [label.label_id for label in first.labels]
    assert [second.labels[1].label_id, second.labels[2].label_id] == ids
    assert second.labels[0].label_id not in ids
    assert patch(second, remove=["Polish"]).label_names == ("polish", "CAT")
    assert patch(second, remove=["cat"]).label_names == ("Polish", "polish")
    with pytest.raises(InvalidVocabulary, match="matches 2 labels"):
        patch(second, remove=["POLISH"])


@pytest.mark.parametrize(
    ("labels", "fields", "words"),
    [
        ([{"name": "a", "synonyms": ["b"]}, "b\u200b"], {}, "are the same: 'b' and 'b.u200b'"),
        ([{"name": "a", "synonyms": ["c"]}, {"name": "b", "synonyms": ["c"]}], {}, "synonym 0 of 'a'"),
        ([{"name": "a", "negatives": ["a&shy;"]}], {}, "negative 0 of 'a'"),
        (["a"], {"background": ["x", "ｘ"]}, "background phrase 0 and background phrase 1"),
        (["a"], {"background": ["\ufeffa"]}, "labels 0 and background phrase 0"),
        (["a"], {"background": ["\u3164"]}, "background phrase 0 is empty"),
        ([{"name": "a", "synonyms": ["\u2060"]}], {}, "synonym 0 of 'a'. is empty"),
        (["a"], {"templates": ["{}", "\u200b{}"]}, "templates 0 and 1 are the same"),
        (["a"], {"metadata": {"x": "é" * 40_000}}, "metadata has 80009 bytes"),
    ],
)
def test_phrases_that_share_a_score_are_refused(labels: list[Any], fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidVocabulary, match=words):
        make(*labels, **fields)
    assert make({"name": "a", "negatives": ["b"]}, "b").label_names == ("a", "b"), "a negative may be another label"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("brush_hair", "brush hair"),
        ("TaiChi", "tai chi"),
        ("YoYo", "yo yo"),
        ("HTMLEditing", "HTML editing"),
        ("playing TV games", "playing TV games"),
    ],
)
def test_class_names_become_words_on_request(name: str, words: str) -> None:
    assert formats.split_name(name) == words
    given = formats.parse(name.encode(), "text/plain", split_names=True)
    assert given.labels == [words]
    assert formats.parse(name.encode(), "text/plain").labels == [name]


@needs_shared
@pytest.mark.parametrize(
    ("file", "count"), [("kinetics400", 400), ("kinetics700", 700), ("ucf101", 101), ("hmdb51", 51), ("ntu60", 60)]
)
def test_label_lists_of_data_sets_load_as_they_are(file: str, count: int) -> None:
    body = (LABELS / f"{file}.txt").read_bytes()
    assert len(replace_vocabulary("x", formats.parse(body, "text/plain"), None, limits=LIMITS).labels) == count
    assert (
        len(replace_vocabulary("x", formats.parse(body, "text/plain", split_names=True), None, limits=LIMITS).labels)
        == count
    )
