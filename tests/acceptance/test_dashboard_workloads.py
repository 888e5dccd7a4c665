"""A scene that is dropped on the dashboard, and the movie that comes of it: real Chromium, workers and Blender."""

from __future__ import annotations

import base64
import http.client
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from dcengine.api import current
from dcengine.verbs import TokenSpec
from tests.dashboards import drawn, open_at, watched
from tests.engines import served
from tests.pages import CHROMIUM, chromium
from tests.scenes import needs_blender, needs_ffmpeg, pixels, probed, scene

pytestmark = [
    needs_blender,
    needs_ffmpeg,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(240),
]
DROP = """(page, {name, content}) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], name));
    for (const kind of ["dragover", "drop"]) {
        page.dispatchEvent(new DragEvent(kind, {dataTransfer: files, bubbles: true, cancelable: true}));
    }
}"""  #: what a browser does where somebody lets a file go
PATIENCE = 90_000  #: milliseconds for all frames and the movie


class Site(NamedTuple):
    """An engine, its pages, and a scene."""

    browser: BrowserContext
    told: dict[str, Any]
    cube: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("form")
    with chromium() as browser, served(folder / "work.db", workers=2) as told:
        yield Site(browser, told, scene(folder / "cube.blend", size=(160, 120)))


def drop(page: Page, name: str, content: bytes) -> None:
    """Let a file go over the page."""
    page.locator("main").evaluate(DROP, {"name": name, "content": base64.b64encode(content).decode()})


def saved(page: Page, button: str, folder: Path) -> Path:
    """Press *button*, and return the file that the browser saves."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).first.click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_scene_that_is_dropped_becomes_a_movie(site: Site, tmp_path: Path) -> None:
    with watched(site.browser) as page:
        open_at(page, site.told)
        page.get_by_role("link", name="Render a Blender scene…").click()
        drawn(page)
        drop(page, "cube.blend", site.cube.read_bytes())
        expect(page.get_by_label("Scene")).to_have_js_property("files.length", 1)
        page.get_by_label("Frames").fill("1-4")
        page.get_by_label("Fps").fill("8")
        page.keyboard.press("Enter")
        page.wait_for_url("**/#/projects/render-cube-*")
        expect(page.locator("img.picture, video").first).to_be_visible(timeout=PATIENCE)
        movie = page.locator("video")
        expect(movie).to_be_visible(timeout=PATIENCE)
        page.wait_for_function("document.querySelector('video').duration > 0")
        film = probed(saved(page, "Save", tmp_path))
        archive = zipfile.ZipFile(saved(page, "Save all of Render as zip", tmp_path))

        assert movie.evaluate("movie => [movie.duration, movie.videoWidth]") == [0.5, 160]
        assert (film["codec_name"], film["nb_read_frames"]) == ("h264", "4")
        assert archive.testzip() is None
        assert archive.namelist() == [f"frame 000{frame}.png" for frame in range(1, 5)]
        assert {pixels(archive.read(name))[:2] for name in archive.namelist()} == {(160, 120)}
        page.evaluate("document.querySelector('video').seen = true")
        page.wait_for_timeout(5500)  # the page asks again every five seconds
        assert page.evaluate("document.querySelector('video').seen")  # it plays on

        [frame] = current().call("jobs", project=page.url.rpartition("/")[2], state=None, limit=1)
        open_at(page, site.told, f"jobs/{frame.id}")
        expect(page.locator("img.picture").first).to_be_visible()


def test_what_is_wrong_stands_beside_its_field_and_nothing_is_left_behind(site: Site) -> None:
    before = {each.name for each in current().call("projects")}
    with watched(site.browser) as page:
        open_at(page, site.told, "workloads/render")
        start = page.get_by_role("button", name="Start")
        start.click()
        expect(page.locator(".field", has=page.get_by_label("Scene")).locator(".beside")).to_contain_text("first")
        drop(page, "words.blend", b"once upon a time")
        expect(page.locator(".beside")).to_have_count(0)
        start.click()
        beside = page.locator(".field", has=page.get_by_label("Scene")).locator(".beside")
        expect(beside).to_have_text("words.blend is no .blend file; save the scene with Blender and name that file")
        expect(page.get_by_label("Scene")).to_have_attribute("aria-invalid", "true")

        page.get_by_label("Scene").set_input_files(site.cube)
        for field, text, said in (
            ("Frames", "1-99", "1-24"),
            ("Fps", "fast", "a number"),
            ("Samples", "0", "least 1"),
            ("Tags", "(", "tag is missing"),
        ):
            page.get_by_label(field).fill(text)
            start.click()
            expect(page.locator(".field", has=page.get_by_label(field)).locator(".beside")).to_contain_text(said)
            expect(page.get_by_label(field)).to_be_focused()
            page.get_by_label(field).fill("")

    assert {each.name for each in current().call("projects")} == before
    assert not current().call("status").counts.get("queued", 0)


def test_a_token_that_may_only_look_sees_no_button_and_is_refused(site: Site) -> None:
    viewer = current().call("create_token", TokenSpec(role="view")).token
    with watched(site.browser) as page:
        open_at(page, site.told, token=viewer)
        expect(page.locator("main .card").first).to_be_visible()
        expect(page.get_by_role("link", name="Render a Blender scene")).to_have_count(0)
        open_at(page, site.told, "workloads/render", token=viewer)
        expect(page.locator("main")).to_contain_text("may look, and start nothing")
        expect(page.get_by_role("button", name="Start")).to_have_count(0)

    address = urlsplit(str(site.told["url"]))
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    connection.request("POST", "/v1/workloads/render", b"", {"Authorization": f"Bearer {viewer}"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (403, "AccessDenied")


def test_the_form_fits_a_phone(site: Site) -> None:
    with watched(site.browser) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        open_at(page, site.told, "workloads/render")

        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        heights = page.locator("form button, form input").evaluate_all("all => all.map(each => each.clientHeight)")
        assert all(height >= 17 for height in heights if height)
