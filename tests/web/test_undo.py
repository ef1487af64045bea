"""Undo and redo on the page: new versions that equal older ones, labels and scores restored."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.editing import (
    add,
    choose,
    expect_version,
    label_row,
    names_of,
    open_editor,
    rename,
    shown_names,
    stored,
)

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]


def test_undo_and_redo_restore_labels_and_scores(
    page: Page, demo_clip: Path, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking", "a person in red walking to the right")
    open_editor(page, name)
    choose(page, demo_clip)
    expect(page.locator("#timing")).to_contain_text(f"{name}@1")
    seen = {1: page.locator("#results").inner_text()}
    add(page, "a person in red walking to the left")
    expect(page.locator("#timing")).to_contain_text(f"{name}@2")
    seen[2] = page.locator("#results").inner_text()
    label_row(page, "kicking").get_by_role("button", name="Remove").click()
    expect(page.locator("#timing")).to_contain_text(f"{name}@3")
    seen[3] = page.locator("#results").inner_text()
    for act, version, equal in [("undo", 4, 2), ("undo", 5, 1), ("redo", 6, 2), ("redo", 7, 3)]:
        page.locator(f"#{act}").click()
        expect(page.locator("#timing")).to_contain_text(f"{name}@{version}")
        assert page.locator("#results").inner_text() == seen[equal]
        expect_version(page, version)
        old, new = (stored(http, f"{name}@{number}")["labels"] for number in (equal, version))
        assert new == old
        assert shown_names(page) == names_of({"labels": new})
    expect(page.locator("#redo")).to_be_disabled()
    assert len(http.get(f"/v1/vocabularies/{name}/versions").json()["versions"]) == 7


def test_undo_says_what_it_takes_back_and_an_edit_ends_redo(page: Page, make_vocabulary: MakeVocabulary) -> None:
    open_editor(page, make_vocabulary("bowing"))
    expect(page.locator("#undo")).to_be_disabled()
    rename(page, "bowing", "bowing deeply")
    expect(page.locator("#undo")).to_have_attribute("title", "Undo: rename “bowing” to “bowing deeply”")
    page.locator("#undo").click()
    expect_version(page, 3)
    expect(page.locator("#editor-status")).to_have_text("Saved as version 3: undo: rename “bowing” to “bowing deeply”.")
    expect(page.locator("#redo")).to_be_enabled()
    add(page, "waving")
    expect_version(page, 4)
    expect(page.locator("#redo")).to_be_disabled()


def test_keys_undo_outside_text_fields_alone(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    add(page, "waving")
    expect_version(page, 2)
    page.locator("#add").press_sequentially("typed")
    page.keyboard.press("Control+z")
    page.locator("#add").fill("")
    page.locator("#editor-heading").focus()
    page.keyboard.press("Control+z")
    expect_version(page, 3)
    assert names_of(stored(http, name)) == ["bowing"]
    page.keyboard.press("Control+Shift+z")
    expect_version(page, 4)
    page.keyboard.press("Control+z")
    expect_version(page, 5)
    page.keyboard.press("Control+y")
    expect_version(page, 6)
    assert names_of(stored(http, name)) == ["bowing", "waving"]


def test_undo_pressed_quickly_goes_back_step_by_step(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    for label in ("one", "two", "three"):
        add(page, label)
    expect_version(page, 4)
    page.locator("#editor-heading").focus()
    for _ in range(5):
        page.keyboard.press("Control+z")
    expect_version(page, 7)
    assert names_of(stored(http, name)) == ["bowing"]
    expect(page.locator("#undo")).to_be_disabled()


def test_undo_never_takes_back_what_somebody_else_did(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    add(page, "waving")
    expect_version(page, 2)
    patch = {"add": ["kicking"]}
    headers = {"If-Match": '"2"', "X-Author": "Bo"}
    http.patch(f"/v1/vocabularies/{name}", json=patch, headers=headers).raise_for_status()
    page.locator("#undo").click()
    expect(page.locator("#conflict")).to_contain_text("version 3 was created by Bo")
    expect(page.locator("#conflict")).to_contain_text("they were not applied")
    page.get_by_role("button", name="OK").click()
    expect(page.locator("#conflict")).to_be_hidden()
    expect_version(page, 3)
    expect(page.locator("#undo")).to_be_disabled()
    assert shown_names(page) == names_of(stored(http, name)) == ["bowing", "waving", "kicking"]
