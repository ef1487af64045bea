"""The page in a real Chromium, against a real server: a video, its labels, its answer."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.running_server import RunningServer
from tests.synthetic_video import make_picture
from tests.waiting import PATIENCE_SECONDS
from tests.web.editing import choose

pytestmark = pytest.mark.browser


def test_a_video_gives_bars_marks_and_facts(page: Page, demo_clip: Path, demo_server: RunningServer) -> None:
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    expect(page.locator("#facts")).to_contain_text("frames")
    with demo_clip.open("rb") as stream:
        answer = httpx.post(
            f"{demo_server.address}/v1/classify", files={"video": stream}, timeout=PATIENCE_SECONDS
        ).json()
    marks = page.locator("#axis button").evaluate_all("marks => marks.map(mark => Number(mark.dataset.pts))")
    assert marks == pytest.approx(answer["sampling"]["pts_seconds"][0])
    assert page.locator(".name").all_text_contents() == [item["label"] for item in answer["results"]]
    widths = page.locator(".fill").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True)
    expect(page.locator("#notice")).to_contain_text("rendered figures only")


def test_typed_labels_score_again_without_choosing_the_file(page: Page, demo_clip: Path) -> None:
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    page.locator("#labels").fill("clapping\nwalking to the left\nsquatting, slowly")
    expect(page.locator(".result")).to_have_count(3)
    assert "squatting, slowly" in page.locator(".name").all_text_contents()
    expect(page.locator("#curl")).to_contain_text("squatting, slowly")


def test_a_broken_file_is_reported_in_words(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "page.mp4"
    broken.write_text("<!doctype html><p>not found</p>")
    choose(page, broken)
    expect(page.locator("#error")).to_contain_text("this is an HTML page; send a video")
    expect(page.locator("#unplayable")).to_contain_text("may still be able to read it")
    expect(page.locator("#unplayable")).to_be_visible()


def test_a_picture_is_shown_and_scored(page: Page, tmp_path: Path) -> None:
    choose(page, make_picture(tmp_path / "still.png"))
    expect(page.locator(".result")).to_have_count(5)
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#video")).to_be_hidden()
    expect(page.locator("#unplayable")).to_be_hidden()


def test_labels_are_text_never_markup(page: Page, demo_clip: Path) -> None:
    page.locator("#labels").fill("<img src=x onerror=document.title='owned'>\n<script>alert(1)</script>")
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(2)
    assert page.locator("#results img, #results script").count() == 0
    assert page.title() != "owned"


def test_a_dropped_file_is_taken(page: Page, demo_clip: Path) -> None:
    content = list(demo_clip.read_bytes())
    transfer = page.evaluate_handle(
        "content => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(content)], 'dropped.mp4')); return data; }",  # noqa: E501
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#facts")).to_contain_text("dropped.mp4")
    expect(page.locator(".result")).to_have_count(5)


def test_the_page_fits_a_phone(page: Page, demo_clip: Path) -> None:
    page.set_viewport_size({"width": 375, "height": 740})
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_api_is_documented_without_other_hosts(page: Page, demo_server: RunningServer) -> None:
    page.goto(f"{demo_server.address}/docs")
    expect(page.locator(".opblock-summary-path", has_text="/v1/classify").first).to_be_visible()
    page.locator("#operations-classify-classify_v1_classify_post .opblock-summary").or_(
        page.locator(".opblock-summary", has_text="/v1/classify")
    ).first.click()
    expect(page.get_by_text("candidate_labels").first).to_be_visible()


def test_none_of_these_is_shown(page: Page, demo_clip: Path, http: httpx.Client) -> None:
    document = {
        "labels": ["a person in red walking to the right"],
        "background": ["a person in red walking to the left"],
    }
    http.put("/v1/vocabularies/page-none", json=document, headers={"If-None-Match": "*"}).raise_for_status()
    page.reload()
    expect(page.locator("#model")).to_contain_text("demo@")
    choose(page, demo_clip)
    expect(page.locator("#none")).to_be_hidden()
    page.locator("#vocabulary").select_option("page-none")
    expect(page.locator("#none")).to_contain_text("no label is accepted")
    expect(page.locator(".result")).to_have_count(1)


def test_a_busy_server_is_asked_again(page: Page, demo_clip: Path) -> None:
    refusals = iter([True, True])

    def refuse_twice(route: Route) -> None:
        if next(refusals, False):
            problem = {"title": "Overloaded", "detail": "the queue is full"}
            route.fulfill(status=503, json=problem, headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**/v1/classify", refuse_twice)
    choose(page, demo_clip)
    expect(page.locator("#error")).to_contain_text("the queue is full; trying again")
    expect(page.locator(".result")).to_have_count(5)
    expect(page.locator("#error")).to_be_hidden()


def test_a_request_can_be_cancelled(page: Page, demo_clip: Path) -> None:
    held: list[Route] = []
    page.route("**/v1/classify", lambda route: held.append(route))
    choose(page, demo_clip)
    expect(page.locator("#progress")).to_be_visible()
    page.locator("#cancel").click()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator(".result")).to_have_count(0)
    page.unroute("**/v1/classify")
    page.locator("#labels").fill("bowing\nkicking")
    expect(page.locator(".result")).to_have_count(2)


def test_everything_is_reached_by_keyboard(page: Page, demo_clip: Path) -> None:
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    marks = [name for name in reached if name and name.startswith("frame ")]
    assert len(set(marks)) == 8
    assert {"another", "vocabulary", "labels"} <= set(reached)
    page.get_by_role("button", name=marks[3]).focus()
    page.keyboard.press("Enter")
    expected = float(page.get_by_role("button", name=marks[3]).get_attribute("data-pts") or "nan")
    assert page.evaluate("document.getElementById('video').currentTime") == pytest.approx(expected, abs=0.05)


def test_suggested_labels_are_added_to_ones_own(page: Page, demo_clip: Path, http: httpx.Client) -> None:
    labels = [item["name"] for item in http.get("/v1/vocabularies/demo").json()["labels"][:10]]
    expect(page.locator(".suggestion")).to_have_text(labels)
    choose(page, demo_clip)
    for label in (labels[0], labels[3], labels[0]):
        page.locator(".suggestion").get_by_text(label, exact=True).click()
    expect(page.locator("#labels")).to_have_value(f"{labels[0]}\n{labels[3]}")
    expect(page.locator(".result")).to_have_count(2)
