"""The history of a vocabulary on the page: versions in pages, differences between any two, the way back."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.editing import expect_version, names_of, open_editor, stored

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]


@pytest.fixture
def changed(make_vocabulary: MakeVocabulary, http: httpx.Client) -> str:
    """A vocabulary of 30 versions: labels added one by one, then one renamed, one given a synonym, one removed."""
    name = make_vocabulary("bowing", "kicking")
    changes: list[dict[str, object]] = [{"add": [f"label {number}"]} for number in range(26)]
    changes += [{"rename": [{"label": "bowing", "to": "bowing deeply"}]}]
    changes += [{"update": [{"name": "kicking", "synonyms": ["a kick"]}], "background": ["an empty room"]}]
    changes += [{"remove": ["label 0"]}]
    for version, change in enumerate(changes, start=1):
        headers = {"If-Match": f'"{version}"', "X-Author": f"author {version + 1}"}
        http.patch(f"/v1/vocabularies/{name}", json=change, headers=headers).raise_for_status()
    return name


def compare(page: Page, old: int, new: int) -> None:
    page.get_by_label(f"Compare from version {old}", exact=True).check()
    page.get_by_label(f"Compare to version {new}", exact=True).check()
    expect(page.locator("#history-diff h3")).to_have_text(f"From version {old} to {new}")


def test_versions_come_in_pages_and_any_two_are_compared(page: Page, changed: str) -> None:
    open_editor(page, changed)
    page.locator("#tab-history").click()
    rows = page.locator(".version")
    expect(rows).to_have_count(20)
    expect(rows.first).to_contain_text("Version 30 by author 30")
    expect(rows.first.locator("time")).to_have_count(1)
    expect(rows.first).to_contain_text("27 labels")
    expect(page.locator("#history-diff")).to_contain_text("1 label removedlabel 0")
    page.locator("#older").click()
    expect(rows).to_have_count(30)
    expect(page.locator("#older")).to_be_hidden()
    expect(rows.last).to_contain_text("created")
    compare(page, 1, 30)
    diff = page.locator("#history-diff")
    expect(diff).to_contain_text("25 labels added")
    expect(diff.locator(".added ul li")).to_have_count(25)
    expect(diff).to_contain_text("bowing → bowing deeply")
    expect(diff).to_contain_text("1 label changedkicking")
    expect(diff).to_contain_text("changed: background phrases")
    compare(page, 30, 2)
    expect(diff).to_contain_text("1 label addedlabel 0")
    expect(diff).to_contain_text("25 labels removed")
    compare(page, 3, 3)
    expect(diff).to_contain_text("no difference")


def test_going_back_asks_in_the_page_and_can_be_undone(page: Page, changed: str, http: httpx.Client) -> None:
    open_editor(page, changed)
    page.locator("#tab-history").click()
    back = page.get_by_role("button", name="Roll back to version 28 …")
    back.click()
    confirm = page.locator(".version .confirm")
    expect(confirm).to_contain_text("1 label addedlabel 0")
    expect(page.get_by_role("button", name="Restore version 28")).to_be_focused()
    page.keyboard.press("Escape")
    expect(confirm).to_have_count(0)
    expect(back).to_be_focused()
    expect_version(page, 30)
    back.click()
    page.get_by_role("button", name="Restore version 28").click()
    expect_version(page, 31)
    expect(page.locator(".version").first).to_contain_text("rolled back to 28")
    assert stored(http, changed)["labels"] == stored(http, f"{changed}@28")["labels"]
    page.locator("#undo").click()
    expect_version(page, 32)
    assert names_of(stored(http, changed)) == names_of(stored(http, f"{changed}@30"))
