"""Two people edit one vocabulary on two pages: nothing is overwritten, nothing typed is lost."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.editing import (
    add,
    expect_version,
    label_row,
    names_of,
    open_editor,
    rename,
    see_news,
    shown_names,
    stored,
)

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]


def test_an_edit_on_an_old_version_is_reported_and_saved_on_top_when_asked(
    page: Page, other_page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    open_editor(other_page, name)
    other_page.locator("#author").fill("Ann")
    page.get_by_label("Name of label kicking").fill("kicking a ball")
    rename(other_page, "bowing", "bowing deeply")
    expect_version(other_page, 2)
    page.get_by_label("Name of label kicking").press("Enter")
    conflict = page.locator("#conflict")
    expect(conflict).to_contain_text("version 2 was created by Ann")
    expect(conflict.locator("time")).to_have_count(1)
    expect(conflict).to_contain_text("bowing → bowing deeply")
    expect(conflict).to_contain_text("Not saved yet: rename “kicking” to “kicking a ball”.")
    assert shown_names(page) == ["bowing deeply", "kicking a ball"]
    assert names_of(stored(http, name)) == ["bowing deeply", "kicking"]
    expect(page.locator("#undo")).to_be_disabled()
    page.get_by_role("button", name="Save my edit on top").click()
    expect_version(page, 3)
    expect(conflict).to_be_hidden()
    assert names_of(stored(http, name)) == ["bowing deeply", "kicking a ball"]
    see_news(other_page)
    expect_version(other_page, 3)
    assert shown_names(other_page) == ["bowing deeply", "kicking a ball"]


def test_discarding_shows_the_newest_and_gives_typed_labels_back(
    page: Page, other_page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    open_editor(other_page, name)
    add(other_page, "waving")
    expect_version(other_page, 2)
    add(page, "clapping")
    rename(page, "kicking", "kicking a ball")
    expect(page.locator("#conflict")).to_contain_text("version 2 was created by somebody")
    page.get_by_role("button", name="Discard my edits").click()
    expect_version(page, 2)
    assert shown_names(page) == names_of(stored(http, name)) == ["bowing", "kicking", "waving"]
    expect(page.locator("#add")).to_have_value("clapping")


def test_a_label_removed_meanwhile_leaves_what_was_typed_to_be_added(
    page: Page, other_page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing", "kicking")
    open_editor(page, name)
    open_editor(other_page, name)
    page.get_by_label("Name of label kicking").fill("kicking a ball")
    label_row(other_page, "kicking").get_by_role("button", name="Remove").click()
    expect_version(other_page, 2)
    page.get_by_label("Name of label kicking").press("Enter")
    page.get_by_role("button", name="Save my edit on top").click()
    expect(page.locator("#add-problem")).to_contain_text("“kicking” was removed in the meantime")
    expect(page.locator("#add")).to_have_value("kicking a ball")
    page.locator("#add").press("Enter")
    expect_version(page, 3)
    assert names_of(stored(http, name)) == ["bowing", "kicking a ball"]


def test_a_faster_person_twice_is_reported_twice(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")

    def somebody_adds(label: str, version: int) -> None:
        headers = {"If-Match": f'"{version}"', "X-Author": "Bo"}
        http.patch(f"/v1/vocabularies/{name}", json={"add": [label]}, headers=headers).raise_for_status()

    open_editor(page, name)
    somebody_adds("one", 1)
    add(page, "waving")
    expect(page.locator("#conflict")).to_contain_text("version 2 was created by Bo")
    somebody_adds("two", 2)
    page.get_by_role("button", name="Save my edit on top").click()
    expect(page.locator("#conflict")).to_contain_text("version 3 was created by Bo")
    page.get_by_role("button", name="Save my edit on top").click()
    expect_version(page, 4)
    assert names_of(stored(http, name)) == ["bowing", "one", "two", "waving"]


def test_a_change_made_elsewhere_is_followed_while_nothing_is_typed(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    headers = {"If-Match": '"1"', "X-Author": "Bo"}
    http.patch(f"/v1/vocabularies/{name}", json={"add": ["waving"]}, headers=headers).raise_for_status()
    page.locator("#add").fill("being typed")
    see_news(page)
    expect_version(page, 2)
    expect(page.locator("#editor-status")).to_have_text("Now showing version 2 by Bo.")
    expect(page.locator(".label")).to_have_count(2)
    expect(page.locator("#add")).to_have_value("being typed")
