"""The page reads label lists by the server's grammar: the same table of cases, and what a person sees of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.editing import choose, expect_version, names_of, open_editor, stored, text_file

MakeVocabulary = Callable[..., str]
TABLE = Path(__file__).resolve().parents[1] / "golden" / "text" / "label_lists.json"
CASES: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["cases"]
READ = """async cases => {
    const { parseList, parseDocument, writeDocument } = await import("/web/label_lists.js");
    const attempt = (read) => { try { return read(); } catch (error) { return error.problem.detail; } };
    return cases.map(({ text }) => {
        const [list, document] = [attempt(() => parseList(text)), attempt(() => parseDocument(text))];
        const back = Array.isArray(list) ? [parseList, parseDocument].map((read) => read(writeDocument(list))) : [];
        return { list, document, back };
    });
}"""


def test_the_page_reads_lists_as_the_server_does(page: Page) -> None:
    for case, found in zip(CASES, page.evaluate(READ, CASES), strict=True):
        for kind in ("list", "document"):
            wanted = case.get(kind, case.get("list", case.get("error")))
            read = found[kind]
            assert read.startswith(wanted) if isinstance(wanted, str) else read == wanted, (case["text"], kind, read)
        assert all(back == found["list"] for back in found["back"]), case["text"]


@pytest.mark.parametrize(
    ("typed", "added"),
    [
        ("走路，跑步", ["走路", "跑步"]),
        ('"waving, slowly"; kicking', ["waving, slowly", "kicking"]),
        ("a &amp; b", ["a &amp; b"]),
    ],
    ids=["full-width", "quotes", "entity"],
)
def test_labels_typed_on_one_line_are_a_list(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client, typed: str, added: list[str]
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#add").fill(typed)
    page.locator("#add").press("Enter")
    expect_version(page, 2)
    assert names_of(stored(http, name)) == ["bowing", *added]


def test_an_open_quote_is_shown_where_it_is_and_nothing_is_sent(page: Page, make_vocabulary: MakeVocabulary) -> None:
    open_editor(page, make_vocabulary("bowing"))
    page.locator("#add").fill('waving, "kicking')
    page.locator("#add").press("Enter")
    expect(page.locator("#add-problem")).to_contain_text('line 1, character 9: the quote " is not closed')
    expect(page.locator("#add")).to_have_value('waving, "kicking')
    expect_version(page, 1)


def test_a_refused_label_with_a_comma_comes_back_in_quotes(page: Page, make_vocabulary: MakeVocabulary) -> None:
    open_editor(page, make_vocabulary("bowing"))
    page.locator("#add").fill(f'"waving, slowly", {"x" * 501}')
    page.locator("#add").press("Enter")
    expect(page.locator("#add-problem")).to_contain_text("501 characters")
    expect(page.locator("#add")).to_have_value(f'"waving, slowly"\n{"x" * 501}')


def test_a_csv_with_semicolons_is_read(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#import-file").set_input_files(text_file("a.csv", "name;synonyms\nwaving, slowly;a wave|hello\n"))
    page.get_by_role("button", name="Add 1 label").click()
    expect_version(page, 2)
    assert stored(http, name)["labels"][1]["name"] == "waving, slowly"
    assert stored(http, name)["labels"][1]["synonyms"] == ["a wave", "hello"]


def test_labels_that_the_model_merges_are_shown(page: Page, make_vocabulary: MakeVocabulary, demo_clip: Path) -> None:
    open_editor(page, make_vocabulary("Polish", "polish"))
    expect(page.locator("#editor-findings")).to_contain_text("demo@1 reads 'Polish', 'polish' as the same prompt")
    choose(page, demo_clip)
    page.locator("#labels").fill("Bowing, bowing, waving")
    expect(page.locator("#answer-warnings")).to_contain_text("'Bowing', 'bowing'")
    page.locator("#labels").fill('"bowing')
    expect(page.locator("#error")).to_contain_text("line 1, character 1")
    expect(page.locator("#request")).to_be_hidden()
