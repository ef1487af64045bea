"""`/docs`: changes of vocabularies can be tried from the API page, with every header they need."""

import json
from collections.abc import Callable

import httpx
from playwright.sync_api import Browser, Locator, Page, expect

from tests.running_server import RunningServer
from tests.web.editing import PATIENCE_MS


def open_operation(page: Page, server: RunningServer, method: str, path: str) -> Locator:
    """The operation of the API page, unfolded and ready to be filled in."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{server.address}/docs")
    operation = page.locator(f".opblock-{method}", has=page.locator(f'.opblock-summary-path[data-path="{path}"]'))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    return operation


def fill(operation: Locator, name: str, value: str) -> None:
    operation.locator(f'tr[data-param-name="{name}"] input').fill(value)


def execute(operation: Locator, body: dict[str, object]) -> Locator:
    """Send the request; the table of its answer."""
    operation.locator("textarea.body-param__text").fill(json.dumps(body))
    operation.get_by_role("button", name="Execute").click()
    return operation.locator(".live-responses-table .response .response-col_status")


def test_patch_and_rollback_can_be_tried(
    browser: Browser, demo_server: RunningServer, http: httpx.Client, make_vocabulary: Callable[..., str]
) -> None:
    name = make_vocabulary("waving", "walking")
    page = browser.new_page()
    try:
        patch = open_operation(page, demo_server, "patch", "/v1/vocabularies/{name}")
        fill(patch, "name", name)
        fill(patch, "If-Match", '"1"')
        fill(patch, "X-Author", "somebody")
        expect(execute(patch, {"add": ["running"]})).to_contain_text("200", timeout=PATIENCE_MS)
        found = http.get(f"/v1/vocabularies/{name}").json()
        assert [label["name"] for label in found["labels"]] == ["waving", "walking", "running"]
        assert (found["version"], found["author"]) == (2, "somebody")

        rollback = open_operation(page, demo_server, "post", "/v1/vocabularies/{name}:rollback")
        fill(rollback, "name", name)
        fill(rollback, "If-Match", '"2"')
        expect(execute(rollback, {"version": 1})).to_contain_text("200", timeout=PATIENCE_MS)
        assert http.get(f"/v1/vocabularies/{name}").json()["num_labels"] == 2

        stale = open_operation(page, demo_server, "patch", "/v1/vocabularies/{name}")
        fill(stale, "name", name)
        fill(stale, "If-Match", '"1"')
        expect(execute(stale, {"add": ["jumping"]})).to_contain_text("412", timeout=PATIENCE_MS)
    finally:
        page.close()
