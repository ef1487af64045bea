"""The choice of vocabularies on the page follows the server."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.web.editing import choose, see_news

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]


def choices(page: Page) -> list[str]:
    return page.locator("#vocabulary option").evaluate_all("options => options.map(option => option.value)")


def test_a_vocabulary_made_elsewhere_appears_and_the_selection_stays(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    chosen = make_vocabulary("bowing")
    see_news(page)
    page.locator("#vocabulary").select_option(chosen)
    made = make_vocabulary("kicking", "waving")
    assert made not in choices(page)
    see_news(page)
    expect(page.locator(f"#vocabulary option[value={made}]")).to_have_text(f"{made} (2 labels)")
    expect(page.locator("#vocabulary")).to_have_value(chosen)
    http.delete(f"/v1/vocabularies/{made}", headers={"If-Match": "*"}).raise_for_status()
    see_news(page)
    expect(page.locator(f"#vocabulary option[value={made}]")).to_have_count(0)
    expect(page.locator("#vocabulary")).to_have_value(chosen)
    http.delete(f"/v1/vocabularies/{chosen}", headers={"If-Match": "*"}).raise_for_status()
    see_news(page)
    expect(page.locator("#vocabulary")).to_have_value("demo")


def test_the_list_is_asked_again_by_itself(page: Page, make_vocabulary: MakeVocabulary) -> None:
    page.clock.install()
    page.reload()
    expect(page.locator("#model")).to_contain_text("demo@")
    made = make_vocabulary("kicking")
    page.clock.run_for(11_000)
    expect(page.locator(f"#vocabulary option[value={made}]")).to_have_count(1)


def test_every_page_of_the_list_is_read(page: Page, make_vocabulary: MakeVocabulary) -> None:
    names = [make_vocabulary("bowing") for _ in range(3)]
    asked: list[str] = []

    def one_a_page(route: Route) -> None:
        asked.append(route.request.url)
        joint = "&" if "?" in route.request.url else "?"
        route.continue_(url=f"{route.request.url}{joint}page_size=1")

    page.route("**/v1/vocabularies?*", one_a_page)
    page.route("**/v1/vocabularies", one_a_page)
    see_news(page)
    for name in names:
        expect(page.locator(f"#vocabulary option[value={name}]")).to_have_count(1)
    assert len(asked) >= 5
    assert choices(page) == sorted(choices(page))


def test_a_change_made_elsewhere_scores_the_video_again(
    page: Page, demo_clip: Path, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    see_news(page)
    page.locator("#vocabulary").select_option(name)
    choose(page, demo_clip)
    expect(page.locator("#timing")).to_contain_text(f"{name}@1")
    patch = {"add": ["walking"]}
    http.patch(f"/v1/vocabularies/{name}", json=patch, headers={"If-Match": '"1"'}).raise_for_status()
    see_news(page)
    expect(page.locator("#timing")).to_contain_text(f"{name}@2")
    expect(page.locator(".result")).to_have_count(2)


def test_a_server_that_is_away_is_reported_until_it_is_back(page: Page) -> None:
    page.route("**/v1/vocabularies", lambda route: route.abort())
    see_news(page)
    expect(page.locator("#offline")).to_be_visible()
    page.unroute("**/v1/vocabularies")
    see_news(page)
    expect(page.locator("#offline")).to_be_hidden()
