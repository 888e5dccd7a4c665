"""Workers, contributors and acts in a real browser: who works, who earned what, what one's own token has done."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import websocket
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Route, expect

import dcengine
from dcengine.api import current
from dcengine.verbs import TokenSpec
from tests.engines import eventually, served, serving
from tests.pages import CHROMIUM, chromium

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(240),
]
SECRET = "a-secret-that-nobody-may-read"
PHONE = {"width": 390, "height": 844}
OURS = ("workers", "workers/w1", "leaderboard", "contributors/bob", "failures", "kernels", "settings", "mine")
WATCH_ROWS = """(table) => {
    window.rows = 0;
    const look = () => { window.rows = Math.max(window.rows, table.querySelectorAll("tbody tr").length); };
    new MutationObserver(look).observe(table, {childList: true, subtree: true});
    look();
}"""
NICKNAMES = {
    "html": '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>',
    "turned": "\u202egnp.exe\u2066",
    "long": "a" * 200,
    "blank": "  ",
    "emoji": "👩‍🚀 ünï/c?d#e%41",
    "dots": "..",
}


@dataclass
class Farm:
    """An engine, and what is asked of it over HTTP."""

    url: str
    token: str

    def ask(self, method: str, path: str, body: object = None, *, token: str | None = None) -> tuple[int, Any]:
        """Return the status of the answer, and what it says."""
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def lease(
        self, worker: str, nickname: str, n: int = 1, *, token: str | None = None, **tags: str | None
    ) -> list[str]:
        """Lease *n* tasks of crawl as an outside worker does; return the tokens of the leases."""
        body = {"worker": worker, "nickname": nickname, "n": n, "tags": tags}
        status, tasks = self.ask("POST", "/v1/projects/crawl/stages/CPU/lease", body, token=token)
        assert status == 200, tasks
        return [task["token"] for task in tasks]

    def do(self, worker: str, nickname: str, n: int = 1, *, token: str | None = None) -> None:
        """Do *n* tasks of crawl."""
        done = [{"token": each, "output": 1} for each in self.lease(worker, nickname, n, token=token)]
        assert self.ask("POST", "/v1/tasks/complete", done, token=token)[0] == 200

    def made(self, **spec: Any) -> str:
        """Return a new token."""
        return str(current().call("create_token", TokenSpec(**spec)).token)


def mix(gate: str) -> None:
    dcengine.progress(3, 10, text="mixing <b>colours</b>")
    wait_for(gate)


def wait_for(gate: str) -> None:
    import os
    import time

    while not os.path.exists(gate):
        time.sleep(0.02)


def measure(n: int) -> int:
    if n < 6:
        raise ValueError(f"photo {n} of '/data/{n}.png' is too dark")
    return n


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A page that complains of nothing."""
    with quiet_page(browser) as page:
        yield page


@contextmanager
def quiet_page(browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(20_000)
    trouble: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            trouble.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    yield page
    page.close()
    assert not trouble


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Two machines on which photos have failed, and a project of outside workers."""
    folder = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCENGINE_TOKEN", SECRET)
        patch.setenv("DCENGINE_OUTPUT_LIMIT", "123456")
        with serving(folder / "work.db", "--worker-tags", "site=lab,zoo", "--files", str(folder)) as (_, told):
            patch.undo()
            dcengine.connect(str(told["url"]))
            photos = dcengine.Project("photos")
            photos.stage(measure, name="measure", retries=0)
            photos.add(range(9))
            photos.run()
            crawl = dcengine.Project("crawl")
            crawl.lease_stage("CPU")
            crawl.add([{"url": n} for n in range(200)])
            crawl.run()
            eventually(lambda: photos.status().done == 9)
            try:
                yield Farm(str(told["url"]).partition("/?")[0], str(told["token"]))
            finally:
                dcengine.connect(None)


def open_at(page: Page, farm: Farm, where: str, token: str | None = None) -> None:
    """Open a page of the dashboard with a token, as its address would."""
    page.goto(f"{farm.url}/?token={token or farm.token}#/{where}")
    page.locator("h1").first.wait_for()


def row_of(page: Page, text: str) -> Locator:
    return page.locator("tbody tr", has_text=text)


def choose(page: Page, label: str) -> None:
    """Answer the question that is open with *label*."""
    page.locator("dialog").get_by_role("button", name=label).click()


# ---- workers -------------------------------------------------------------------------------


def test_workers_are_listed_with_what_they_have_and_do(page: Page, farm: Farm, tmp_path: Path) -> None:
    job = dcengine.submit(mix, str(tmp_path / "go"))
    farm.do("box-1", "bob", 2)
    held = farm.lease("box-1", "bob", gpu=None, ram="64")
    farm.ask("POST", "/v1/tasks/heartbeat", [{"token": held[0], "text": "fetching pages"}])
    open_at(page, farm, "workers")

    machine = row_of(page, "mixing")
    expect(machine).to_contain_text("3 of 10: mixing <b>colours</b>")
    expect(machine.get_by_role("link", name=f"#{job.id}")).to_be_visible()
    expect(machine).to_contain_text("busy")
    expect(machine.locator("td[data-title='Heard of']")).to_contain_text("ago")
    assert machine.locator(".tag").all_inner_texts()[:2] == ["site=lab", "zoo"]
    assert machine.locator(".tag.own").all_inner_texts() == ["site=lab", "zoo"]
    per_hour = page.get_by_role("region", name="Machines").locator("td[data-title='Per hour']").all_inner_texts()
    assert any(float(text.replace(",", "")) > 0 for text in per_hour if text != "—")
    outside = row_of(page, "box-1")
    expect(outside).to_contain_text("fetching pages")
    expect(outside).to_contain_text("gpu")
    expect(outside.get_by_role("link", name="crawl/3")).to_be_visible()
    expect(outside.locator("td[data-title='Done']")).to_have_text("2")
    assert int(outside.locator("td[data-title='Per hour']").inner_text().replace(",", "")) >= 2

    (tmp_path / "go").touch()

    expect(row_of(page, "mixing")).to_have_count(0)


def test_workers_are_found_by_text_and_by_tags_and_are_sorted(page: Page, farm: Farm) -> None:
    farm.lease("box-1", "bob", gpu=None, ram="64")
    farm.lease("box-2", "carol", ram="16")
    open_at(page, farm, "workers")
    outside, inside = page.get_by_role("region", name="Outside workers"), page.get_by_role("region", name="Machines")
    expect(outside.locator("tbody tr")).to_have_count(2)

    page.get_by_label("Text").fill("carol")
    expect(outside.locator("tbody tr")).to_have_count(1)
    expect(outside).to_contain_text("box-2")
    page.get_by_label("Text").fill("")
    page.get_by_label("Tags").fill("ram>=32")
    page.get_by_label("Tags").press("Enter")
    expect(outside).not_to_contain_text("box-2")
    expect(outside).to_contain_text("box-1")
    expect(inside).not_to_be_visible()
    page.get_by_label("Tags").fill("zoo & nothing.like.it")
    page.get_by_label("Tags").press("Enter")
    expect(page.locator(".warning")).to_contain_text("nothing.like.it")
    page.get_by_label("Tags").fill("zoo >>= (")
    page.get_by_label("Tags").press("Enter")
    expect(page.locator(".warning")).to_contain_text("zoo >>= (")
    page.get_by_label("Tags").fill("zoo")
    page.get_by_label("Tags").press("Enter")
    expect(inside.locator("tbody tr")).to_have_count(2)
    inside.get_by_role("button", name="Worker").press("Enter")
    inside.get_by_role("button", name="Worker").press("Enter")
    assert inside.locator("tbody tr td:first-child").all_inner_texts() == ["w2", "w1"]
    page.reload()
    expect(page.get_by_label("Tags")).to_have_value("zoo")


def test_an_answer_that_comes_late_is_not_shown_in_place_of_a_newer_one(page: Page, farm: Farm) -> None:
    farm.lease("box-1", "bob", gpu=None, ram="64")
    farm.lease("box-2", "carol", ram="16")
    held: list[Route] = []
    for_all = re.compile(r"/v1/outside-workers/found\?(?!.*text=carol)")
    open_at(page, farm, "workers")
    outside = page.get_by_role("region", name="Outside workers")
    expect(outside.locator("tbody tr")).to_have_count(2)

    page.route(for_all, lambda route: held.append(route))
    eventually(lambda: (page.wait_for_timeout(50), held)[1])
    page.get_by_label("Text").fill("carol")
    expect(outside.locator("tbody tr")).to_have_count(1)
    outside.evaluate(WATCH_ROWS)
    with page.expect_response(for_all):
        for each in held:
            each.continue_()
    with page.expect_response(re.compile("/v1/outside-workers/found.*text=carol")):
        pass

    assert page.evaluate("window.rows") == 1


def test_a_worker_shows_where_its_tags_are_from_what_it_did_and_what_failed(page: Page, farm: Farm) -> None:
    (group,) = (each for each in current().call("failure_groups").groups if "is too dark" in each.pattern)
    open_at(page, farm, f"workers/{max(group.workers, key=group.workers.__getitem__)}")

    expect(page.locator("dt", has_text="Tags it was given").locator("+ dd")).to_contain_text("site=")
    expect(page.locator("dt", has_text="Found there").locator("+ dd")).to_contain_text("os=")
    failed = page.get_by_role("region", name="Failures")
    expect(failed.locator("tbody tr").first).to_contain_text("is too dark")
    expect(page.get_by_role("region", name="Jobs").locator("tbody tr").first).to_be_visible()
    open_at(page, farm, "workers/nobody%2Fhere")
    expect(page.locator("h1")).to_contain_text("gone")


def test_a_worker_is_given_tags_and_a_refusal_is_told_in_the_words_of_the_engine(page: Page, farm: Farm) -> None:
    open_at(page, farm, "workers/w2")
    page.get_by_role("button", name="Give tags").click()
    tags = page.locator("dialog").get_by_role("textbox")
    tags.fill("zoo, zoo")
    choose(page, "Give them")
    expect(page.locator("dialog .trouble")).to_contain_text("the tag zoo is given twice")
    tags.fill("site=attic, zoo")
    choose(page, "Give them")

    expect(page.locator("dt", has_text="Tags it was given").locator("+ dd")).to_contain_text("site=attic")
    assert {each.name: each.tags["site"] for each in current().call("workers")} == {"w1": "lab", "w2": "attic"}


# ---- who has earned what -------------------------------------------------------------------


def test_the_leaderboard_is_of_one_project_or_of_all_and_of_a_span(page: Page, farm: Farm) -> None:
    farm.do("box-1", "first", 4)
    open_at(page, farm, "leaderboard?span=day")
    expect(row_of(page, "first").locator("td").nth(2)).to_have_text("4")
    expect(page.get_by_label("Span")).to_have_value("day")

    farm.do("box-1", "first", 3)
    expect(row_of(page, "first").locator("td").nth(2)).to_have_text("7")
    page.get_by_label("Project").select_option("photos")
    expect(row_of(page, "first")).to_have_count(0)
    expect(page.locator("tbody tr").first).to_be_visible()
    page.get_by_label("Project").select_option("calls")
    page.get_by_label("Span").select_option("month")
    expect(page).to_have_url(f"{farm.url}/#/leaderboard?project=functions&span=month")


def test_a_contributor_shows_what_it_earned_when_and_where(page: Page, farm: Farm) -> None:
    farm.do("box-dora", "dora", 5)
    farm.lease("box-dora", "dora", 2)
    open_at(page, farm, "leaderboard?project=crawl")
    page.get_by_role("link", name="dora").click()

    expect(page.locator("h1")).to_have_text("dora")
    stages = page.get_by_role("region", name="Credit by stage")
    expect(stages.locator("tbody tr")).to_have_text(["crawl, CPU5"])
    expect(page.get_by_role("region", name="Done last").locator("tbody tr")).to_have_count(5)
    expect(page.get_by_role("region", name="Workers").locator("tbody tr")).to_contain_text("box-dora")
    expect(page.locator("figure", has_text="The last 24 hours")).to_contain_text("5 in all")
    farm.do("box-dora", "dora", 1)
    expect(stages.locator("tbody tr")).to_have_text(["crawl, CPU6"])
    expect(page.locator("figure", has_text="The last 30 days")).to_contain_text("6 in all")


def test_a_ban_is_asked_once_by_name_and_is_taken_back_by_a_welcome(page: Page, farm: Farm) -> None:
    farm.do("box-eve", "eve", 3)
    open_at(page, farm, "contributors/eve")
    page.get_by_role("button", name="Ban").focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_contain_text("Ban eve?")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert current().call("banned_contributors") == []
    page.get_by_role("button", name="Ban").click()
    choose(page, "Leave it")
    assert current().call("banned_contributors") == []

    page.get_by_role("button", name="Ban").click()
    choose(page, "Ban")

    expect(page.locator("#notes")).to_contain_text("3 tasks of eve count no more")
    expect(page.locator("h1")).to_contain_text("banned")
    expect(page.locator("main")).to_contain_text("Banned since")
    page.get_by_role("button", name="Welcome again").click()
    expect(page.get_by_role("button", name="Ban")).to_be_visible()
    assert current().call("banned_contributors") == []


# ---- one's own -----------------------------------------------------------------------------


def test_a_volunteer_sees_on_a_phone_what_its_token_has_done_and_nothing_else(page: Page, farm: Farm) -> None:
    token = farm.made(role="worker", project="crawl", nickname="ann")
    farm.do("box-other", "other", 2)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    open_at(page, farm, "", token)
    expect(page).to_have_url(f"{farm.url}/#/mine")
    expect(page.locator("main")).to_contain_text("Nothing was done with this token yet")
    assert page.locator("nav a").all_inner_texts() == ["Mine"]

    farm.do("ann-1", "whoever", 3, token=token)
    held = farm.lease("ann-1", "whoever", 2, token=token)
    farm.ask("POST", "/v1/tasks/heartbeat", [{"token": held[0], "text": "half way"}], token=token)

    expect(page.locator("h1")).to_have_text("ann")
    expect(page.get_by_role("region", name="In hand").locator("tbody tr")).to_have_count(2)
    expect(page.get_by_role("region", name="In hand")).to_contain_text("half way")
    expect(page.get_by_role("region", name="Place").locator("tbody tr").last).to_contain_text("3")
    expect(page.get_by_role("region", name="Done last").locator("tbody tr")).to_have_count(3)
    expect(page.locator("main")).not_to_contain_text("other")
    assert page.locator("main a").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for path in ("/v1/jobs", "/v1/workers", "/v1/contributor?nickname=other", "/v1/leaderboard", "/v1/events"):
        assert farm.ask("GET", path, token=token)[0] == 403, path
    page.evaluate("window.location.hash = '#/jobs'")
    expect(page).to_have_url(f"{farm.url}/#/mine")


def test_a_token_without_a_nickname_is_told_of_its_own_project_alone(farm: Farm) -> None:
    token = farm.made(role="worker", project="crawl")
    farm.do("box-gus", "gus", 1)
    farm.do("hand", "gus", 2, token=token)
    held = farm.lease("hand", "gus", token=token)

    status, mine = farm.ask("GET", "/v1/mine", token=token)
    assert status == 200
    assert [(each["nickname"], [at["project"] for at in each["projects"]]) for each in mine["contributors"]] == [
        ("gus", ["crawl"])
    ]
    assert [task["worker"] for task in mine["holding"]] == ["hand"]
    assert [worker["name"] for worker in mine["workers"]] == ["hand"]
    farm.ask("POST", "/v1/tasks/release", held, token=token)
    assert farm.ask("GET", "/v1/mine", token=token)[1]["held"] == 0


def test_whoever_brings_jobs_sees_those_brought_with_the_token(page: Page, farm: Farm) -> None:
    token = farm.made(role="submit")
    dcengine.submit(pow, 2, 3).result()
    with reconnected(farm, token):
        job = dcengine.submit(pow, 2, 10)
        batch = dcengine.map(abs, range(5))
        assert job.result() == 1024
        assert list(batch) == [0, 1, 2, 3, 4]

    open_at(page, farm, "mine", token)

    jobs = page.get_by_role("region", name="Jobs")
    expect(jobs.locator("tbody tr")).to_have_count(1)
    expect(jobs.get_by_role("link", name=f"#{job.id}")).to_be_visible()
    expect(page.get_by_role("region", name="Batches").locator("tbody tr")).to_contain_text("5 of 5")
    assert f"#{job.id}" not in [link["id"] for link in farm.ask("GET", "/v1/mine/jobs")[1]["jobs"]]


@contextmanager
def reconnected(farm: Farm, token: str) -> Iterator[None]:
    dcengine.connect(f"{farm.url}/?token={token}")
    try:
        yield
    finally:
        dcengine.connect(f"{farm.url}/?token={farm.token}")


# ---- failures ------------------------------------------------------------------------------


def test_failures_alike_are_one_row_with_an_example_and_are_queued_again_together(page: Page, farm: Farm) -> None:
    open_at(page, farm, "failures?project=photos")
    group = page.locator("tbody tr")
    expect(group).to_have_count(1)
    expect(group).to_contain_text("ValueError: photo N of '…' is too dark")
    expect(group.locator("td").first).to_have_text("6")
    expect(group.locator("td[data-title='On']")).to_contain_text("w")
    group.locator("summary").click()
    expect(group.locator("pre")).to_contain_text("in measure")
    before = {job.id: job.attempt for job in failed_photos()}

    page.get_by_role("button", name="Requeue all").click()

    expect(page.locator("#notes")).to_contain_text("6 jobs queued again")
    eventually(lambda: all(job.attempt > before[job.id] for job in failed_photos()) and len(failed_photos()) == 6)
    expect(group.locator("pre")).to_be_visible()  # what was unfolded stays so
    page.get_by_role("link", name="all that failed there").click()
    expect(page.locator("tbody tr")).to_have_count(6)


def failed_photos() -> list[Any]:
    return list(current().call("jobs", state="failed", project="photos"))


# ---- kernels -------------------------------------------------------------------------------


def test_a_kernel_is_shown_with_what_it_runs_interrupted_and_shut_down(page: Page, farm: Farm) -> None:
    open_at(page, farm, "kernels")
    expect(page.locator("main")).to_contain_text("No kernel runs")
    document = {"path": "work/<b>demo</b>.ipynb", "name": "demo", "type": "notebook", "kernel": {"name": "python3"}}
    kernel = farm.ask("POST", "/api/sessions", document)[1]["kernel"]["id"]
    row = row_of(page, kernel[:8])
    expect(row).to_contain_text("work/<b>demo</b>.ipynb")
    expect(row).to_contain_text("owner")
    expect(row).to_contain_text("python")
    with running(farm, kernel, "import time\ntime.sleep(600)"):
        expect(row).to_contain_text("time.sleep(600)")
        expect(row).to_contain_text("busy")
        expect(row.locator("td[data-title='Front ends']")).to_have_text("1")
        row.get_by_role("button", name="Interrupt").click()
        expect(row).to_contain_text("idle")
        expect(row).not_to_contain_text("time.sleep(600)")

    row.get_by_role("button", name="Shut down").click()
    expect(page.locator("dialog")).to_contain_text(f"{kernel[:8]} of work/<b>demo</b>.ipynb?")
    page.keyboard.press("Escape")
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Shut down").click()
    choose(page, "Shut down")
    expect(row).to_have_count(0)
    assert farm.ask("GET", "/api/kernels")[1] == []


@contextmanager
def running(farm: Farm, kernel: str, code: str) -> Iterator[None]:
    """Have *kernel* run *code*, as a front end does."""
    address = f"{farm.url.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels"
    line = websocket.create_connection(address, header=[f"Authorization: Bearer {farm.token}"], timeout=30)
    header = {"msg_id": uuid4().hex, "msg_type": "execute_request", "session": "s", "username": "", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    line.send(json.dumps(message))
    try:
        yield
    finally:
        line.close()


# ---- settings ------------------------------------------------------------------------------


def test_settings_say_where_they_are_from_and_tell_no_secret(page: Page, farm: Farm) -> None:
    open_at(page, farm, "settings")

    sources = {
        row.locator("td").nth(0).inner_text(): row.locator("td").nth(2).inner_text()
        for row in page.locator("tbody tr").all()
    }
    assert (sources["worker_tags"], sources["output_limit"], sources["host"]) == (
        "command line",
        "environment",
        "default",
    )
    expect(row_of(page, "output_limit")).to_contain_text("123456")
    expect(page.locator("tbody tr", has=page.locator("code", has_text="token")).first).to_contain_text("set")
    assert SECRET not in page.content()
    assert SECRET not in json.dumps(farm.ask("GET", "/v1/settings")[1])
    assert farm.token not in page.content()


# ---- who may do what -----------------------------------------------------------------------

ACTS = [
    ("POST", "/v1/contributors/ban", {"nickname": "bob"}),
    ("POST", "/v1/contributors/unban", {"nickname": "bob"}),
    ("POST", "/v1/failures/retry", {"project": "photos", "stage": "measure", "pattern": "x"}),
    ("POST", "/v1/workers/tag?name=w1&tags=a", None),
    ("POST", "/v1/jobs/priority", {"jobs": [1], "priority": 1}),
    ("POST", "/v1/jobs/retry", [1]),
    ("POST", "/v1/jobs/1/cancel", None),
    ("POST", "/v1/projects/photos/pause", None),
    ("POST", "/v1/projects/photos/run", None),
    ("POST", "/api/kernels/x/interrupt", None),
    ("DELETE", "/api/kernels/x", None),
]


def test_who_may_only_look_is_offered_no_act_and_is_refused_each(page: Page, farm: Farm) -> None:
    token = farm.made(role="view")
    farm.do("box-1", "bob", 1)
    kernel = farm.ask("POST", "/api/kernels", {"name": "python3"}, token=farm.made(role="submit"))[1]["id"]
    for view in OURS:
        open_at(page, farm, view, token)
        expect(page.locator("#state")).to_have_text("live")
        if view == "kernels":
            expect(row_of(page, kernel[:8])).to_contain_text("token")
        offered = {text.strip(" ▲▼") for text in page.locator("main button:not(.sort)").all_inner_texts()}
        assert offered <= {"Find", "More", "Copy", "Forget the token", ""}, (view, offered)
    for method, path, body in ACTS:
        status, said = farm.ask(method, path, body, token=token)
        assert status == 403, path
        assert "view" in str(said["message"]), said
    open_at(page, farm, "contributors/bob", farm.made(role="submit"))
    expect(page.get_by_role("region", name="Place")).to_be_visible()
    expect(page.get_by_role("button", name="Ban")).to_have_count(0)
    farm.ask("DELETE", f"/api/kernels/{kernel}")


# ---- names that were meant to hurt ---------------------------------------------------------


def test_hostile_nicknames_do_no_harm_on_any_page(page: Page, farm: Farm) -> None:
    for worker, nickname in NICKNAMES.items():
        farm.do(f"hostile-{worker}", nickname, 1)
        held = farm.lease(f"hostile-{worker}", nickname)
        farm.ask("POST", "/v1/tasks/heartbeat", [{"token": held[0], "text": nickname}])
    farm.do("hostile-empty", "", 1)
    body = {"worker": "w", "nickname": "n" * 10_000}
    assert farm.ask("POST", "/v1/projects/crawl/stages/CPU/lease", body)[0] == 400
    names = [*NICKNAMES.values(), "hostile-empty"]
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]

    for view in ("workers", "leaderboard", "leaderboard?project=crawl", "mine", "failures"):
        open_at(page, farm, view)
        if view.startswith("leaderboard"):
            for shown in (
                f"{NICKNAMES['html'][:60]}…",
                "\\u202egnp.exe\\u2066",
                f"{'a' * 60}…",
                '"  "',
                NICKNAMES["emoji"],
            ):
                expect(page.get_by_role("link", name=shown, exact=True)).to_be_visible()
        harmless(page, view)
    for n, name in enumerate(names):
        open_at(page, farm, "leaderboard")
        links = page.locator("tbody a")
        expect(links.first).to_be_visible()
        address = page.evaluate("name => `#/contributors/${encodeURIComponent(name)}`", name)
        page.locator(f"a[href={json.dumps(address)}]").click()
        expect(page.get_by_role("region", name="Place")).to_be_visible()
        harmless(page, f"contributor {n}")
        page.get_by_role("button", name="Ban").click()
        expect(page.locator("dialog")).to_contain_text("Ban")
        harmless(page, f"question about {n}")
        page.keyboard.press("Escape")
    open_at(page, farm, "mine", farm.made(role="worker", project="crawl", nickname=NICKNAMES["html"]))
    expect(page.locator("h1")).to_have_text(NICKNAMES["html"])
    harmless(page, "mine of the hostile")


def harmless(page: Page, where: str) -> None:
    assert page.evaluate("window.hurt") is None, where
    assert page.locator("main script, main img[src='x'], dialog img").count() == 0, where
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], where


# ---- on every kind of screen ---------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_fits_the_screen_in_both_themes(page: Page, farm: Farm, width: int) -> None:
    farm.do("box-1", "bob", 1)
    page.set_viewport_size({"width": width, "height": 844})
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for view in OURS:
            open_at(page, farm, view)
            expect(page.locator("main .card").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (view, theme)
            expect(page.locator("main")).not_to_contain_text("undefined")
            expect(page.locator("main")).not_to_contain_text("NaN")


# ---- when there is nothing, when the engine goes -------------------------------------------


def test_an_empty_engine_says_what_to_do_first_and_what_comes_after_a_restart_is_seen(
    browser: BrowserContext, tmp_path: Path
) -> None:
    db, port = tmp_path / "work.db", "18797"
    with quiet_page(browser) as page, quiet_page(browser) as board, quiet_page(browser) as own:
        with served(db, "--port", port, workers=0) as told:
            farm = Farm(str(told["url"]).partition("/?")[0], str(told["token"]))
            crawl = dcengine.Project("crawl")
            crawl.lease_stage("CPU")
            crawl.add([1, 2, 3])
            crawl.run()
            volunteer = farm.made(role="worker", project="crawl", nickname="vic")
            open_at(page, farm, "workers")
            expect(page.locator(".command").first).to_contain_text("dcengine join")
            for view, words in {
                "leaderboard": "Nobody has earned anything",
                "failures": "Nothing has failed",
                "kernels": "No kernel runs",
                "mine": "brought",
            }.items():
                open_at(board, farm, view)
                expect(board.locator("main")).to_contain_text(words)
            open_at(board, farm, "leaderboard")
            open_at(own, farm, "", volunteer)
            expect(own.locator(".command").first).to_contain_text("dcengine worker")
        expect(own.locator("main").get_by_text("The engine does not answer")).to_be_visible()
        expect(page.locator("#state")).to_have_class("state-lost")
        with served(db, "--port", port, workers=1):
            expect(page.locator("#state")).to_have_text("live")
            expect(row_of(page, "w1")).to_contain_text("ready")
            farm.do("box-9", "nina", 2, token=volunteer)
            expect(row_of(page, "box-9")).to_be_visible()
            expect(row_of(board, "vic").locator("td").nth(2)).to_have_text("2")
            expect(own.get_by_role("region", name="Done last").locator("tbody tr")).to_have_count(2)
            expect(own.locator("main").get_by_text("The engine does not answer")).not_to_be_visible()
