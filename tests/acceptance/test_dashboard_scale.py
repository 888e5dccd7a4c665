"""The dashboard of a large farm, in Chromium: the first look is quick, and stays so while 500 events a second arrive.

100,000 jobs and 1,000 workers are part of all tests, with limits that a busy machine keeps; ``make scale`` runs
10^6 and 5,000 with those that are promised (``DCENGINE_SCALE=long``). What was measured is printed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

import dcengine
from dcengine.api import current
from dcengine.embed import EmbeddedEngine
from tests.engines import eventually, served
from tests.farms import Farm, build, farm_of_this_form, in_form
from tests.pages import CHROMIUM, chromium

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(in_form(short=240, long=900)),
]

PATIENCE = in_form(short=3.0, long=1.0)  #: by which the limits are stretched
ANSWER_SECONDS, LAG_SECONDS = 0.2 * PATIENCE, 0.05 * PATIENCE
PAINT_MS, TASK_MS = 1000 * PATIENCE, 200 * PATIENCE
WATCHED_SECONDS = in_form(short=6.0, long=20.0)
PER_SECOND = 500  #: events

FOUND = "/v1/jobs/found?limit=50"
ASKED = (
    "/v1/me", "/v1/status", "/v1/projects", "/v1/projects/farm", "/v1/projects/farm/throughput", "/v1/batches?limit=10",
    "/v1/projects/farm/samples?limit=8", "/v1/workers", "/v1/outside-workers/found", "/v1/leaderboard?project=farm",
    "/v1/outside-workers/found?text=person-7&order=-done&tags=", "/v1/failures", "/v1/failures?project=farm", FOUND,
    *(
        f"{FOUND}&{query}"
        for query in (
            "project=farm", "state=failed", "state=cancelled", "state=open", "state=succeeded", "stage=label",
            "project=farm&state=failed", "project=farm&state=cancelled", "project=neighbour-5&state=failed",
            "stage=label&state=failed", "submitter=user3@lab", "submitter=nobody", "worker=w-77", "worker=nobody",
            "text=shard-77", "text=nothing", "text=5000", "project=farm&text=nothing", "text=gpu",
            "state=failed&text=nothing", "before=50000", "project=farm&before=50000", "text=nothing&before=90000",
        )
    ),
)  # fmt: skip
VIEWS = {"": "h1", "projects/farm": ".funnel tbody tr", "jobs": "tbody tr", "workers": "tbody tr"}
WATCH = """() => {
    window.tasks = [];
    new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((task) => task.duration)))
        .observe({type: 'longtask', buffered: true});
}"""
CLIENT = """
import http.client, sys, time
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
for line in sys.stdin:
    began = time.perf_counter()
    connection.request("GET", line.strip(), headers={"Authorization": "Bearer " + sys.argv[2]})
    answer = connection.getresponse()
    answer.read()
    print(answer.status, time.perf_counter() - began, flush=True)
"""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Farm]:
    """The file of a large farm."""
    db, began = tmp_path_factory.mktemp("farm") / "work.db", time.monotonic()
    farm = build(db, farm_of_this_form())
    print(f"{farm.jobs:,} jobs and {farm.workers:,} workers written in {time.monotonic() - began:.1f} s")
    return db, farm


# ---- what is asked -------------------------------------------------------------------------


def test_every_question_is_answered_soon_and_holds_nobody_up(farm: tuple[Path, Farm]) -> None:
    with (
        dcengine.Engine(farm[0], workers=0, processes=False) as engine,
        client(engine) as ask,
        lateness(engine) as late,
    ):
        seconds, lag = dict[str, float](), dict[str, float]()
        for path in ASKED:
            tries = []
            for _ in range(4):  # the first of them with cold caches; a machine that is busy gets other tries
                late[0] = 0.0
                seconds[path] = ask(path)
                time.sleep(0.01)
                tries.append((seconds[path], late[0]))
            seconds[path], lag[path] = min(each for each, _ in tries), min(each for _, each in tries)
            print(f"{path:60} {1000 * seconds[path]:7.1f} ms, loop late by {1000 * lag[path]:5.1f} ms")

    assert {path: took for path, took in seconds.items() if took > ANSWER_SECONDS} == {}
    assert {path: took for path, took in lag.items() if took > LAG_SECONDS} == {}


@contextmanager
def client(engine: EmbeddedEngine) -> Iterator[Callable[[str], float]]:
    """What asks from a process of its own; returns the seconds that an answer took."""
    command = [sys.executable, "-c", CLIENT, urlsplit(engine.url).netloc, engine.token]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(path: str) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            print(path, file=process.stdin, flush=True)
            status, seconds = process.stdout.readline().split()
            assert status == "200", path
            return float(seconds)

        yield ask


@contextmanager
def lateness(engine: EmbeddedEngine) -> Iterator[list[float]]:
    """By how many seconds the engine's loop came too late, at most: set it back to look anew."""
    worst, thread = [0.0], engine._thread

    async def look() -> None:
        while True:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            worst[0] = max(worst[0], time.perf_counter() - due)

    looking = asyncio.run_coroutine_threadsafe(look(), thread.loop)
    yield worst
    looking.cancel()


# ---- what is seen --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(farm: tuple[Path, Farm]) -> Iterator[dict[str, object]]:
    with served(farm[0], workers=0) as told:
        current().call("run_project", "farm")
        yield told


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        yield context


def test_the_first_look_is_quick(engine: dict[str, object], browser: BrowserContext) -> None:
    took = {view: min(first_paint(browser, engine, view) for _ in range(2)) for view in VIEWS}

    print(", ".join(f"{view or 'projects'}: {milliseconds:.0f} ms" for view, milliseconds in took.items()))
    assert max(took.values()) < PAINT_MS, took


def first_paint(browser: BrowserContext, engine: dict[str, object], view: str) -> float:
    """Return the milliseconds from the beginning of the navigation until what the view is for is seen."""
    page = browser.new_page()
    page.add_init_script(
        "new MutationObserver((_, observer) => { if (document.querySelector('main ' + SELECTOR)) {"
        " observer.disconnect(); requestAnimationFrame(() => setTimeout(() => window.painted = performance.now())) } })"
        ".observe(document, {childList: true, subtree: true})".replace("SELECTOR", repr(VIEWS[view]))
    )
    page.goto(f"{engine['url']}#/{view}")
    painted = eventually(lambda: page.evaluate("window.painted"))
    page.close()
    assert isinstance(painted, float | int)
    return painted


@pytest.mark.parametrize("view", VIEWS)
def test_no_long_task_while_events_arrive(engine: dict[str, object], browser: BrowserContext, view: str) -> None:
    page = browser.new_page()
    page.goto(f"{engine['url']}#/{view}")
    page.locator(f"main {VIEWS[view]}").first.wait_for()
    page.evaluate(WATCH)
    before = current().call("events").cursor
    with stirred(engine):
        page.wait_for_timeout(1000 * WATCHED_SECONDS)
        happened = current().call("events").cursor - before
        # A machine that is busy makes fewer in that time: as many as were to be, however long they take.
        eventually(lambda: current().call("events").cursor - before > PER_SECOND * WATCHED_SECONDS * 0.7, 60)
    longest = longest_task(page)
    print(f"{view or 'projects'}: longest task {longest:.0f} ms, {happened / WATCHED_SECONDS:.0f} events/s")

    assert longest < TASK_MS
    expect(page.locator("#state")).to_have_text("live")
    page.close()


def longest_task(page: Page) -> float:
    return float(page.evaluate("Math.max(0, ...window.tasks)"))


@contextmanager
def stirred(engine: dict[str, object]) -> Iterator[None]:
    """Outside workers that lease and complete, so often that so many events happen in a second."""
    command = [sys.executable, "-m", "benchmarks.events", "stir", str(engine["url"]), "farm", "fetch"]
    with subprocess.Popen([*command, str(PER_SECOND)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            yield
        finally:
            process.terminate()


def test_workers_are_found_among_all(
    engine: dict[str, object], browser: BrowserContext, farm: tuple[Path, Farm]
) -> None:
    page = browser.new_page()
    page.goto(f"{engine['url']}#/workers")
    section = page.locator("section", has=page.get_by_role("heading", name="Outside workers"))
    expect(section.locator("tbody tr")).to_have_count(50)

    page.get_by_label("Text").fill("w-77 fetch")

    expect(section.locator("tbody tr").first).to_contain_text("w-77")
    eventually(lambda: all("w-77" in text for text in section.locator("tbody tr").all_inner_texts()))
    page.get_by_label("Text").fill("")
    section.get_by_role("button", name="Done").click()
    eventually(lambda: numbers(section)[0] >= 976 and numbers(section) == sorted(numbers(section), reverse=True))
    section.get_by_role("button", name="More").click()
    expect(section.locator("tbody tr")).to_have_count(100)
    page.close()


def numbers(section: Locator) -> list[int]:
    """How many tasks the workers shown have done."""
    return [int(text.replace(",", "")) for text in section.locator("tbody td[data-title=Done]").all_inner_texts()]
