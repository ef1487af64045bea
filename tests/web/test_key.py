"""The page on a server that requires keys: it asks once, and the key works for everything."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from serve.access.key_store import KeyStore
from serve.data_folder import open_database
from serve.scopes import Scope
from serve.settings import ServeSettings
from tests.running_server import running_server

pytestmark = pytest.mark.browser


def test_the_page_asks_once_for_a_key(browser: Browser, demo_clip: Path, tmp_path: Path) -> None:
    database = open_database(ServeSettings(data_dir=tmp_path / "data"))
    database.migrate()
    store = KeyStore(database)
    _, key = store.create("page", [Scope.INFER, Scope.EDIT], lifetime_seconds=None)
    with running_server(tmp_path) as server:
        context = browser.new_context(accept_downloads=True)
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server.address)
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog).to_be_visible()
        page.get_by_label("Key", exact=True).fill("as_wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#key-reason")).to_have_text("the API key is unknown, expired or revoked")
        expect(dialog).to_be_visible()
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#model")).to_contain_text("demo@")
        expect(dialog).to_be_hidden()
        page.locator("#file").set_input_files(demo_clip)
        expect(page.locator("#results .result").first).to_be_visible()
        page.get_by_role("button", name="Edit", exact=True).click()
        expect(page.locator("#author")).to_be_hidden()
        with page.expect_download() as download:
            page.locator("#export-csv").click()
        assert Path(download.value.path()).read_text().startswith("name,synonyms,negatives\n")
        page.reload()  # the key is stored
        expect(page.locator("#model")).to_contain_text("demo@")
        expect(dialog).to_be_hidden()
        store.revoke("page")
        page.locator("#file").set_input_files(demo_clip)
        expect(dialog).to_be_visible()
        context.close()
    database.close()
    assert not faults
