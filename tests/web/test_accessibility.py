"""No state of the page violates WCAG 2.2 AA as far as axe-core finds, in light and in dark, wide and on a phone."""

from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.web.editing import choose

pytestmark = pytest.mark.browser
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Page) -> list[str]:
    """The rules that are violated, each with the first element that does."""
    page.evaluate("scrollTo(0, 0)")  # what lies under the header is not a target
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in found]


def show(page: Page, tab: str, ready: str) -> None:
    page.evaluate("tab => { location.hash = `#/${tab}`; }", tab)
    expect(page.locator(ready).first).to_be_visible()


def unfold(page: Page) -> None:
    for summary in page.locator("#view details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 360)], ids=["light", "dark phone"])
def test_no_state_violates_wcag(page: Page, demo_clip: Path, http: httpx.Client, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    with demo_clip.open("rb") as stream:
        video = http.post("/v1/timeline", files={"video": stream}, data={"store": "true"}).raise_for_status().json()
    assert violations(page) == [], "before a video"
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    unfold(page)
    assert violations(page) == [], "answer"
    page.locator("#other-template").fill("{} {}")
    expect(page.locator("#comparison-error")).to_be_visible()
    page.locator("#file").set_input_files([str(demo_clip), str(demo_clip)])
    expect(page.locator("#queue")).to_contain_text("2 of 2 files")
    assert violations(page) == [], "problem and queue"
    for tab, ready in (
        ("timeline", "#strip .segment"),
        ("search", "#library .card"),
        ("jobs", "#new-job"),
        ("models", "#models .card"),
        ("settings", "#language"),
        ("vocabularies", "#vocabularies-heading"),
    ):
        show(page, tab, ready)
        unfold(page)
        assert violations(page) == [], tab
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), tab
    show(page, "vocabularies/demo", ".label")
    for part in ("labels", "settings", "history"):
        page.locator(f"#tab-{part}").click()
        assert violations(page) == [], part
    http.delete(f"/v1/videos/{video['video_id']}")
