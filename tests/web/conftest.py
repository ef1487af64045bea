"""A real Chromium, and the page of the demo server in it."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.running_server import RunningServer
from tests.web.editing import PATIENCE_MS

NEW = {"If-None-Match": "*"}
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed with each module: its event loop would be in the way of asynchronous tests."""
    expect.set_options(timeout=PATIENCE_MS)
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, demo_server: RunningServer) -> Iterator[Page]:
    """The page, connected; it may neither fail nor ask another host."""
    with opened_page(browser, demo_server) as opened:
        yield opened


@pytest.fixture
def other_page(browser: Browser, demo_server: RunningServer) -> Iterator[Page]:
    """The page as somebody else has it open."""
    with opened_page(browser, demo_server) as opened:
        yield opened


@contextmanager
def opened_page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    elsewhere: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if "Security" in message.text else None)
    opened.on(
        "request",
        lambda request: (
            elsewhere.append(request.url) if not request.url.startswith((server.address, "blob:")) else None
        ),
    )
    opened.goto(server.address)
    expect(opened.locator("#model")).to_contain_text("demo@", timeout=PATIENCE_MS)
    yield opened
    context.close()
    assert not faults
    assert not elsewhere


@pytest.fixture
def make_vocabulary(http: httpx.Client) -> Iterator[Callable[..., str]]:
    """Makes a vocabulary under a name of its own; gone after the test."""
    made: list[str] = []

    def make(*labels: str | dict[str, object], **rest: object) -> str:
        made.append(f"page-{secrets.token_hex(4)}")
        document = {"labels": list(labels), **rest}
        http.put(f"/v1/vocabularies/{made[-1]}", json=document, headers=NEW).raise_for_status()
        return made[-1]

    yield make
    for name in made:
        http.delete(f"/v1/vocabularies/{name}", headers={"If-Match": "*"})
