"""The dashboard in a real browser: who gets in, what a first look shows, and what happens when the engine goes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request as Question
from urllib.request import urlopen

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

import dcengine
from dcengine.api import current
from dcengine.verbs import TokenSpec
from tests.dashboards import address_of, drawn, open_at, watched
from tests.engines import end, environment, joined, served, serving
from tests.pages import CHROMIUM, chromium
from tests.showcase import showcase

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(240),
]
ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("", "jobs", "workers", "leaderboard", "failures", "kernels", "settings")


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    with watched(browser) as page:
        yield page


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with showcase(tmp_path_factory.mktemp("dashboard")) as told:
        yield told


# ---- the first start -----------------------------------------------------------------------


def test_an_empty_engine_says_what_to_do_first_and_shows_it_once_it_is_done(page: Page, tmp_path: Path) -> None:
    with served(tmp_path / "work.db", workers=0) as told:
        open_at(page, told)
        expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()
        shell, python, join = copied(page)
        page.evaluate("window.isTheSame = true")
        page.get_by_role("link", name="Workers").click()
        expect(page.get_by_role("heading", name="Nobody works here yet")).to_be_visible()
        assert copied(page, 1) == [join]
        url = join.split('"')[1]
        assert (join, url.startswith(address_of(told))) == (f'dcengine join "{url}"', True)

        with joined(url, "--name", "first"):
            expect(page.get_by_role("link", name="first")).to_be_visible()
            page.get_by_role("link", name="Projects").click()
            assert run(f"{sys.executable} -m {shell}") == "2432902008176640000"
            expect(page.get_by_text("1 succeeded")).to_be_visible()
            script = tmp_path / "first.py"
            script.write_text(python)
            assert run(f"{sys.executable} {script}") == "1024"
            expect(page.get_by_text("2 succeeded")).to_be_visible()
            project = dcengine.Project("first")
            project.lease_stage("look")
            project.add([1])
            expect(page.get_by_role("link", name="first")).to_be_visible()
        assert page.evaluate("window.isTheSame")


def copied(page: Page, commands: int = 3) -> list[str]:
    """Press the first buttons that copy a command; return what is copied."""
    found = []
    for button in page.locator("button.copy").all()[:commands]:
        button.click()
        expect(button).to_have_text("Copied")
        found.append(page.evaluate("navigator.clipboard.readText()"))
    return found


def run(command: str) -> str:
    """Run *command* in a shell; return what it prints."""
    done = subprocess.run(command, shell=True, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_where_there_is_nothing_each_page_says_so(page: Page, tmp_path: Path) -> None:
    said = {
        "": "Nothing here yet",
        "jobs": "job",
        "workers": "Nobody works here yet",
        "leaderboard": "Nobody has earned anything",
        "failures": "Nothing has failed",
        "kernels": "No kernel runs",
        "settings": "Read only",
    }
    with served(tmp_path / "work.db", workers=0) as told:
        for view, words in said.items():
            open_at(page, told, view)
            expect(page.locator("main")).to_contain_text(words)
            expect(page.locator("main")).not_to_contain_text(re.compile("undefined|NaN|null|Infinity"))


# ---- who comes -----------------------------------------------------------------------------


def test_the_token_is_in_the_tab_alone(browser: BrowserContext, engine: dict[str, Any]) -> None:
    for place in (f"?token={engine['token']}#/jobs?state=failed", f"#/jobs?state=failed&token={engine['token']}"):
        asked: list[Request] = []
        with watched(browser) as page:
            page.on("request", lambda request, asked=asked: asked.append(request))
            page.goto(address_of(engine) + place)
            drawn(page)
            assert page.url == f"{address_of(engine)}#/jobs?state=failed"
            page.get_by_role("link", name="Projects").click()
            expect(page.locator("h1")).to_have_text("Projects")
            page.reload()
            drawn(page)

            first, *others = asked
            assert len(others) > 20
            assert (str(engine["token"]) in first.url) == place.startswith("?")
            assert [request.url for request in others if str(engine["token"]) in request.url] == []
            assert [request.url for request in asked if "referer" in request.all_headers()] == []
            assert str(engine["token"]) not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
            assert str(engine["token"]) not in page.content()
        with watched(browser) as other:
            other.goto(address_of(engine))
            expect(other.get_by_label("Token")).to_be_visible()


def test_a_token_is_asked_for_until_it_is_a_good_one(browser: BrowserContext, engine: dict[str, Any]) -> None:
    with watched(browser) as page:
        page.goto(f"{address_of(engine)}#/projects/herbarium")
        expect(page.locator("h1")).to_have_text("A token, please")
        expect(page.locator("main")).to_contain_text("dcengine status")
        expect(page.get_by_label("Token")).to_be_focused()
        assert page.title() == "A token, please · dcengine"
        assert "herbarium" not in page.locator("main").inner_text()

        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("the token is wrong, expired or revoked")
        expect(page.get_by_label("Token")).to_be_focused()
        page.get_by_label("Token").fill(str(engine["url"]))  # all of what `dcengine serve` printed
        page.get_by_role("button", name="Open").click()
        expect(page.locator("h1")).to_contain_text("herbarium")


def test_a_token_that_is_revoked_is_asked_for_again_at_the_same_place(page: Page, engine: dict[str, Any]) -> None:
    made = current().call("create_token", TokenSpec(role="view"))
    open_at(page, engine, "projects/old-maps", token=made.token)
    expect(page.locator("h1")).to_contain_text("old-maps")

    current().call("revoke_token", made.status.id)
    dcengine.Project("old-maps").pause("caption")  # of which it hears

    expect(page.locator("h1")).to_have_text("A token, please")
    expect(page.get_by_role("alert")).to_contain_text("revoked")
    dcengine.Project("old-maps").resume("caption")
    page.get_by_label("Token").fill(str(engine["token"]))
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("old-maps")
    expect(page.locator("#state")).to_have_text("live")
    assert page.url.endswith("#/projects/old-maps")


def test_who_may_only_look_is_offered_nothing_to_do(page: Page, engine: dict[str, Any]) -> None:
    made = current().call("create_token", TokenSpec(role="view"))
    places = (
        *VIEWS,
        "projects/old-maps",
        f"jobs/{engine['training']}",
        "workers/w1",
        "contributors/ada?project=old-maps",
    )
    for place in places:
        open_at(page, engine, place, token=made.token)
        offered = set(page.locator("main button:not(.sort)").all_inner_texts())
        assert offered <= {"Newer", "Older", "Find", "More", "Copy", "Forget the token"}, place


# ---- what it is made of --------------------------------------------------------------------


def test_its_files_are_asked_for_anew_and_sent_only_if_they_are_others(engine: dict[str, Any]) -> None:
    for path in ("", "ui/app.js", "ui/style.css", "ui/views/jobs.js", "ui/icon.svg"):
        address = address_of(engine) + path
        with urlopen(address) as answer:
            tag, caching = answer.headers["ETag"], answer.headers["Cache-Control"]
        assert caching == "no-cache"
        for known in (tag, f'"older", {tag}', f"W/{tag}"):  # as proxies that pack pages say it
            with pytest.raises(OSError, match="304"):
                urlopen(Question(address, headers={"If-None-Match": known}))
        with urlopen(Question(address, headers={"If-None-Match": '"older"'})) as answer:
            assert answer.status == 200


def test_a_page_that_is_open_is_made_of_the_new_files_after_an_upgrade(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "work.db", workers=0) as (_, told):
        open_at(page, told, "settings")
        page.evaluate("window.isTheSame = true")
    newer = tmp_path / "newer"
    shutil.copytree(ROOT / "dcengine", newer / "dcengine", ignore=shutil.ignore_patterns("__pycache__"))
    words = newer / "dcengine/server/pages/ui/views/settings.js"
    words.write_text(words.read_text().replace('"This engine"', '"This new engine"'))

    port = str(urlsplit(address_of(told)).port)
    command = [
        sys.executable,
        "-m",
        "dcengine",
        "serve",
        "--db",
        str(tmp_path / "work.db"),
        "--port",
        port,
        "--workers",
        "0",
    ]
    path = f"{newer}:{environment()['PYTHONPATH']}"
    process = subprocess.Popen(
        command, env=environment(PYTHONPATH=path), cwd=newer, stdout=subprocess.DEVNULL, text=True
    )
    try:
        expect(page.get_by_role("heading", name="This new engine")).to_be_visible()
        expect(page.locator("h1")).to_have_text("Settings")
        assert page.evaluate("window.isTheSame") is None
    finally:
        end(process)


# ---- when the engine goes ------------------------------------------------------------------


def test_a_page_that_is_open_goes_on_after_the_engine_was_killed(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "work.db", workers=0) as (process, told):
        dcengine.connect(str(told["url"]))
        project = dcengine.Project("before")
        project.lease_stage("look")
        project.add([1, 2])
        open_at(page, told, "jobs")
        page.evaluate("window.isTheSame = true")
        expect(page.locator("tbody tr")).to_have_count(2)
        process.kill()
        process.wait()
        expect(page.locator("#state")).to_have_text("offline")
        expect(page.get_by_text("does not answer since")).to_be_visible()
        page.get_by_role("link", name="Leaderboard").click()  # which waits for the engine
        page.get_by_role("link", name="Jobs").click()
        expect(page.locator("tbody tr")).to_have_count(2)
        assert page.locator(".note").count() == 0  # it is said once, not at each try

    with served(tmp_path / "work.db", "--port", str(urlsplit(address_of(told)).port), workers=0):
        dcengine.Project("before").add([3])
        expect(page.locator("#state")).to_have_text("live")
        expect(page.locator("#offline")).to_be_hidden()
        expect(page.locator("tbody tr")).to_have_count(3)
        dcengine.Project("before").add([4])
        expect(page.locator("tbody tr")).to_have_count(4)
        links = page.locator("tbody a", has_text="before/").all_inner_texts()
        assert links == ["before/4", "before/3", "before/2", "before/1"]
        assert page.evaluate("window.isTheSame")
