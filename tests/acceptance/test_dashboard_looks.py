"""The dashboard for everybody: by keyboard, on a phone, in the dark, read aloud, on paper, left open all day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

import dcengine
from tests.dashboards import drawn, open_at, watched
from tests.engines import eventually
from tests.pages import CHROMIUM, chromium
from tests.showcase import showcase

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(240),
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast", "link-in-text-block"]
LAYOUT = [*COLOURS, "target-size", "scrollable-region-focusable", "meta-viewport"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    with watched(browser) as page:
        page.set_viewport_size(DESK)
        yield page


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with showcase(tmp_path_factory.mktemp("dashboard")) as told:
        yield told


def places(engine: dict[str, Any]) -> list[str]:
    """One place of each kind."""
    job = engine["training"]
    people = (
        "workers",
        "workers/w1",
        "workers/ada-tower",
        "leaderboard?project=old-maps",
        "contributors/ada?project=old-maps",
    )
    projects = ("", "projects/herbarium", "projects/old-maps", "jobs", f"jobs/{job}", f"jobs/{job + 1}", "jobs/402")
    forms = ("workloads/render",)
    return [*projects, *people, *forms, "failures", "kernels", "settings", "mine", "no/such/page", "jobs/999999"]


def go(page: Page, place: str) -> None:
    """Go to *place* as links do, without loading the page anew."""
    page.evaluate("place => { window.location.hash = `#/${place}` }", place)
    page.wait_for_timeout(50)
    page.locator("main:not([aria-busy]) h1").wait_for()
    page.wait_for_timeout(100)  # what is drawn piece by piece


def until(page: Page, claim: str) -> None:
    """Wait until *claim* is true on *page*, whose policy lets nobody but the debugger evaluate anything."""
    eventually(lambda: page.evaluate(claim))


def faults(page: Page, rules: list[str] = RULES) -> list[str]:
    """Return what axe finds serious or critical on *page* by *rules*, or by those of their kinds."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    kind = "tag" if rules is RULES else "rule"
    options = {"runOnly": {"type": kind, "values": rules}, "resultTypes": ["violations"]}
    found = page.evaluate("options => axe.run(options)", options)["violations"]
    return [
        f"{fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


# ---- everybody -----------------------------------------------------------------------------


def test_axe_finds_nothing_serious_on_any_page_in_light_and_dark_and_on_a_phone(
    page: Page, engine: dict[str, Any]
) -> None:
    found = {}
    open_at(page, engine)
    for place in places(engine):
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(DESK)
        go(page, place)
        found[place, "light"] = faults(page)
        page.emulate_media(color_scheme="dark")
        found[place, "dark"] = faults(page, COLOURS)  # nothing else depends on it
        page.set_viewport_size(PHONE)
        found[place, "phone"] = faults(page, LAYOUT)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], place

    assert {place: wrong for place, wrong in found.items() if wrong} == {}


def test_axe_finds_nothing_serious_where_something_is_asked(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine)
    page.get_by_role("button", name="New project").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    go(page, "projects/old-maps")
    page.locator(".acts").get_by_role("button", name="Delete").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    assert faults(page) == []
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()
    assert faults(page) == []


def test_on_a_phone_every_page_of_the_menu_is_reached(page: Page, engine: dict[str, Any]) -> None:
    page.set_viewport_size(PHONE)
    open_at(page, engine)
    for link in page.locator("nav a").all():
        link.scroll_into_view_if_needed()
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        expect(link).to_be_in_viewport()
        expect(page.locator("h1")).to_be_in_viewport()


# ---- by keyboard ---------------------------------------------------------------------------


def test_it_is_used_without_a_mouse(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine, "jobs")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    assert page.locator(".skip").evaluate("link => link.getBoundingClientRect().width") > 50  # it is seen
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/jobs")

    page.keyboard.press("Shift+Tab")
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert (page.evaluate("document.activeElement.id"), style) == ("theme", "solid")
    page.locator("nav a", has_text="Workers").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Workers")
    expect(page.locator("h1")).to_be_focused()


def test_dialogs_keep_the_focus_and_give_it_back(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine)
    opener = page.get_by_role("button", name="New project")
    opener.focus()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        # Between the last and the first it is the browser's own.
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")

    expect(page.locator("dialog")).to_have_count(0)
    expect(opener).to_be_focused()


def test_tables_are_sorted_with_keys_and_stay_so(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine, "workers")
    table = page.locator("table", has=page.get_by_role("link", name="kenji-nuc"))
    head = table.get_by_role("button", name="Done")
    done = table.locator("tbody td[data-title='Done']")
    expect(done).to_have_count(6)

    head.focus()
    page.keyboard.press("Enter")
    expect(table.locator("th[aria-sort=descending]")).to_have_text("Done")
    expect(done).to_have_text(["63", "39", "36", "21", "18", "7"])
    page.keyboard.press("Enter")
    expect(table.locator("th[aria-sort=ascending]")).to_have_text("Done")
    expect(head).to_be_focused()
    expect(done).to_have_text(["7", "18", "21", "36", "39", "63"])
    dcengine.Project("old-maps").add([{"url": "another"}])  # it is drawn anew
    page.wait_for_timeout(1500)
    expect(done).to_have_text(["7", "18", "21", "36", "39", "63"])
    expect(head).to_be_focused()


# ---- left open all day ---------------------------------------------------------------------


def test_what_is_read_stays_where_it_is_while_things_happen(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine, "projects/old-maps")
    page.evaluate(
        """() => {
            window.heard = [];
            const told = "[role=status], [role=alert], [role=log], [aria-live]:not([aria-live=off])";
            new MutationObserver((changes) => {
                for (const { target } of changes) {
                    const region = (target.nodeType === 1 ? target : target.parentElement)?.closest(told);
                    if (region) window.heard.push(region.outerHTML);
                }
            }).observe(document.body, { subtree: true, childList: true, characterData: true });
            for (const each of document.querySelectorAll("main :is(h1, tbody tr)")) each.mark = true;
        }"""
    )
    button = page.locator(".acts").first.get_by_role("button", name="Add jobs")
    button.focus()
    top = page.locator(".funnel").evaluate("table => table.getBoundingClientRect().top")

    dcengine.Project("old-maps").add([{"url": "one more"}])

    expect(page.locator("main")).to_contain_text(re.compile("26[1-3]"))
    expect(button).to_be_focused()
    kept = page.locator("main").evaluate(
        "main => [...main.querySelectorAll('h1, .funnel tbody tr')].filter((each) => each.mark).length"
    )
    assert kept == 4
    assert page.locator(".funnel").evaluate("table => table.getBoundingClientRect().top") == top
    assert page.evaluate("window.heard") == []


def test_titles_say_what_is_shown(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine)
    assert page.title() == "Projects · dcengine"
    for place, title in {
        "projects/old-maps": "old-maps · runs · dcengine",
        f"jobs/{engine['training']}": f"Job {engine['training']}: train · running · dcengine",
        "settings": "Settings · dcengine",
    }.items():
        go(page, place)
        until(page, f"document.title === {title!r}")


def test_back_and_forward_keep_filters_and_scrolling(page: Page, engine: dict[str, Any]) -> None:
    open_at(page, engine, "jobs")
    page.get_by_label("State").select_option("open")
    until(page, "window.location.hash.includes('state=open')")
    expect(page.locator("tbody tr").nth(40)).to_be_attached()
    page.get_by_label("State").select_option("failed")
    expect(page.locator("tbody tr")).to_have_count(10)
    page.go_back()
    expect(page.get_by_label("State")).to_have_value("open")
    expect(page.locator("tbody tr").nth(40)).to_be_attached()
    page.mouse.wheel(0, 700)
    until(page, "history.state?.scrolled === 700")

    page.get_by_role("link", name="Settings").click()
    expect(page.locator("h1")).to_have_text("Settings")
    assert page.evaluate("window.scrollY") == 0
    page.go_back()
    expect(page.get_by_label("State")).to_have_value("open")
    until(page, "window.scrollY === 700")
    page.go_forward()
    expect(page.locator("h1")).to_have_text("Settings")
    until(page, "window.scrollY === 0")
    page.go_back()
    until(page, "window.scrollY === 700")
    page.reload()
    drawn(page)
    until(page, "window.scrollY === 700")


# ---- as people want it ---------------------------------------------------------------------


def test_colours_are_those_of_the_system_until_somebody_chooses(page: Page, engine: dict[str, Any]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    open_at(page, engine)
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark

    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_attribute("aria-label", "colours: light")
    assert page.evaluate(ground) == light
    page.reload()
    drawn(page)
    assert page.evaluate(ground) == light
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark


def test_nothing_moves_for_those_who_want_no_motion(page: Page, engine: dict[str, Any]) -> None:
    seconds = "parseFloat(getComputedStyle(each).transitionDuration)"
    moving = f"[...document.querySelectorAll('*')].filter(each => {seconds} > 0).length"
    page.emulate_media(reduced_motion="no-preference")
    open_at(page, engine)
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0


def test_on_paper_there_is_what_is_known_and_nothing_to_press(page: Page, engine: dict[str, Any]) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    open_at(page, engine, "projects/old-maps")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for what in ("nav", ".acts", "#theme", ".skip"):
        expect(page.locator(what).first).to_be_hidden()
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator(".funnel")).to_be_visible()
    assert len(page.pdf()) > 1000
