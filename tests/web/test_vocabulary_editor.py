"""Editing a vocabulary on the page: labels, phrases, files, settings, making and deleting one."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from serve.vocabularies.formats import split_name
from tests.web.editing import (
    PATIENCE_MS,
    add,
    choose,
    expect_version,
    label_row,
    names_of,
    open_editor,
    rename,
    shown_names,
    stored,
    text_file,
)

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]
HOSTILE = [
    "<img src=x onerror=document.title='owned'>",
    "100 % / half & \"quoted\" 'single' \\ back",
    "😀 winken",
    "{}",
    "../../etc?x=1#y",
    "<script>alert(1)</script>",
]


def test_labels_are_added_renamed_and_removed(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    expect_version(page, 1)
    add(page, "waving")
    expect_version(page, 2)
    rename(page, "kicking", "kicking a ball")
    expect_version(page, 3)
    label_row(page, "bowing").get_by_role("button", name="Remove").click()
    expect_version(page, 4)
    expect(page.locator(".label")).to_have_count(2)
    assert shown_names(page) == names_of(stored(http, name)) == ["kicking a ball", "waving"]
    expect(page.locator("#editor-status")).to_have_text("Saved as version 4: remove “bowing”.")


def test_many_pasted_lines_are_one_edit_without_those_that_are_there(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#add").fill(" bowing\n  waving  \n\nwaving\nkicking\nWaving\n")
    expect(page.locator("#add-button")).to_have_text("Add 5 labels")
    page.locator("#add-button").click()
    expect_version(page, 2)
    names = ["bowing", "waving", "kicking", "Waving"]  # letter case makes another label, as in files and requests
    assert names_of(stored(http, name)) == names
    expect(page.locator("#add")).to_have_value("")
    expect(page.locator("#add")).to_be_focused()


def test_phrases_of_a_label_are_saved_one_a_line(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    row = label_row(page, "bowing")
    row.locator(".more").click()
    row.get_by_label("Synonyms").fill("taking a bow\n\n bowing down ")
    row.get_by_label("Similar but different").fill("squatting")
    row.get_by_label("Similar but different").press("Control+Enter")
    expect(row.locator(".more")).to_have_text("also taking a bow, bowing down · not squatting")
    label = stored(http, name)["labels"][0]
    assert (label["synonyms"], label["negatives"]) == (["taking a bow", "bowing down"], ["squatting"])
    expect(row.get_by_label("Synonyms")).to_be_visible()


def test_every_edit_names_its_version_its_wait_and_its_author(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#author").fill("李 Zoë")
    with page.expect_request(lambda request: request.method == "PATCH") as sent:
        add(page, "waving")
    headers = sent.value.all_headers()
    assert headers["if-match"] == '"1"'
    assert headers["prefer"].startswith("wait=")
    expect_version(page, 2)
    assert stored(http, name)["author"] in ("李 Zoë", "李 Zoë".encode().decode("latin-1"))  # bytes of UTF-8 travel
    page.locator("#tab-history").click()
    expect(page.locator(".version").first).to_contain_text("by 李 Zoë")
    page.reload()
    expect(page.locator("#author")).to_have_value("李 Zoë")


def test_a_refused_edit_is_reported_beside_its_label_and_keeps_what_was_typed(
    page: Page, make_vocabulary: MakeVocabulary
) -> None:
    open_editor(page, make_vocabulary("bowing", "kicking"))
    rename(page, "kicking", "ｂｏｗｉｎｇ")
    row = label_row(page, "kicking")
    expect(row.locator(".problem")).to_contain_text("are the same")
    expect(row.locator(".label-name")).to_have_value("ｂｏｗｉｎｇ")
    expect(row.locator(".label-name")).to_have_attribute("aria-invalid", "true")
    expect(label_row(page, "bowing").locator(".problem")).to_be_hidden()
    row.locator(".label-name").press("Escape")
    expect(row.locator(".label-name")).to_have_value("kicking")
    expect(row.locator(".problem")).to_be_hidden()
    add(page, "x" * 501)
    expect(page.locator("#add-problem")).to_contain_text("501 characters")
    expect(page.locator("#add")).to_have_value("x" * 501)


def test_a_lost_connection_keeps_what_was_typed_and_offers_it_again(
    page: Page, make_vocabulary: MakeVocabulary
) -> None:
    open_editor(page, make_vocabulary("bowing"))
    page.route("**/v1/vocabularies/page-*", lambda route: route.abort())
    rename(page, "bowing", "bowing deeply")
    row = label_row(page, "bowing")
    expect(row.locator(".problem")).to_contain_text("is not responding")
    expect(row.locator(".label-name")).to_have_value("bowing deeply")
    page.unroute("**/v1/vocabularies/page-*")
    row.get_by_role("button", name="Try again").click()
    expect_version(page, 2)
    expect(label_row(page, "bowing deeply")).to_be_visible()


def test_quick_edits_are_sent_one_after_the_other(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    for label in ("one", "two", "three", "four"):
        add(page, label)
    rename(page, "bowing", "bowing deeply")
    label_row(page, "kicking").locator(".more").click()
    label_row(page, "kicking").get_by_label("Synonyms").fill("a kick")
    rename(page, "kicking", "kicking a ball")
    expect_version(page, 8)
    document = stored(http, name)
    assert names_of(document) == ["bowing deeply", "kicking a ball", "one", "two", "three", "four"]
    assert document["labels"][1]["synonyms"] == ["a kick"]


def test_hostile_labels_are_text(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    add(page, "\n".join(HOSTILE))
    expect_version(page, 2)
    assert shown_names(page) == ["bowing", *HOSTILE] == names_of(stored(http, name))
    for label in HOSTILE:
        rename(page, label, f"{label}!")
    expect_version(page, 2 + len(HOSTILE))
    row = label_row(page, f"{HOSTILE[0]}!")
    row.locator(".more").click()
    row.get_by_label("Synonyms").fill(HOSTILE[-1])
    row.get_by_label("Synonyms").blur()
    expect_version(page, 3 + len(HOSTILE))
    page.locator("#tab-history").click()
    expect(page.locator("#history-diff")).to_contain_text(HOSTILE[0])
    assert page.locator("main img:not(#picture), main script").count() == 0
    assert page.title() != "owned"
    page.locator("#tab-labels").click()
    for label in HOSTILE:
        label_row(page, f"{label}!").get_by_role("button", name="Remove").click()
    expect(page.locator(".label")).to_have_count(1)
    assert names_of(stored(http, name)) == ["bowing"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.txt", "\ufeffbowing\r\nwaving, slowly\r\n\r\nsaying hello\r\n"),
        (
            "labels.csv",
            '\ufeffname,synonyms,negatives\r\nbowing,,\r\n"waving, slowly",a "wave|hello,x\nsaying hello,,\n',
        ),
        ("labels.json", json.dumps({"labels": ["bowing", {"name": "waving, slowly"}, "saying hello"]})),
    ],
    ids=["txt", "csv", "json"],
)
def test_a_file_of_labels_adds_what_is_missing(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client, *, file: str, text: str
) -> None:
    if file.endswith("csv"):
        text = text.replace('a "wave|hello,x', '"a ""wave""|hello",x')
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    page.locator("#import-file").set_input_files(text_file(file, text))
    expect(page.locator("#import-text")).to_contain_text(f"{file}: 3 labels, 1 of them duplicates or already present")
    page.get_by_role("button", name="Add 2 labels").click()
    expect_version(page, 2)
    document = stored(http, name)
    assert names_of(document) == ["bowing", "kicking", "waving, slowly", "saying hello"]
    phrases = (['a "wave"', "hello"], ["x"]) if file.endswith("csv") else ([], [])
    assert (document["labels"][2]["synonyms"], document["labels"][2]["negatives"]) == phrases


def test_a_file_replaces_the_labels_and_keeps_the_rest(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking", background=["an empty room"], description="kept")
    identity = stored(http, name)["labels"][1]["label_id"]
    open_editor(page, name)
    page.locator("#import-file").set_input_files(text_file("camel.txt", "ApplyEyeMakeup\nkicking\n"))
    page.locator("#import-split").check()
    page.get_by_role("button", name="Replace all labels").click()
    expect_version(page, 2)
    document = stored(http, name)
    assert names_of(document) == ["apply eye makeup", "kicking"]
    assert (document["background"], document["description"]) == (["an empty room"], "kept")
    assert document["labels"][1]["label_id"] == identity


def test_a_file_that_cannot_be_read_is_reported_before_anything_is_sent(
    page: Page, make_vocabulary: MakeVocabulary
) -> None:
    open_editor(page, make_vocabulary("bowing"))
    for file, text, expected in [
        ("a.csv", 'name\n"open', "cannot be read at line 2"),
        ("a.csv", "label\nbowing", "column `name`"),
        ("a.json", "{", "the JSON cannot be read"),
        ("a.json", "[1]", "label 0 of the JSON"),
        ("a.txt", "\n \n", "it has no labels"),
    ]:
        page.locator("#import-file").set_input_files(text_file(file, text))
        expect(page.locator("#import-problem")).to_contain_text(expected)
        expect(page.locator("#import-add")).to_be_hidden()
        page.locator("#import-cancel").click()
        expect(page.locator("#import")).to_be_hidden()
    expect_version(page, 1)


def test_names_are_split_as_the_server_splits_them(page: Page) -> None:
    names = [
        "ApplyEyeMakeup",
        "brush_hair",
        "YoYo",
        "playing TV",
        "HTTPServer",
        "TV",
        "A",
        "ÄrgerMachen",
        "a__b",
        "x2Go",
    ]
    split = page.evaluate(
        "async names => { const files = await import('/web/label_files.js'); return names.map(files.splitName); }",
        names,
    )
    assert split == [split_name(name) for name in names]


def test_exports_are_the_version_that_is_shown(page: Page, make_vocabulary: MakeVocabulary) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    add(page, "waving")
    expect_version(page, 2)
    for kind, text in {"txt": "bowing\nwaving\n", "csv": "name,synonyms,negatives\nbowing,,\nwaving,,\n"}.items():
        with page.expect_download() as download:
            page.locator(f"#export-{kind}").click()
        assert download.value.suggested_filename == f"{name}.{kind}"
        assert Path(download.value.path()).read_text(encoding="utf-8") == text


def test_settings_are_saved_field_by_field(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#tab-settings").click()
    page.locator("#setting-description").fill("greetings")
    page.locator("#setting-background").fill("an empty room\nstanding still\n")
    expect_version(page, 2)
    page.locator("#setting-templates").fill("no braces")
    page.locator("#setting-templates").blur()
    expect(page.locator("#problem-templates")).to_contain_text("must contain it once")
    expect(page.locator("#setting-templates")).to_have_value("no braces")
    page.locator("#setting-templates").fill("a clip of {}")
    page.locator("#setting-templates").blur()
    page.locator("#setting-phrase_rule").select_option("mean")
    expect_version(page, 5)
    expect(page.locator("#problem-templates")).to_be_hidden()
    document = stored(http, name)
    kept = {key: document[key] for key in ("description", "background", "templates", "phrase_rule")}
    assert kept == {
        "description": "greetings",
        "background": ["an empty room", "standing still"],
        "templates": ["a clip of {}"],
        "phrase_rule": "mean",
    }


def test_an_edit_scores_the_chosen_video_again_at_once(
    page: Page, demo_clip: Path, make_vocabulary: MakeVocabulary
) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(2)
    add(page, "a person in red walking to the left")
    expect(page.locator(".result")).to_have_count(3)
    expect(page.locator(".result .name").first).to_have_text("a person in red walking to the left")
    expect(page.locator("#timing")).to_contain_text(f"{name}@2")


def test_a_new_vocabulary_is_made_of_typed_labels(page: Page, demo_clip: Path, http: httpx.Client) -> None:
    choose(page, demo_clip)
    page.locator("#labels").fill("walking\nbowing")
    expect(page.locator("#own-hint")).to_be_visible()
    page.locator("#make-vocabulary").click()
    expect(page.locator("#new-name")).to_be_focused()
    expect(page.locator("#new-labels")).to_have_value("walking\nbowing")
    page.locator("#new-name").fill("demo")
    page.locator("#new-name").press("Enter")
    expect(page.locator("#new-problem")).to_contain_text("exists already")
    name = "page-of-typed-labels"
    page.locator("#new-file").set_input_files(text_file("more.csv", "name,synonyms\nwaving,a wave\n"))
    page.locator("#new-name").fill(name)
    page.locator("#new-create").click()
    expect_version(page, 1)
    expect(page.locator("#vocabulary")).to_have_value(name)
    expect(page.locator("#labels")).to_have_value("")
    expect(page.locator("#timing")).to_contain_text(f"{name}@1")
    assert names_of(stored(http, name)) == ["waving", "walking", "bowing"]
    http.delete(f"/v1/vocabularies/{name}", headers={"If-Match": "*"}).raise_for_status()


def test_a_new_vocabulary_may_begin_as_a_copy(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    original = make_vocabulary({"name": "bowing", "synonyms": ["a bow"]}, background=["an empty room"])
    open_editor(page, original)
    page.locator("#make-vocabulary").click()
    page.locator("#new-name").fill(f"{original}-copy")
    page.locator("#new-copy").select_option(original)
    page.locator("#new-create").click()
    expect(page.locator("#editor-name")).to_have_text(f"{original}-copy")
    expect_version(page, 1)
    copy = stored(http, f"{original}-copy")
    assert (names_of(copy), copy["labels"][0]["synonyms"], copy["background"]) == (
        ["bowing"],
        ["a bow"],
        ["an empty room"],
    )
    http.delete(f"/v1/vocabularies/{original}-copy", headers={"If-Match": "*"}).raise_for_status()


def test_deleting_asks_for_the_name(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#tab-settings").click()
    expect(page.locator("#delete")).to_be_disabled()
    page.locator("#delete-name").fill(name[:-1])
    expect(page.locator("#delete")).to_be_disabled()
    page.locator("#delete-name").fill(name)
    page.locator("#delete").click()
    expect(page.locator("#editor")).to_be_hidden()
    expect(page.locator("#vocabulary")).to_have_value("demo")
    assert http.get(f"/v1/vocabularies/{name}").status_code == 404


def test_unsaved_text_keeps_the_editor_from_opening_another(page: Page, make_vocabulary: MakeVocabulary) -> None:
    first, second = make_vocabulary("bowing"), make_vocabulary("kicking")
    open_editor(page, first)
    page.locator("#add").fill("not added yet")
    page.locator("#vocabulary").select_option(second)
    page.locator("#edit-vocabulary").click()
    expect(page.locator("#editor-status")).to_contain_text("are not saved yet")
    expect(page.locator("#editor-name")).to_have_text(first)
    expect(page.locator("#add")).to_have_value("not added yet")
    page.locator("#add").fill("")
    page.locator("#edit-vocabulary").click()
    expect(page.locator("#editor-name")).to_have_text(second)


def test_the_progress_of_encoding_is_reported_until_the_version_is_in_use(
    page: Page, demo_clip: Path, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    """The page sees two answers of the encoding server one by one, however fast the server is."""
    name = make_vocabulary("bowing")
    open_editor(page, name)
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(1)
    polls: list[Route] = []
    answers: list[tuple[int, httpx.Response]] = []

    def commit(route: Route) -> None:
        answer = route.fetch(headers={**route.request.all_headers(), "prefer": "wait=0"})
        answers.extend(encoding_answers(http, name, 2))
        page.route("**/v1/vocabularies", lambda poll: polls.append(poll))
        route.fulfill(response=answer)

    page.route("**/v1/vocabularies/page-*", commit)
    unseen = "".join(f"an action never seen before, number {i}\n" for i in range(12_000))
    page.locator("#import-file").set_input_files(text_file("long.txt", unseen))
    page.get_by_role("button", name="Add 12,000 labels").click()
    for _ in range(2):
        wait_for(page, lambda: polls and answers)
        done, answer = answers.pop(0)
        polls.pop(0).fulfill(body=answer.content, headers=dict(answer.headers))
        text = f"version 2: encoding {done:,} of 12,001 prompts; version 1 is in use until then"
        expect(page.locator("#encoding-text")).to_have_text(text)
        expect(page.locator("#editor-version")).to_have_text("version 2")
        expect(page.locator("#encoding-bar")).to_have_attribute("max", "12001")
        expect(page.locator("#encoding-bar")).to_have_attribute("value", str(done))
    wait_for(page, lambda: polls)
    page.unroute("**/v1/vocabularies")
    polls.pop(0).continue_()
    expect(page.locator("#encoding")).to_be_hidden()
    expect_version(page, 2)
    expect(page.locator("#timing")).to_contain_text(f"{name}@2")


def encoding_answers(http: httpx.Client, name: str, number: int) -> list[tuple[int, httpx.Response]]:
    """Lists of the vocabularies while one of them is being encoded, each further on: prompts done, answer."""
    found: list[tuple[int, httpx.Response]] = []
    while len(found) < number:
        answer = http.get("/v1/vocabularies")
        facts = next(item for item in answer.json()["vocabularies"] if item["name"] == name)
        assert facts["current"] < facts["latest"], "the encoding was over before it was seen"
        encoding = facts["encoding"]
        if encoding and encoding["total"] and encoding["done"] not in [done for done, _ in found]:
            assert all(encoding["done"] > done for done, _ in found), "it went back"
            found.append((encoding["done"], answer))
    return found


def wait_for(page: Page, is_there: Callable[[], object]) -> None:
    """Let the page go on until something is there."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not is_there():
        assert time.monotonic() < end, "the page did not ask"
        page.wait_for_timeout(20)
