"""The pictures of the dashboard in the README and docs/, taken of an engine at work; `make screenshots` keeps them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, expect

from tests.dashboards import open_at, watched
from tests.pages import CHROMIUM, chromium, take_picture
from tests.showcase import showcase

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
    pytest.mark.timeout(240),
]
KEPT = os.environ.get("DCENGINE_PICTURES")  #: the folder of the pictures, where they are to be kept
LARGEST = 150_000  #: bytes
DESK, PHONE = (1280, 800), (390, 844)
PICTURES = {
    "projects-light": ("", "light", DESK),
    "projects-dark": ("", "dark", DESK),
    "project-light": ("projects/herbarium", "light", DESK),
    "project-dark": ("projects/herbarium", "dark", DESK),
    "job-light": ("jobs/{training}", "light", DESK),
    "job-dark": ("jobs/{training}", "dark", DESK),
    "workers-light": ("workers", "light", DESK),
    "phone": ("projects/old-maps", "dark", PHONE),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        yield context


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with showcase(tmp_path_factory.mktemp("dashboard")) as told:
        yield told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = Path(KEPT) if KEPT else tmp_path_factory.mktemp("pictures")
    found.mkdir(parents=True, exist_ok=True)
    return found


def test_every_picture_shows_a_page_without_a_fault(
    browser: BrowserContext, engine: dict[str, Any], folder: Path
) -> None:
    with watched(browser) as page:
        for name, (place, colours, (width, height)) in PICTURES.items():
            page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": height})
            open_at(page, engine, place.format(**engine))
            page.wait_for_timeout(600)  # pictures and charts come after the rest
            expect(page.locator(".trouble:visible, .note")).to_have_count(0)
            file = folder / f"{name}.png"
            take_picture(page, file)
            with Image.open(file) as picture:
                assert (picture.size, len(picture.getcolors() or []) > 20) == ((width, height), True), name
            assert file.stat().st_size < LARGEST, name


def test_every_picture_that_is_kept_is_one_that_is_taken() -> None:
    kept = Path(__file__).resolve().parents[2] / "docs/pictures"

    assert {file.name for file in kept.iterdir()} == {f"{name}.png" for name in PICTURES}
    assert [file.name for file in kept.iterdir() if file.stat().st_size >= LARGEST] == []
