"""What a person does on the page, in words: choose a video, open the editor, name labels."""

from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.waiting import PATIENCE_SECONDS

PATIENCE_MS = 1000 * PATIENCE_SECONDS


def choose(page: Page, path: Path) -> None:
    """Choose a video."""
    page.locator("#file").set_input_files(str(path))


def open_editor(page: Page, name: str) -> None:
    """Choose a vocabulary and edit it; the list is asked again first, as when the tab gets the focus."""
    see_news(page)
    page.locator("#vocabulary").select_option(name)
    page.locator("#edit-vocabulary").click()
    expect(page.locator("#editor-name")).to_have_text(name)
    expect(page.locator(".label").first).to_be_visible()


def see_news(page: Page) -> None:
    """What the page does when its tab gets the focus."""
    page.evaluate("window.dispatchEvent(new Event('focus'))")


def label_row(page: Page, name: str) -> Locator:
    """The row of a label."""
    return page.locator(".label").filter(has=page.get_by_label(f"Name of label {name}", exact=True))


def rename(page: Page, old: str, new: str) -> None:
    """Type a new name and press Enter."""
    field = page.get_by_label(f"Name of label {old}", exact=True)
    field.fill(new)
    field.press("Enter")


def add(page: Page, text: str) -> None:
    """Type labels and press Enter."""
    page.locator("#add").fill(text)
    page.locator("#add").press("Enter")


def shown_names(page: Page) -> list[str]:
    """The names in the rows."""
    return page.locator(".label-name").evaluate_all("fields => fields.map(field => field.value)")


def expect_version(page: Page, version: int) -> None:
    """The version is saved, in use, and shown."""
    expect(page.locator("#editor-version")).to_have_text(f"version {version}, in use")


def stored(http: httpx.Client, name: str) -> dict[str, Any]:
    """What the server holds."""
    document: dict[str, Any] = http.get(f"/v1/vocabularies/{name}").raise_for_status().json()
    return document


def names_of(document: dict[str, Any]) -> list[str]:
    """The names of its labels."""
    return [label["name"] for label in document["labels"]]


def text_file(name: str, text: str) -> FilePayload:
    """A file to be chosen."""
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}
