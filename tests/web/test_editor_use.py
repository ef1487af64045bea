"""The editor with many labels, by keyboard alone, on a phone."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.editing import (
    add,
    expect_version,
    label_row,
    names_of,
    open_editor,
    rename,
    shown_names,
    stored,
)

pytestmark = pytest.mark.browser
MakeVocabulary = Callable[..., str]


def test_five_thousand_labels_stay_usable(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary(*(f"label {number:04d}" for number in range(5000)))
    open_editor(page, name)
    expect(page.locator("#label-count")).to_have_text("5,000 labels")
    expect(page.locator(".label")).to_have_count(100)
    assert page.evaluate("document.querySelectorAll('#editor *').length") < 3000
    page.locator("#page-after").click()
    expect(page.locator("#pager-text")).to_have_text("101 to 200")
    assert shown_names(page)[0] == "label 0100"
    page.locator("#filter").fill("LABEL 49")
    expect(page.locator("#label-count")).to_have_text("100 labels of 5,000")
    expect_version(page, 1)
    rename(page, "label 4999", "the last one")
    expect(page.locator("#label-count")).to_have_text("99 labels of 5,000")
    page.locator("#remove-found").click()
    expect(page.locator("#label-count")).to_have_text("4,901 labels")
    add(page, "a new one")
    expect(page.locator("#pager-text")).to_have_text("4,901 to 4,902")
    expect(label_row(page, "a new one")).to_be_in_viewport()
    expect(page.locator("#add")).to_be_focused()
    assert len(stored(http, name)["labels"]) == 4902


def test_four_hundred_pasted_labels_are_one_edit(
    page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client
) -> None:
    name = make_vocabulary("bowing")
    open_editor(page, name)
    page.locator("#add").focus()
    page.evaluate(
        "text => document.execCommand('insertText', false, text)", "\n".join(f"action {n}" for n in range(400))
    )
    expect(page.locator("#add-button")).to_have_text("Add 400 labels")
    page.keyboard.press("Enter")
    expect_version(page, 2)
    assert len(names_of(stored(http, name))) == 401


def focused(page: Page) -> str:
    """What a screen reader would call the part that has the focus."""
    name: str = page.evaluate(
        "[document.activeElement].map(at => at.getAttribute('aria-label') || at.id || at.className)[0]"
    )
    return name


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the part of that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == wanted:
            return
    raise AssertionError(f"{wanted!r} is not reached by Tab")


def test_everything_is_done_by_keyboard(page: Page, make_vocabulary: MakeVocabulary, http: httpx.Client) -> None:
    name = make_vocabulary("bowing", "kicking", "waving")
    open_editor(page, name)
    expect(page.locator("#editor-heading")).to_be_focused()
    tab_to(page, "Labels to add, one per line")
    page.keyboard.type("clapping")
    page.keyboard.press("Enter")
    expect_version(page, 2)
    tab_to(page, "Name of label bowing")
    page.keyboard.press("End")
    page.keyboard.type(" deeply")
    page.keyboard.press("Enter")
    expect_version(page, 3)
    assert focused(page) == "Name of label bowing deeply"
    tab_to(page, "Phrases of kicking: phrases, clips")
    page.keyboard.press("Enter")
    tab_to(page, "synonyms")
    page.keyboard.type("a kick")
    page.keyboard.press("Control+Enter")
    expect_version(page, 4)
    assert focused(page) == "synonyms"
    tab_to(page, "Remove label waving")
    page.keyboard.press("Enter")
    expect_version(page, 5)
    assert focused(page) == "Remove label clapping"
    page.keyboard.press("Enter")
    expect_version(page, 6)
    assert focused(page) == "Remove label kicking"
    page.keyboard.press("Control+z")
    expect_version(page, 7)
    assert names_of(stored(http, name)) == ["bowing deeply", "kicking", "clapping"]
    page.locator("#tab-labels").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#tab-history")).to_be_focused()
    expect(page.locator("#panel-history")).to_be_visible()
    tab_to(page, "Roll back to version 1 …")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect_version(page, 8)
    assert names_of(stored(http, name)) == ["bowing", "kicking", "waving"]
    page.locator("#editor-close").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#edit-vocabulary")).to_be_focused()


def test_every_input_has_a_name(page: Page, make_vocabulary: MakeVocabulary) -> None:
    open_editor(page, make_vocabulary("bowing"))
    label_row(page, "bowing").locator(".more").click()
    for tab in ("labels", "settings", "history"):
        page.locator(f"#tab-{tab}").click()
        for role in ("textbox", "combobox", "checkbox", "button", "searchbox", "radio"):
            for field in page.locator("#editor").get_by_role(role).all():  # type: ignore[arg-type]
                assert field.evaluate(
                    "field => field.labels?.length || field.getAttribute('aria-label') || field.textContent.trim()"
                ), field.evaluate("field => field.outerHTML")


def test_the_editor_fits_a_phone(page: Page, make_vocabulary: MakeVocabulary) -> None:
    page.set_viewport_size({"width": 375, "height": 740})
    name = make_vocabulary("a" * 60, {"name": "bowing", "synonyms": ["b" * 60]}, *(f"label {n}" for n in range(150)))
    open_editor(page, name)
    expect(page.locator("#editor-heading")).to_be_in_viewport()
    label_row(page, "bowing").locator(".more").click()
    for tab in ("labels", "settings", "history"):
        page.locator(f"#tab-{tab}").click()
        outside = page.evaluate(
            "[...document.querySelectorAll('body *')]"
            ".filter(part => part.getBoundingClientRect().right > window.innerWidth).map(part => part.outerHTML)"
        )
        assert not outside, tab
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), tab


def test_text_stands_out_in_light_and_in_dark(page: Page, make_vocabulary: MakeVocabulary) -> None:
    open_editor(page, make_vocabulary("bowing"))
    rename(page, "bowing", "x" * 501)
    expect(label_row(page, "bowing").locator(".problem")).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        for part in ("#editor-name", ".label-name", ".label .more", ".label .problem", "#tab-settings", "#add-button"):
            assert contrast(page, part) >= 4.5, (scheme, part)


def contrast(page: Page, part: str) -> float:
    """Contrast of a part's text with what lies behind it, as WCAG 2 measures it."""
    colours: list[list[int]] = page.locator(part).first.evaluate(
        "part => { const numbers = text => text.match(/[0-9.]+/g).map(Number);"
        "const text = numbers(getComputedStyle(part).color);"
        "let at = part; const ground = () => numbers(getComputedStyle(at).backgroundColor);"
        "while (ground()[3] === 0) at = at.parentElement;"
        "return [text, ground()].map(colour => colour.slice(0, 3)); }"
    )
    dark, light = sorted(luminance(colour) for colour in colours)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[int]) -> float:
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
