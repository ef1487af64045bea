"""The tabs of the page: timeline, search, jobs, models, settings; a queue of files and a comparison on classify."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.web.editing import choose

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=document.title='owned'>"


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; `wait_for_function` needs `eval`, which the page forbids."""
    while not page.evaluate(expression):
        page.wait_for_timeout(50)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A file that is no video, under a hostile name."""
    path = tmp_path / "<b>broken.mp4"
    path.write_text("<!doctype html><p>not found</p>")
    return path


def test_labels_are_scored_again_without_an_upload(page: Page, demo_clip: Path) -> None:
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if request.url.endswith("/v1/classify") else None)
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    page.locator("#labels").fill("clapping\nwalking to the left")
    expect(page.locator(".result")).to_have_count(2)
    page.locator("summary", has_text="Options").click()
    page.locator("#top_k").fill("1")
    expect(page.locator(".result")).to_have_count(1)
    assert len(uploads) == 1
    page.locator("#num_clips").fill("2")  # other frames are read: the file is sent again
    expect(page.locator("#axis button")).to_have_count(16)
    assert len(uploads) == 2


def test_a_stored_video_that_is_gone_is_uploaded_again(page: Page, demo_clip: Path, http: httpx.Client) -> None:
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    newest = http.get("/v1/videos").json()["videos"][0]["video_id"]
    http.delete(f"/v1/videos/{newest}").raise_for_status()
    page.locator("#labels").fill("clapping\nwalking to the left")
    expect(page.locator(".result")).to_have_count(2)
    expect(page.locator("#error")).to_be_hidden()


def test_a_chosen_video_leaves_no_stored_features(page: Page, demo_clip: Path, http: httpx.Client) -> None:
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(5)
    first = http.get("/v1/videos").json()["videos"][0]["video_id"]
    with page.expect_response(lambda response: response.url.endswith(first) and response.request.method == "DELETE"):
        choose(page, demo_clip)
    assert http.get(f"/v1/videos/{first}").status_code == 404


def test_several_files_are_a_queue(page: Page, demo_clip: Path, broken: Path) -> None:
    page.locator("#file").set_input_files([str(demo_clip), str(broken)])
    table = page.locator("#queue")
    expect(table).to_contain_text("2 of 2 files")
    rows = table.locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("%")
    expect(rows.nth(1)).to_contain_text("this is an HTML page")
    with page.expect_download() as download:
        page.locator("#queue-csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "file,rank,label,score,logit,cosine,accepted,problem"
    assert len(lines) == 1 + 5 + 1
    with page.expect_download() as download:
        page.locator("#queue-json").click()
    first, second = json.loads(Path(download.value.path()).read_text())
    assert (len(first["result"]["results"]), second["problem"]["status"]) == (5, 415)
    assert page.locator("#queue b").count() == 0
    table.get_by_role("button", name=f"Open {demo_clip.name}").click()
    expect(page.locator("#facts")).to_contain_text(demo_clip.name)
    expect(page.locator("#results .result")).to_have_count(5)


def test_two_vocabularies_are_compared(page: Page, demo_clip: Path, make_vocabulary: Callable[..., str]) -> None:
    name = make_vocabulary("bowing", HOSTILE)
    page.reload()
    choose(page, demo_clip)
    expect(page.locator("#results .result")).to_have_count(5)
    page.locator("#other-vocabulary").select_option(name)
    expect(page.locator("#other .result")).to_have_count(2)
    expect(page.locator("#other h3")).to_have_text(f"{name}@1")
    expect(page.locator("#results .result")).to_have_count(5)
    page.locator("#other-vocabulary").select_option("")
    expect(page.locator("#other")).to_have_count(0)
    page.locator("#other-template").fill("no braces")
    expect(page.locator("#comparison-error")).to_contain_text("{}")
    assert page.title() != "owned"


def test_a_request_is_shown_for_curl_and_python(page: Page, demo_clip: Path) -> None:
    page.locator("#labels").fill('it\'s "quoted"\nwalking')
    choose(page, demo_clip)
    expect(page.locator(".result")).to_have_count(2)
    expect(page.locator("#curl")).to_contain_text("v1/classify")
    code = page.locator("#python").text_content() or ""
    compile(code, "page", "exec")
    assert '"candidate_labels": ["it\'s \\"quoted\\"", "walking"]' in code


def test_a_timeline_has_segments_that_seek(page: Page, demo_clip: Path) -> None:
    open_tab(page, "Timeline")
    choose(page, demo_clip)
    segment = page.locator("#strip .segment").first
    expect(segment).to_be_visible()
    label = "a person in red walking to the left"
    expect(page.locator("#segments tbody tr").first).to_contain_text(label)
    expect(page.locator("#facts")).to_contain_text("frames")
    page.evaluate("document.getElementById('video').currentTime = 1")
    segment.click()
    until(page, "document.getElementById('video').currentTime < 1")
    page.locator("#label-filter").fill("no such label")
    expect(page.locator("#strip li")).to_have_count(0)
    page.locator("#label-filter").fill("")
    downloads = {}
    for kind in ("csv", "srt", "vtt", "json"):
        with page.expect_download() as download:
            page.locator(f"#save-{kind}").click()
        downloads[kind] = Path(download.value.path()).read_text()
        assert download.value.suggested_filename == f"{demo_clip.stem}.{kind}"
    assert downloads["csv"].startswith("label,start_seconds,end_seconds,") and label in downloads["csv"]
    assert re.match(r"1\n00:00:00,000 --> 00:00:0\d,\d{3}\n", downloads["srt"])
    assert downloads["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert json.loads(downloads["json"])["segments"][0]["label"] == label


def test_a_timeline_follows_labels_and_thresholds(page: Page, demo_clip: Path) -> None:
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if request.url.endswith("/v1/timeline") else None)
    open_tab(page, "Timeline")
    choose(page, demo_clip)
    expect(page.locator("#segments tbody tr")).to_have_count(1)
    page.locator("#labels").fill(f"{HOSTILE}\nwalking to the left")
    expect(page.locator("#timing")).to_contain_text("labels of this request")
    expect(page.locator("#strip .strip-label").first).to_have_text("walking to the left")
    page.locator("summary", has_text="Options").click()
    page.locator("#threshold_on").fill("1")
    expect(page.locator("#timing")).to_contain_text("threshold 1.00")
    assert len(uploads) == 1
    assert page.locator("#strip img").count() == 0


def test_a_long_timeline_is_a_job_with_progress(page: Page, demo_clip: Path, http: httpx.Client) -> None:
    page.add_init_script(
        "Object.defineProperty(HTMLMediaElement.prototype, 'duration', { get: () => 3600 });"
    )  # the page takes the clip for an hour
    page.reload()
    open_tab(page, "Timeline")
    choose(page, demo_clip)
    expect(page.locator("#segments tbody tr")).to_have_count(1)
    newest = http.get("/v1/jobs").json()["jobs"][0]
    assert (newest["kind"], newest["status"]) == ("timeline", "completed")


def test_videos_are_stored_searched_and_played(page: Page, demo_clip: Path, broken: Path, http: httpx.Client) -> None:
    for video in http.get("/v1/videos").json()["videos"]:
        http.delete(f"/v1/videos/{video['video_id']}")
    open_tab(page, "Search")
    page.locator("#store-tags").fill("kitchen, <i>")
    page.locator("#store-files").set_input_files([str(broken), str(demo_clip)])
    card = page.locator("#library .card", has_text=demo_clip.name)
    expect(card).to_contain_text("kitchen")
    expect(page.get_by_role("alert").filter(has_text="HTML page")).to_be_visible()
    page.locator("#query").fill("a person in red walking")
    page.locator("#search").click()
    hits = page.locator("#hits .result")
    expect(hits.first).to_contain_text(demo_clip.name)
    cosines = [float(text) for text in hits.locator(".score").all_text_contents()]
    assert cosines == sorted(cosines, reverse=True)
    hits.first.get_by_role("button", name="Play").click()
    expect(page.locator("#found-video")).to_have_attribute("src", re.compile("#t="))
    page.get_by_label("part of a stored video").check()
    page.locator("#query-video").select_option(index=1)
    page.locator("#query-end").fill("2")
    page.locator("#search").click()
    expect(hits.first.locator(".score")).to_have_text(re.compile(r"^(0\.9\d+|1\.0000)$"))
    page.get_by_label("a clip", exact=True).check()
    page.locator("#query-clip").set_input_files(str(demo_clip))
    page.locator("#search").click()
    expect(page.locator("#timing")).to_contain_text("windows of")
    page.reload()  # the files are forgotten: times are shown, and a file can be chosen
    page.locator("#query").fill("a person in red walking")
    page.locator("#search").click()
    page.get_by_label(f"Choose the file of {demo_clip.name} to play it").first.set_input_files(str(demo_clip))
    expect(page.locator("#found-video")).to_have_attribute("src", re.compile("#t="))
    page.get_by_role("link", name=f"Timeline of {demo_clip.name}").click()
    expect(page.locator("#segments tbody tr")).to_have_count(1)
    open_tab(page, "Search")
    page.get_by_role("button", name=f"Delete {demo_clip.name}").click()
    expect(page.locator("#library .card")).to_have_count(0)
    assert page.locator("main b, main i").count() == 0


def test_a_job_is_created_followed_and_deleted(page: Page, demo_clip: Path, broken: Path, http: httpx.Client) -> None:
    open_tab(page, "Jobs")
    page.locator("#job-files").set_input_files([str(demo_clip), str(broken)])
    page.get_by_role("button", name="Create the job").click()
    job = page.locator("#jobs .job").first
    expect(job).to_contain_text("1 of 2 inputs completed, 1 failed")
    expect(job.locator(".tag")).to_have_text("completed")
    job.locator("summary").click()
    expect(job.locator(".lines")).to_contain_text("a person in red walking to the left")
    expect(job.locator(".lines .fault")).to_contain_text("this is an HTML page")
    for name, suffix in (("Results (JSONL)", ".jsonl"), ("Problems (JSONL)", "-errors.jsonl")):
        with page.expect_download() as download:
            job.get_by_role("button", name=name).click()
        assert download.value.suggested_filename.endswith(suffix)
        assert json.loads(Path(download.value.path()).read_text().splitlines()[0])["kind"] == "classify"
    identity = job.get_attribute("data-id")
    page.locator("#filter-status").select_option("failed")
    expect(page.locator(f"[data-id='{identity}']")).to_have_count(0)
    page.locator("#filter-status").select_option("")
    job = page.locator(f"[data-id='{identity}']")
    job.get_by_role("button", name="Delete").click()
    expect(page.locator(f"[data-id='{identity}']")).to_have_count(0)
    assert http.get(f"/v1/jobs/{identity}").status_code == 404
    assert page.locator("main b").count() == 0


def test_a_running_job_shows_its_progress_and_is_cancelled(page: Page, demo_clip: Path) -> None:
    running = {
        "id": "job_" + "0" * 32, "kind": "classify", "status": "in_progress", "options": {}, "progress": 0.25,
        "request_counts": {"total": 4, "completed": 1, "failed": 0}, "problem": None,
        "created_at": "2026-01-01T00:00:00.000+00:00",
    }  # fmt: skip
    events = 'event: progress\ndata: {"progress":0.5}\n\n'
    cancelled: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            cancelled.append(route.request.url)
            running["status"] = "cancelled"
        route.fulfill(json={"jobs": [running], "next_page_token": None})

    page.route(re.compile(r"/v1/jobs(\?|/job_0+$)"), answer)
    page.route("**/events", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
    open_tab(page, "Jobs")
    job = page.locator("#jobs .job")
    expect(job).to_contain_text("50.0 %")
    job.get_by_role("button", name="Cancel").click()
    expect(job.locator(".tag")).to_have_text("cancelled")
    assert len(cancelled) == 1


def test_a_model_is_activated_and_rolled_back(page: Page) -> None:
    state = {"active": "2", "stage": None}
    versions = [
        {"name": "demo", "version": number, "contract": {"family": "clip", "embed_dim": 8}} for number in ("1", "2")
    ]

    def listing() -> dict[str, object]:
        staging = state["stage"] and {
            "reference": "demo@1",
            "stage": state["stage"],
            "done": 1,
            "total": 3,
            "fault": None,
        }
        models = [{**version, "loaded": True, "active": version["version"] == state["active"]} for version in versions]
        previous = {"demo": "2"} if state["active"] == "1" else {}
        return {
            "default": f"demo@{state['active']}",
            "aliases": {},
            "previous": previous,
            "staging": staging,
            "models": models,
        }

    changes: list[tuple[str, object, str | None]] = []

    def change(route: Route) -> None:
        request = route.request
        changes.append((request.url.rpartition(":")[2], request.post_data_json, request.headers.get("if-match")))
        state.update({"stage": "encoding"} if "activate" in request.url else {"active": "2"})
        route.fulfill(status=202, json={"warnings": [], "is_done": False})

    page.route("**/v1/models", lambda route: route.fulfill(json=listing(), headers={"ETag": '"7"'}))
    page.route("**/v1/models/*", change)
    open_tab(page, "Models")
    page.get_by_role("button", name="Activate demo@1").click()
    expect(page.locator("#staging")).to_contain_text("encoding vocabularies, 1 of 3")
    state.update({"stage": "active", "active": "1"})
    expect(page.locator("[data-model='demo@1'] .tag.good")).to_have_text("active")
    expect(page.locator("#staging")).to_have_count(0)
    page.get_by_role("button", name="Roll back to demo@2").click()
    expect(page.locator("[data-model='demo@2'] .tag.good")).to_have_text("active")
    assert changes == [("activate", {"version": "1"}, '"7"'), ("rollback", {}, '"7"')]


def test_the_models_of_the_server_are_listed(page: Page) -> None:
    open_tab(page, "Models")
    card = page.locator("[data-model='demo@1']")
    expect(card).to_contain_text("actionclip")
    expect(card.locator(".tag.good")).to_have_text("active")
    card.locator("summary", has_text="What was measured").click()
    expect(card.locator(".card-text")).to_contain_text("rendered figures only")


def test_language_and_colours_are_chosen_and_stay(page: Page, demo_clip: Path) -> None:
    open_tab(page, "Settings")
    page.locator("#language").select_option("zh")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    open_tab(page, "分类")
    choose(page, demo_clip)
    expect(page.locator("#results .numbers").first).to_contain_text("分数")
    open_tab(page, "设置")
    page.locator("input[name=theme][value=dark]").check()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.get_by_role("heading", name="服务器限制")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.locator("input[name=theme][value=light]").check()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


@pytest.mark.slow  # the browser encodes the recording in software
def test_a_clip_is_recorded_with_the_camera(page: Page) -> None:
    page.context.grant_permissions(["camera"])
    page.locator("#record").click()
    until(page, "document.querySelector('.recording video')?.currentTime > 0.5")
    page.locator("#record-stop").click()
    expect(page.locator("#facts")).to_contain_text("recording.webm")
    expect(page.locator("#results .result")).to_have_count(5)


def test_an_answer_on_a_phone_needs_no_scrolling(page: Page, demo_clip: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    choose(page, demo_clip)
    expect(page.locator("#results .result").first).to_be_in_viewport(ratio=1)
