"""Example clips of labels on the page: dropped on a row, chosen, removed; what they add stands in the answer."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.web.editing import PATIENCE_MS, choose, expect_version, label_row, open_editor, rename, stored
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]
NEW_WORDS = ["flumping / 100% 🤸", "gribbing <b>"]  # which no text tower has seen


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three clips of one action."""
    folder = tmp_path_factory.mktemp("examples")
    for seed in range(3):
        video = render_video(Combination("bowing", None, "red"), "test", 70 + seed, size=120)
        write_video(folder / f"bowing {seed} & <i>.mp4", video.frames, fps=video.fps)
    return sorted(folder.iterdir())


def drop(page: Page, row: Locator, files: list[Path]) -> None:
    """Drop files on a row, as a browser does."""
    contents = [[path.name, list(path.read_bytes())] for path in files]
    transfer = page.evaluate_handle(
        "files => { const data = new DataTransfer();"
        "for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name)); return data; }",
        contents,
    )
    row.dispatch_event("dragover", {"dataTransfer": transfer})
    row.dispatch_event("drop", {"dataTransfer": transfer})


def names_of_examples(http: httpx.Client, name: str, place: int) -> list[str]:
    return [example["filename"] for example in stored(http, name)["labels"][place]["examples"]]


def test_dropped_clips_teach_a_label_and_leave_no_trace_when_removed(
    page: Page, clips: list[Path], make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary(*NEW_WORDS)
    open_editor(page, name)
    choose(page, clips[2])
    expect(page.locator("#timing")).to_contain_text(f"{name}@1")
    before = page.locator("#results").inner_text()
    expect(page.locator("#example-facts")).to_be_hidden()
    guessed = page.locator(".result .name").first.inner_text()  # by text alone, out of words it has never seen
    place, word = next((place, word) for place, word in enumerate(NEW_WORDS) if word != guessed)
    row = label_row(page, word)
    drop(page, row, clips[:2])
    expect_version(page, 2)
    expect(row.locator(".chip")).to_have_count(2)
    expect(row.locator(".chip").first).to_contain_text(clips[0].name)
    expect(row.locator(".more")).to_have_text("2 clips")
    expect(page.locator("#facts")).to_contain_text(clips[2].name)  # the dropped clips are not asked about
    expect(page.locator("#timing")).to_contain_text(f"{name}@2")
    expect(page.locator(".result .name").first).to_have_text(word)
    expect(page.locator("#example-facts")).to_contain_text("2 example clips: labels whose clips resemble")
    assert names_of_examples(http, name, place) == [path.name for path in clips[:2]]
    row.get_by_role("button", name=f"Remove clip {clips[0].name}").click()
    expect_version(page, 3)
    expect(row.locator(".chip button")).to_be_focused()
    assert names_of_examples(http, name, place) == [clips[1].name]
    row.locator(".chip button").press("Enter")
    expect_version(page, 4)
    expect(page.locator("#timing")).to_contain_text(f"{name}@4")
    assert page.locator("#results").inner_text() == before
    page.locator("#undo").click()
    expect_version(page, 5)
    expect(row.locator(".chip")).to_have_count(1)
    assert page.locator("main b, main i").count() == 0


def test_chosen_clips_are_added_and_all_removed_at_once(
    page: Page, clips: list[Path], make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary(*NEW_WORDS)
    open_editor(page, name)
    row = label_row(page, NEW_WORDS[1])
    row.locator(".more").click()
    row.locator(".clip-file").set_input_files([str(path) for path in clips])
    expect_version(page, 2)
    assert names_of_examples(http, name, 1) == [path.name for path in clips]
    row.get_by_role("button", name="Remove all clips of").click()
    expect_version(page, 3)
    expect(row.locator(".chip")).to_have_count(0)
    assert names_of_examples(http, name, 1) == []


def test_what_is_wrong_with_a_clip_is_reported_at_its_row(
    page: Page, clips: list[Path], tmp_path: Path, make_vocabulary: MakeVocabulary
) -> None:
    open_editor(page, make_vocabulary(*NEW_WORDS))
    row = label_row(page, NEW_WORDS[0])
    broken = tmp_path / "broken.mp4"
    broken.write_text("<!doctype html><p>not found</p>")
    drop(page, row, [clips[0], broken])
    expect(row.locator(".problem")).to_contain_text("this is an HTML page; send a video")
    expect(row.locator(".chip")).to_have_count(0)
    expect(label_row(page, NEW_WORDS[1]).locator(".problem")).to_be_hidden()
    rename(page, NEW_WORDS[1], "zorping")
    expect_version(page, 2)
    expect(row.locator(".problem")).to_be_visible()
    drop(page, row, [clips[0]])
    expect_version(page, 3)
    expect(row.locator(".problem")).to_be_hidden()
    drop(page, row, [clips[0]])
    expect(row.locator(".problem")).to_contain_text("already")


def test_a_clip_beyond_the_limit_is_not_sent(page: Page, clips: list[Path], make_vocabulary: MakeVocabulary) -> None:
    page.route("**/v1/limits", lambda route: route.fulfill(json={"max_upload_bytes": 1000}))
    page.reload()
    expect(page.locator("#model")).to_contain_text("demo@")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/examples") else None)
    open_editor(page, make_vocabulary(*NEW_WORDS))
    row = label_row(page, NEW_WORDS[0])
    drop(page, row, [clips[0]])
    expect(row.locator(".problem")).to_contain_text("A clip may have 1000")
    assert not sent


def test_an_upload_shows_its_progress_and_can_be_cancelled(
    page: Page, clips: list[Path], make_vocabulary: MakeVocabulary
) -> None:
    open_editor(page, make_vocabulary(*NEW_WORDS))
    row = label_row(page, NEW_WORDS[0])
    held: list[Route] = []
    page.route("**/examples", lambda route: held.append(route))
    drop(page, row, clips[:2])
    expect(row.locator(".upload")).to_be_visible()
    expect(row.locator(".upload span")).to_contain_text("2 clips")
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".upload")).to_be_hidden()
    expect(row.locator(".problem")).to_be_hidden()
    page.unroute("**/examples")
    drop(page, row, clips[:1])
    expect_version(page, 2)
    expect(row.locator(".chip")).to_have_count(1)


def test_clips_survive_a_conflict(
    page: Page, clips: list[Path], make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary(*NEW_WORDS)
    open_editor(page, name)
    headers = {"If-Match": '"1"', "X-Author": "Bo"}
    http.patch(f"/v1/vocabularies/{name}", json={"add": ["kicking"]}, headers=headers).raise_for_status()
    drop(page, label_row(page, NEW_WORDS[0]), clips[:1])
    expect(page.locator("#conflict")).to_contain_text(f"add clip {clips[0].name}")
    page.get_by_role("button", name="Save my edit on top").click()
    expect_version(page, 3)
    assert names_of_examples(http, name, 0) == [clips[0].name]


def test_thresholds_are_reported_in_words(page: Page, demo_clip: Path, make_vocabulary: MakeVocabulary) -> None:
    name = make_vocabulary("bowing", "kicking", acceptance={"threshold": 0.75})
    open_editor(page, name)
    choose(page, demo_clip)
    words = page.locator("#acceptance")
    expect(words).to_have_text("Thresholds set by hand were applied: accepted from score 0.750.")
    page.locator("summary", has_text="Options").click()
    page.locator("#function_to_apply").select_option("none")
    expect(words).to_contain_text("Thresholds set by hand were not applied: thresholds compare scores")


def test_a_calibration_is_reported_in_words_with_its_promise(
    page: Page, demo_clip: Path, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    [model] = [model for model in http.get("/v1/models").json()["models"] if model["loaded"]]
    fitted = {
        "model": f"{model['name']}@{model['version']}",
        "function": "softmax",
        "templates": model["contract"]["text"]["templates"],
        "num_clips": 1,
        "num_crops": 1,
        "vocabulary_version": 1,
        "vocabulary_digest": "of other labels",
        "num_known": 100,
        "num_unknown": 100,
        "false_accept_rate": 0.05,
        "false_accept_interval": [0.016, 0.113],
        "true_accept_rate": 0.9,
        "accuracy": 0.9,
        "auroc": 0.9,
        "fpr_at_95_tpr": 0.2,
        "calibration_error_before": 0.1,
        "calibration_error_after": 0.05,
        "fitted_at": "2026-11-23T12:00:00+00:00",
    }
    acceptance = {"criterion": "logit", "threshold": 12.5, "fitted": fitted}
    open_editor(page, make_vocabulary("bowing", "kicking", acceptance=acceptance))
    choose(page, demo_clip)
    expect(page.locator("#acceptance")).to_have_text(
        "A calibration was applied: accepted from logit 12.500; about 5.0 % of clips that show none of the "
        "labels are accepted (95 % interval 1.6 % to 11.3 %). This rate may be wrong: labels, phrases or examples "
        "changed since version 1.",
        timeout=PATIENCE_MS,
    )
