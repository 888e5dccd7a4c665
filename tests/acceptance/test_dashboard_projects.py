"""Projects and jobs in the dashboard, in a real browser: what their owners see there, and what they do there."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, FilePayload, Locator, Page, expect

import dcengine
from dcengine.api import current
from dcengine.verbs import Completion, LeaseRequest
from tests.engines import eventually, served, serving
from tests.pages import CHROMIUM, chromium

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(300),
]
HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>\'"&{{7*7}}${7*7}\u202e'
PHOTOS = 14  #: of which two are too dark


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        context.set_default_timeout(20_000)
        yield context


@pytest.fixture(scope="module")
def tab(browser: BrowserContext, engine: dict[str, Any]) -> tuple[Page, list[str]]:
    """One tab for all tests, and what its console complains of."""
    page, trouble = browser.new_page(), list[str]()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            trouble.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(engine["url"])
    page.locator("h1").first.wait_for()
    return page, trouble


@pytest.fixture
def page(tab: tuple[Page, list[str]]) -> Iterator[Page]:
    """The tab, in which nothing may go wrong unseen."""
    page, trouble = tab
    trouble.clear()
    page.set_viewport_size({"width": 1280, "height": 900})
    yield page
    page.evaluate("document.querySelectorAll('dialog').forEach(dialog => dialog.close())")
    page.goto(page.url.partition("#")[0] + "#/settings")  # what was followed is followed no more
    assert not trouble


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An engine with two workers, through which photos have gone: in three stages, the last of which paints."""
    with served(tmp_path_factory.mktemp("projects") / "work.db", "--worker-tags", "site=lab") as told:
        photos = dcengine.Project("photos")
        photos.stage(fetch, name="fetch")
        photos.stage(measure, name="measure", retries=1)
        photos.stage(paint, name="paint")
        photos.add(range(PHOTOS), keys=[f"photo-{n}" for n in range(PHOTOS)])
        photos.run()
        eventually(lambda: photos.status().done == PHOTOS)
        yield told


def fetch(n: int) -> int:
    print(f"\x1b[32mfetched\x1b[0m {n} \x1b[38;5;208morange\x1b[0m \x1b[1;38;2;120;80;255mviolet\x1b[0m")
    for done in range(0, 101, 25):
        print(f"\r{done:3d} %", end="", file=sys.stderr, flush=True)
        time.sleep(0.06)  # each goes out by itself
    print(file=sys.stderr)
    return n


def measure(n: int) -> list[dict[str, object]]:
    if n % 7 == 3:
        raise ValueError(f"photo {n} is too dark")
    return [{"photo": n, "part": part, "said": HOSTILE} for part in range(3)]


def paint(rows: list[dict[str, int]]) -> bytes:
    return png(rows[0]["photo"])


def png(n: int, width: int = 64) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, 40), (10 * n % 256, 60, 120)).save(file, "PNG")
    return file.getvalue()


def open_at(page: Page, where: str) -> None:
    """Go to a view of the dashboard, by its address."""
    page.evaluate("where => { window.location.hash = where }", f"#/{where}")
    page.locator("main:not([aria-busy]) h1").first.wait_for()


def leased(project: str, stage: str, n: int = 1, **more: Any) -> list[Any]:
    return list(current().call("lease", LeaseRequest(project=project, stage=stage, worker="w", n=n, **more)))


def outside(name: str, items: list[Any], *, stages: tuple[str, ...] = ("look",)) -> dcengine.Project:
    """A running project that outside workers do."""
    project = dcengine.Project(name)
    for stage in stages:
        project.lease_stage(stage)
    project.add(items)
    project.run()
    return project


def fits(page: Page, width: int = 390) -> None:
    """The page is used on a phone without being moved sideways."""
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})


# ---- a project -----------------------------------------------------------------------------


def test_a_project_is_seen_as_a_funnel_with_its_numbers_plots_and_pictures(page: Page) -> None:
    open_at(page, "projects/photos")

    rows = page.locator(".funnel tbody tr")
    expect(rows).to_have_count(3)
    assert rows.locator("th strong").all_inner_texts() == ["fetch", "measure", "paint"]
    assert rows.nth(1).locator("td.number").all_inner_texts() == ["0", "0", "12", "2"]
    widths = rows.locator("svg rect.rest").evaluate_all("each => each.map(one => Number(one.getAttribute('width')))")
    assert widths[0] == widths[1] == 100
    assert widths[2] == pytest.approx(100 * 12 / 14, rel=0.01)
    expect(rows.nth(1).locator("svg")).to_have_attribute("aria-label", "12 done, 2 failed")
    last = page.locator(".last img")
    expect(last).to_be_visible()
    assert last.evaluate("picture => picture.naturalWidth") == 64
    done = [job for job in current().call("jobs", project="photos") if job.state == "succeeded"]
    newest = max(done, key=lambda job: job.finished)
    expect(page.locator(".last figcaption")).to_contain_text(str(newest.key))
    expect(page.locator(".last figcaption")).to_contain_text("ago")
    expect(page.locator(".sample")).to_have_count(8)
    fits(page)


def test_a_plot_is_read_by_eye_by_pointer_by_keyboard_and_as_a_table(page: Page) -> None:
    open_at(page, "projects/photos")

    chart = page.locator(".chart").first
    expect(chart.locator(".scale span").last).to_have_text("0")
    assert chart.locator(".scale span").count() >= 3
    assert chart.locator(".times span").count() == 5
    expect(chart.locator(".said-value")).to_contain_text("38 in all")
    area = chart.get_by_role("slider")
    area.focus()
    area.press("Home")
    expect(area).to_have_attribute("aria-valuenow", "0")
    area.press("End")
    area.press("ArrowLeft")
    expect(area).to_have_attribute("aria-valuenow", "118")
    texts = set[str]()
    for _ in range(119):  # where they came through, however long ago that is
        area.press("ArrowRight" if not texts else "ArrowLeft")
        texts.add(area.get_attribute("aria-valuetext") or "")
        if any("fetch" in text for text in texts):
            break
    assert any(re.search(r"fetch \d+", text) for text in texts)
    area.hover(position={"x": 3, "y": 30})
    expect(area).to_have_attribute("aria-valuenow", "0")
    page.mouse.move(0, 0)
    chart.get_by_text("As a table").click()
    expect(chart.locator("thead th")).to_have_text(["When", "fetch", "measure", "paint"])
    sums = chart.locator("tbody td:nth-child(2)").all_inner_texts()
    assert sum(map(int, sums)) == PHOTOS


def test_a_project_is_alive_while_it_is_worked_on(page: Page) -> None:
    project = outside("live", [1, 2, 3, 4], stages=("first", "second"))
    open_at(page, "projects/live")
    rows = page.locator(".funnel tbody tr")
    expect(rows.nth(0).locator("td.number").first).to_have_text("4")
    expect(page.locator(".hint").first).to_contain_text("dcengine worker")

    tasks = leased("live", "first", 3)
    expect(rows.nth(0).locator("td.number").nth(1)).to_have_text("3")
    current().call("complete", [Completion(token=task.token) for task in tasks])
    expect(rows.nth(1).locator("td.number").first).to_have_text("3")
    project.pause()
    expect(page.locator("h1")).to_contain_text("paused")
    rows.nth(1).get_by_role("button", name="Pause").click()
    expect(rows.nth(1)).to_contain_text("paused")


def test_the_last_picture_is_the_newest_one_at_once(page: Page) -> None:
    project = dcengine.Project("paintings")
    project.stage(png, name="paint")
    project.run()
    project.add([1], keys=["first"])
    open_at(page, "projects/paintings")
    expect(page.locator(".last figcaption")).to_contain_text("first")
    before = page.locator(".last img").get_attribute("src")

    project.add([7], keys=["second"])

    expect(page.locator(".last figcaption")).to_contain_text("second")
    expect(page.locator(".last img")).not_to_have_attribute("src", str(before))


# ---- making one, and filling it ------------------------------------------------------------


def test_a_project_is_described_in_a_form_and_what_is_wrong_is_said_beside_its_field(page: Page) -> None:
    open_at(page, "")
    page.get_by_role("button", name="New project").click()
    dialog = page.locator("dialog")
    make = dialog.get_by_role("button", name="Make it")
    stages = dialog.locator("fieldset")

    make.click()
    says_beside(dialog.get_by_label("Name").first, "needs a name")
    dialog.get_by_label("Name").first.fill("made/here")
    stages.nth(0).get_by_label("Name").fill("measure")
    dialog.get_by_role("button", name="Another stage").click()
    stages.nth(1).get_by_label("Name").fill("look")
    make.click()
    says_beside(dialog.get_by_label("Name").first, "the project's name")
    dialog.get_by_label("Name").first.fill("made here")
    stages.nth(1).get_by_label("Tags").fill("gpu &")
    make.click()
    says_beside(stages.nth(1).get_by_label("Tags"), "tag expression")
    stages.nth(1).get_by_label("Tags").fill("site==lab")
    stages.nth(1).get_by_label("Retries").fill("100000")
    make.click()
    says_beside(stages.nth(1).get_by_label("Retries"), "retries cannot be 100000")
    stages.nth(1).get_by_label("Retries").fill("2")
    stages.nth(0).get_by_label("Done by").select_option("function")
    stages.nth(0).get_by_label("Function").fill("math")
    make.click()
    says_beside(stages.nth(0).get_by_label("Function"), "module:name")
    stages.nth(0).get_by_label("Function").fill("math:sqrt")
    make.click()

    expect(page.locator("h1")).to_contain_text("made here")
    expect(page.locator(".funnel tbody th strong")).to_have_text(["measure", "look"])
    expect(page.locator(".hint").first).to_contain_text("no jobs yet")
    project = current().call("project", "made here")
    assert [(stage.kind, stage.tags) for stage in project.stages] == [("function", ""), ("lease", "site==lab")]
    add_by_hand(page, "16\n25")
    page.locator(".head").get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".funnel tbody tr").nth(1).locator("td.number").first).to_have_text("2")
    tasks = leased("made here", "look", 5, tags={"site": "lab"})
    assert sorted(json.loads(bytes(task.input)) for task in tasks) == [4.0, 5.0]


def test_a_press_counts_though_the_dialog_has_more_to_say_while_it_lasts(page: Page) -> None:
    open_at(page, "")
    page.get_by_role("button", name="New project").click()
    dialog = page.locator("dialog")
    dialog.get_by_label("Name").first.fill("pressed")
    dialog.locator("fieldset").get_by_label("Name").fill("look")
    tags = dialog.locator("fieldset").get_by_label("Tags")
    tags.fill("gpu &")

    dialog.get_by_role("button", name="Make it").hover()
    with page.expect_response("**/v1/explain*"):
        page.mouse.down()
    page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    page.mouse.up()

    says_beside(tags, "tag expression")
    expect(dialog.locator("fieldset [role=status]")).to_contain_text("tag expression")


def says_beside(input: Locator, text: str) -> None:
    expect(input).to_have_attribute("aria-invalid", "true")
    expect(input.locator("xpath=ancestor::div[contains(@class, 'field')][1]").locator(".beside")).to_contain_text(text)


def add_by_hand(page: Page, lines: str) -> None:
    page.get_by_role("button", name="Add jobs").click()
    page.get_by_label("Items, one in a line").fill(lines)
    page.locator("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("dialog")).to_have_count(0)


def test_stages_are_put_in_order_and_taken_away(page: Page) -> None:
    open_at(page, "")
    page.get_by_role("button", name="New project").click()
    dialog = page.locator("dialog")
    stages = dialog.locator("fieldset")
    dialog.get_by_label("Name").first.fill("ordered")
    for n, name in enumerate(("c", "b", "a")):
        if n:
            dialog.get_by_role("button", name="Another stage").click()
        stages.nth(n).get_by_label("Name").fill(name)
    stages.nth(2).get_by_role("button", name="Up").click()
    stages.nth(1).get_by_role("button", name="Up").click()
    stages.nth(2).get_by_role("button", name="Remove").click()
    dialog.get_by_role("button", name="Make it").click()

    expect(page.locator(".funnel tbody th strong")).to_have_text(["a", "c"])


def test_a_pattern_says_how_many_and_which_before_it_is_used(page: Page) -> None:
    outside("tars", [])
    open_at(page, "projects/tars")
    page.get_by_role("button", name="Add jobs").click()
    dialog = page.locator("dialog")
    dialog.get_by_label("By a pattern").check()
    pattern = dialog.get_by_label("Pattern", exact=True)
    pattern.fill("https://host/{0001..0100}.jpg")
    expect(dialog.get_by_role("status").last).to_contain_text("100 jobs")
    expect(dialog.locator("pre")).to_contain_text("https://host/0001.jpg")
    pattern.fill("https://host/{0001..0100.jpg")
    says_beside(pattern, "brace")
    pattern.fill("https://host/{1..25}.jpg")
    expect(dialog.get_by_role("status").last).to_contain_text("25 jobs")
    dialog.get_by_role("button", name="Add", exact=True).click()

    expect(page.locator("main")).to_contain_text("0 of 25 jobs ended")
    assert bytes(leased("tars", "look")[0].input) == b'"https://host/1.jpg"'


@pytest.mark.parametrize(
    ("name", "text", "items"),
    [
        ("some.jsonl", '{"id": 1}\n\n[2, "x"]\r\n"three"\n', [{"id": 1}, [2, "x"], "three"]),
        (
            "some.csv",
            'id,"what, it"\r\n1,"a ""b""\nc"\n2,\n',
            [{"id": "1", "what, it": 'a "b"\nc'}, {"id": "2", "what, it": ""}],
        ),
        ("some.txt", "one\n\n{two}\n", ["one", "{two}"]),
        ("some.json", '[1, {"a": null}]', [1, {"a": None}]),
    ],
)
def test_a_file_of_lines_is_read_as_what_its_name_says(page: Page, name: str, text: str, items: list[Any]) -> None:
    project = outside(f"from {name}", [])
    open_at(page, f"projects/{project.name}".replace(" ", "%20"))
    add_file(page, {"name": name, "mimeType": "text/plain", "buffer": text.encode()})

    expect(page.locator("dialog")).to_have_count(0)
    assert [json.loads(bytes(task.input)) for task in leased(project.name, "look", 100)] == items


def add_file(page: Page, file: FilePayload | Path, key: str = "") -> None:
    page.get_by_role("button", name="Add jobs").click()
    dialog = page.locator("dialog")
    dialog.get_by_label("From a file").check()
    dialog.get_by_label("File", exact=True).set_input_files(file)
    dialog.get_by_label("Key").fill(key)
    dialog.get_by_role("button", name="Add", exact=True).click()


def test_a_line_that_is_wrong_is_named_and_known_keys_are_not_added_again(page: Page) -> None:
    project = outside("keyed", [])
    open_at(page, "projects/keyed")
    add_file(page, {"name": "bad.jsonl", "mimeType": "", "buffer": b'{"id": 1}\nnope\n'})
    says_beside(page.get_by_label("File", exact=True), "line 2 is no JSON")
    page.keyboard.press("Escape")
    lines = b"".join(b'{"id": %d}\n' % n for n in range(50))
    add_file(page, {"name": "good.jsonl", "mimeType": "", "buffer": lines}, key="id")
    expect(page.get_by_text("50 jobs added")).to_be_visible()
    add_file(page, {"name": "good.jsonl", "mimeType": "", "buffer": lines + b'{"id": "new"}\n'}, key="id")

    expect(page.get_by_text("1 job added; 50 were there already")).to_be_visible()
    assert project.status().total == 51


def test_a_hundred_thousand_lines_are_added_while_the_page_stays_quick(page: Page, tmp_path: Path) -> None:
    project = outside("many", [])
    file = tmp_path / "many.csv"
    file.write_text("id,url\n" + "".join(f"{n},https://host/{n:06}.jpg\n" for n in range(100_000)))
    open_at(page, "projects/many")
    page.evaluate(
        "window.longest = 0; new PerformanceObserver(list => { for (const task of list.getEntries())"
        " window.longest = Math.max(window.longest, task.duration) }).observe({type: 'longtask'})"
    )
    add_file(page, file)

    expect(page.locator("dialog").get_by_role("status").last).to_contain_text("items sent")
    expect(page.locator("dialog")).to_have_count(0, timeout=120_000)
    expect(page.locator("main")).to_contain_text("0 of 100,000 jobs ended")
    assert project.status().open == 100_000
    assert page.evaluate("window.longest") < 400
    assert json.loads(bytes(leased("many", "look")[0].input)) == {"id": "0", "url": "https://host/000000.jpg"}


def test_pages_of_a_file_are_parts_of_one_job_where_a_gather_waits_for_them(page: Page) -> None:
    project = dcengine.Project("sums")
    project.stage(lambda text: int(text), name="read")
    project.gather(sum, name="sum")
    project.run()
    open_at(page, "projects/sums")
    add_file(page, {"name": "n.txt", "mimeType": "", "buffer": b"".join(b"%d\n" % n for n in range(4500))})
    expect(page.locator("dialog")).to_have_count(0)

    eventually(lambda: project.status().open == 0, 60)
    assert [output.data for output in current().call("newest_outputs", "sums", stage="sum")] == [
        dcengine.codec.dumps(sum(range(4500)))
    ]


def test_files_that_are_dropped_become_jobs_whose_workers_get_their_bytes(
    page: Page, engine: dict[str, Any], tmp_path: Path
) -> None:
    project = dcengine.Project("drops")
    project.stage(len, name="weigh")
    project.run()
    open_at(page, "projects/drops")
    files = {
        "a.png": png(3),
        "große datei.bin": bytes(range(256)) * 4000,
        "empty.txt": b"",
        "p.pkl": b"cos\nsystem\n(S'touch hurt'\ntR.",
    }
    drop(page, files)
    dialog = page.locator("dialog")
    expect(dialog).to_contain_text("4 files")
    expect(dialog).to_contain_text("1.0 GiB each, at most")
    dialog.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("4 jobs added")).to_be_visible()
    eventually(lambda: project.status().done == 4)

    jobs = {job.key: job for job in current().call("jobs", project="drops")}
    assert {key: job.state for key, job in jobs.items()} == dict.fromkeys(files, "succeeded")
    assert {key: dcengine.job(job.id).result() for key, job in jobs.items()} == {
        key: len(data) for key, data in files.items()
    }
    drop(page, {"a.png": png(3)})
    page.locator("dialog").get_by_role("button", name="Upload").click()
    expect(page.get_by_text("0 jobs added; 1 were there already")).to_be_visible()
    open_at(page, f"jobs/{jobs['a.png'].id}")
    expect(page.locator(".episode img.picture")).to_be_visible()
    with page.expect_download() as download:
        page.locator(".episode").get_by_role("button", name="Save").click()
    assert download.value.path().read_bytes() == png(3)


def drop(page: Page, files: dict[str, bytes]) -> None:
    """Drop *files* on the page of a project."""
    page.locator(".drop").evaluate(
        """(element, files) => {
            const data = new DataTransfer();
            for (const [name, bytes] of Object.entries(files)) {
                data.items.add(new File([Uint8Array.from(atob(bytes), letter => letter.charCodeAt(0))], name));
            }
            for (const kind of ["dragover", "drop"]) {
                element.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
            }
        }""",
        {name: base64.b64encode(data).decode() for name, data in files.items()},
    )


def test_an_outside_worker_is_told_of_a_file_and_may_have_its_bytes(page: Page, engine: dict[str, Any]) -> None:
    outside("gifts", [])
    open_at(page, "projects/gifts")
    page.get_by_role("button", name="Add jobs").click()
    page.get_by_label("Upload files").check()
    page.get_by_label("Files", exact=True).set_input_files(
        {"name": "gift.png", "mimeType": "image/png", "buffer": png(5)}
    )
    page.locator("dialog").get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("1 job added")).to_be_visible()

    item = json.loads(bytes(leased("gifts", "look")[0].input))
    assert (item["name"], item["media"], item["size"]) == ("gift.png", "image/png", len(png(5)))
    base = str(engine["url"]).partition("?")[0]
    question = urllib.request.Request(
        f"{base}v1/values/{item['value']}/bytes", headers={"Authorization": f"Bearer {engine['token']}"}
    )
    with urllib.request.urlopen(question) as answer:
        assert answer.read() == png(5)


# ---- jobs ----------------------------------------------------------------------------------


def test_jobs_are_found_and_their_pages_go_forth_and_back_with_the_address(page: Page) -> None:
    outside("paged", [{"n": n} for n in range(120)])
    open_at(page, "jobs")
    page.get_by_label("Project", exact=True).fill("paged")
    page.get_by_role("button", name="Find").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("paged/120")
    page.get_by_role("button", name="Older").click()
    expect(rows.first).to_contain_text("paged/70")
    page.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(20)
    expect(page.get_by_role("button", name="Older")).to_be_hidden()
    sent = page.url

    page.get_by_role("button", name="Newer").click()
    expect(rows.first).to_contain_text("paged/70")
    page.go_back()
    expect(rows.first).to_contain_text("paged/20")
    open_at(page, "settings")
    page.goto(sent)
    expect(rows.first).to_contain_text("paged/20")
    expect(page.get_by_label("Project", exact=True)).to_have_value("paged")
    page.get_by_role("button", name="Newer").click()
    expect(rows.first).to_contain_text("paged/70")
    page.get_by_role("button", name="Newer").click()
    expect(rows.first).to_contain_text("paged/120")
    leased("paged", "look", 1)
    expect(page.locator("tbody tr", has_text="running")).to_have_count(0)  # the oldest is on another page
    for name, value, count in (
        ("Text, key or number", "photo-7", 1),
        ("Stage", "measure", 2),
        ("Brought by", "nobody@there", 0),
    ):
        open_at(page, "jobs")
        page.get_by_label(name).fill(value)
        page.get_by_role("button", name="Find").click()
        expect(rows).to_have_count(count)
    expect(page.locator(".empty").first).to_contain_text("No job is like that")


def test_several_jobs_are_chosen_by_keyboard_and_acted_on(page: Page) -> None:
    project = outside("chosen", [{"n": n} for n in range(6)])
    open_at(page, "jobs?project=chosen")
    boxes = page.locator("tbody input[type=checkbox]")
    expect(boxes).to_have_count(6)
    boxes.first.focus()
    boxes.first.press("Space")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowDown")
    bar = page.get_by_role("group", name="Chosen jobs")
    expect(bar).to_contain_text("3 jobs chosen")
    expect(bar.get_by_role("button", name="Requeue")).to_be_disabled()

    bar.get_by_role("button", name="Priority").click()
    page.locator("dialog").get_by_label("Priority").fill("2000000")
    page.locator("dialog").get_by_role("button", name="Set it").click()
    expect(page.locator("dialog").locator(".beside")).to_be_visible()
    page.locator("dialog").get_by_label("Priority").fill("5")
    page.locator("dialog").get_by_role("button", name="Set it").click()
    expect(page.get_by_text("3 jobs changed")).to_be_visible()
    assert [job.priority for job in current().call("jobs", project="chosen")] == [5, 5, 5, 0, 0, 0]
    bar.get_by_role("button", name="Cancel").click()
    page.locator("dialog").get_by_role("button", name="Cancel 3 jobs").click()
    expect(page.locator("tbody tr", has_text="cancelled")).to_have_count(3)
    assert project.status().cancelled == 3
    page.get_by_label("All of this page").check()
    expect(bar).to_contain_text("6 jobs chosen")
    bar.get_by_role("button", name="Requeue").click()
    expect(page.locator("tbody tr", has_text="cancelled")).to_have_count(0)
    expect(bar).to_be_hidden()
    assert project.status().open == 6
    fits(page)


def test_what_is_chosen_stays_chosen_while_the_list_moves(page: Page) -> None:
    project = outside("moving", [1, 2])
    open_at(page, "jobs?project=moving")
    box = page.locator("tbody tr", has_text="moving/2").get_by_role("checkbox")
    box.check()

    project.add([3])

    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("tbody tr", has_text="moving/2").get_by_role("checkbox")).to_be_checked()
    expect(page.locator("tbody tr", has_text="moving/3").get_by_role("checkbox")).not_to_be_checked()


# ---- a job ---------------------------------------------------------------------------------


def test_a_job_shows_its_whole_past_and_what_it_printed_as_it_was_printed(page: Page) -> None:
    open_at(page, "jobs/1")

    printed = page.locator(".said .line")
    expect(printed).to_have_count(2)
    expect(printed.nth(0).locator(".front-2")).to_have_text("fetched")
    assert colour(printed.nth(0).get_by_text("orange")) == "rgb(255, 135, 0)"
    assert colour(printed.nth(0).get_by_text("violet")) == "rgb(120, 80, 255)"
    expect(printed.nth(1)).to_have_text("100 %")
    episodes = page.locator(".episode")
    expect(episodes).to_have_count(3)
    expect(episodes.nth(0)).to_contain_text(" in 0.")
    expect(episodes.nth(0)).to_contain_text("on w")
    expect(episodes.nth(1).locator("th")).to_have_text(["photo", "part", "said"])
    expect(episodes.nth(1).locator("tbody tr")).to_have_count(3)
    expect(episodes.nth(2).locator("img.picture")).to_be_visible()
    expect(page.locator("dd", has_text="photo-0")).to_be_visible()
    fits(page)


def colour(element: Locator) -> str:
    return str(element.evaluate("element => getComputedStyle(element).color"))


def test_a_failed_job_shows_its_tries_with_reasons_and_the_traceback(page: Page) -> None:
    failed = next(job for job in current().call("jobs", project="photos", state="failed"))
    open_at(page, f"jobs/{failed.id}")

    tries = page.locator(".tries li")
    expect(tries).to_have_count(2)
    expect(tries.first).to_contain_text("try 1 erred on w")
    expect(tries.first).to_contain_text("ValueError: photo 10 is too dark")
    page.get_by_text("Traceback", exact=True).click()
    expect(page.locator(".episode pre", has_text="in measure")).to_be_visible()
    page.evaluate("document.querySelector('.episode').open = false")
    current().call("retry", [failed.id])
    expect(tries).not_to_have_count(2)  # news have come; what was folded stays folded
    expect(page.locator(".episode").first).not_to_have_attribute("open", "")


def test_a_job_that_cannot_run_says_why_and_then_goes_on_before_ones_eyes(page: Page, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    job = dcengine.submit(talk, str(gate), tags="gpu")
    open_at(page, f"jobs/{job.id}")
    expect(page.locator(".warning")).to_contain_text("Why it does not run")
    expect(page.locator(".warning")).to_contain_text("gpu")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("dd", has_text="1").last).to_be_visible()
    current().call("cancel", job.id)
    expect(page.locator("h1")).to_contain_text("cancelled")

    runs = dcengine.submit(talk, str(gate))
    open_at(page, f"jobs/{runs.id}")
    expect(page.locator(".said")).to_contain_text("first")
    picture = page.locator(".said img")
    expect(picture).to_have_count(1)  # the second in place of the first
    assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 90
    expect(page.locator(".bar").first).to_have_attribute("aria-label", "50 % · half")
    expect(page.locator(".said")).not_to_contain_text("second")
    gate.touch()
    expect(page.locator(".said")).to_contain_text("second")
    expect(page.locator("h1")).to_contain_text("succeeded")


def talk(gate: str) -> None:
    import os
    import time

    print("first")
    display("display", {"data": {"image/png": base64.b64encode(png(1)).decode()}, "transient": {"display_id": "p"}})
    display("update", {"data": {"image/png": base64.b64encode(png(2, 90)).decode()}, "transient": {"display_id": "p"}})
    dcengine.progress(1, 2, "half")
    while not os.path.exists(gate):
        time.sleep(0.02)
    print("second")


def display(kind: str, content: dict[str, Any]) -> None:
    """Show something as a notebook's cell does."""
    from dcengine.runner import live

    channel = live.current()
    assert channel is not None
    channel.show(kind, json.dumps(content).encode())


def test_parents_and_children_are_linked(page: Page) -> None:
    project = dcengine.Project("family")
    project.expand(range, name="split")
    project.stage(abs, name="each")
    project.gather(sum, name="sum")
    project.run()
    project.add([3])
    eventually(lambda: project.status().open == 0)
    root = min(job.id for job in current().call("jobs", project="family"))
    open_at(page, f"jobs/{root}")
    expect(page.locator(".episode").first).to_contain_text("Its parts")

    page.locator("p", has_text="Its parts").first.get_by_role("link", name="2", exact=True).click()
    expect(page.locator("h1")).to_contain_text("family, job 2")
    page.locator("dd").get_by_role("link", name=f"#{root}").click()
    expect(page.locator("h1")).to_contain_text("family, job 1")


# ---- nothing does harm, and nothing is lost ------------------------------------------------


def test_nothing_that_anybody_says_is_read_as_html(page: Page) -> None:
    name = f"bad {HOSTILE[:40]}".replace("/", "").replace("{", "").replace("}", "")
    project = dcengine.Project(name)
    project.stage(shout, name="<b>stage")
    project.add([HOSTILE], keys=[HOSTILE])
    project.run()
    outside("bad items", [{HOSTILE: HOSTILE}, [{HOSTILE: HOSTILE}]])
    leased("bad items", "look", 1, nickname=HOSTILE[:90])
    eventually(lambda: project.status().done == 1)
    job = current().call("jobs", project=name)[0]
    other = current().call("jobs", project="bad items")[0]
    views = (
        "",
        f"projects/{quoted(name)}",
        "jobs",
        f"jobs?text={quoted(HOSTILE)}",
        f"jobs/{job.id}",
        f"jobs/{other.id}",
        "projects/bad%20items",
    )
    for view in views:
        open_at(page, view)
        expect(page.locator("main")).to_contain_text("img src=x" if view != "projects/bad%20items" else "bad items")
        assert page.evaluate("window.hurt") is None, view
        assert page.locator("main script, main img[src='x'], main b").count() == 0, view
    open_at(page, f"jobs/{job.id}")
    expect(page.locator(".said")).to_contain_text("img src=x")


def quoted(text: str) -> str:
    return quote(text, safe="")


def shout(text: str) -> None:
    print(text)
    print(f"\x1b]8;;javascript:window.hurt=1\x07link\x1b]8;;\x07 \x1b]0;{text}\x07")
    raise ValueError(text)


def test_what_is_empty_says_what_to_do_first(page: Page) -> None:
    outside("fresh", [])
    open_at(page, "projects/fresh")
    expect(page.locator(".hint").first).to_contain_text("no jobs yet")
    expect(page.locator(".empty").first).to_contain_text("Nothing has come through yet")
    expect(page.locator(".chart").first).to_contain_text("none so far")
    open_at(page, "jobs?project=fresh")
    expect(page.locator(".empty").first).to_contain_text("No job is like that")


# ---- what cannot be undone -----------------------------------------------------------------


def test_what_cannot_be_undone_is_asked_once(page: Page) -> None:
    outside("short-lived", [1, 2])
    open_at(page, "projects/short-lived")
    page.get_by_role("button", name="Cancel open jobs").click()
    expect(page.locator("dialog")).to_contain_text("Cancel 2 open jobs of short-lived?")
    page.locator("dialog").get_by_role("button", name="Cancel", exact=False).last.click()
    expect(page.locator("main")).to_contain_text("2 of 2 jobs ended")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Leave it").click()
    assert "short-lived" in [project.name for project in current().call("projects")]
    page.get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("h1")).to_have_text("Projects")
    assert "short-lived" not in [project.name for project in current().call("projects")]


# ---- when the engine goes ------------------------------------------------------------------


def test_a_project_and_a_job_go_on_being_shown_by_the_next_engine(
    browser: BrowserContext, engine: dict[str, Any], tmp_path: Path
) -> None:
    db, gate = tmp_path / "work.db", tmp_path / "go"
    with served(db, workers=1) as told:
        port = str(told["url"]).split(":")[2].partition("/")[0]
        job = dcengine.submit(talk, str(gate))
        outside("lasting", [1, 2])
        project, one = browser.new_page(), browser.new_page()
        project.goto(f"{told['url']}#/projects/lasting")
        one.goto(f"{told['url']}#/jobs/{job.id}")
        expect(one.locator(".said")).to_contain_text("first")
        expect(project.locator("#state")).to_have_text("live")
    gate.touch()
    with serving(db, "--port", port, workers=1) as (_, again):
        dcengine.connect(str(again["url"]))
        tasks = leased("lasting", "look", 2)
        current().call("complete", [Completion(token=task.token) for task in tasks])
        expect(project.locator("main")).to_contain_text("2 of 2 jobs ended", timeout=30_000)
        expect(one.locator("h1")).to_contain_text("succeeded", timeout=30_000)
        expect(one.locator(".said")).to_contain_text("second")
        dcengine.connect(None)
    project.close()
    one.close()
    dcengine.connect(str(engine["url"]))
