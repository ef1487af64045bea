"""Correcting an answer on the page, where the operator keeps feedback; elsewhere nothing is offered."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.running_server import running_server
from tests.waiting import PATIENCE_SECONDS
from tests.web.conftest import opened_page
from tests.web.editing import choose

pytestmark = pytest.mark.browser
LABEL = "moonwalking <b>"


def test_without_feedback_nothing_is_offered(page: Page, demo_clip: Path) -> None:
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    expect(page.locator("#correction")).to_be_hidden()


def test_a_wrong_answer_is_corrected_and_the_correction_taken_back(
    browser: Browser, tmp_path: Path, demo_clip: Path
) -> None:
    broken = tmp_path / "page.mp4"
    broken.write_text("<!doctype html><p>not found</p>")
    with (
        running_server(tmp_path / "cache", SERVE_FEEDBACK__ENABLED="true") as server,
        opened_page(browser, server) as page,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
    ):
        expect(page.locator("#correction")).to_be_hidden()
        choose(page, demo_clip)
        expect(page.locator(".result")).to_have_count(5)
        best = page.locator(".result .name").first.inner_text()
        page.get_by_text("Wrong? Send the correct label").click()
        page.get_by_label("The correct label").fill(LABEL)
        page.get_by_label("The correct label").press("Enter")
        status = page.locator("#correction-status")
        expect(status).to_contain_text(f"Stored as “{LABEL}”, which is not a label of the vocabulary")
        (row,) = http.get("/v1/feedback").json()["feedback"]
        assert (row["label"], row["predicted"], row["vocabulary"]) == (LABEL, best, "demo@1")
        assert any(row["request_id"] in line and "/v1/classify" in line for line in server.log)
        status.get_by_role("button", name="Withdraw").click()
        expect(status).to_have_text("Deleted.")
        assert http.get("/v1/feedback").json()["num_clips"] == 0
        page.get_by_label("The correct label").fill("  walk" * 200)
        page.locator("#send-correction").click()
        expect(page.locator("#correction-problem")).to_contain_text("at most 500 are allowed")
        choose(page, broken)
        expect(page.locator("#error")).to_contain_text("HTML page")
        expect(page.locator("#correction")).to_be_hidden()
