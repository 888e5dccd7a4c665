"""The lessons after the quickstart, on the real kernel: what their pages show, and that nothing is left of them."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from dcengine.owner import find_owner
from tests.engines import environment, eventually, family, gone
from tests.scenes import needs_blender, needs_ffmpeg

LESSONS = Path(__file__).resolve().parents[2] / "notebooks/lessons.py"
ELSEWHERE = "http://127.0.0.1:9/?token=none"  #: an engine that the lessons are not to use
PATIENCE = 240.0  #: seconds all of them may take


class Run(NamedTuple):
    """One run of all lessons: their folder, what was printed, and whom they started."""

    folder: Path
    said: str
    family: list[psutil.Process]

    def page(self, number: str) -> str:
        """Return what the page of one lesson says, without its markup."""
        (file,) = (self.folder / "build").glob(f"{number}-*.html")
        return html.unescape(re.sub(r"<[^>]+>", "", file.read_text().partition("<body")[2]))


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("lessons")
    # Side by side, since they wait much of their time.
    running = [started(folder, "02", "03"), started(folder, "04", "05")]
    everybody: set[psutil.Process] = set()
    try:
        deadline = time.monotonic() + PATIENCE
        while any(process.poll() is None for process in running):
            assert time.monotonic() < deadline, f"the lessons took more than {PATIENCE:g} s"
            everybody.update(each for process in running for each in family(process.pid))
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            process.wait()
    said = "".join(file.read_text() for file in folder.glob("said-*"))
    assert [process.returncode for process in running] == [0, 0], said
    return Run(folder, said, list(everybody))


def started(folder: Path, *lessons: str) -> subprocess.Popen[bytes]:
    """Start *lessons* in *folder*; what is printed goes into a file there."""
    with (folder / f"said-{lessons[0]}").open("w") as said:
        command = [sys.executable, str(LESSONS), *lessons]
        env = environment(DCENGINE_URL=ELSEWHERE)
        return subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT)


def test_every_lesson_runs_and_none_has_outputs_in_the_repository(lessons: Run) -> None:
    files = sorted(LESSONS.parent.glob("*.ipynb"))

    assert [file.name[:2] for file in files] == ["01", "02", "03", "04", "05"]
    for file in files[1:]:
        assert re.search(rf"^{re.escape(file.name)} (ran in |is left out: it needs )", lessons.said, re.MULTILINE)
    assert all('"execution_count": null' in text and '"output_type"' not in text for text in map(Path.read_text, files))
    said = re.sub(
        r"Traceback.*?Address already in use[^\n]*\n", "", lessons.said, flags=re.DOTALL
    )  # it was tried again
    assert not re.search(r"WARNING|Traceback|InvalidLine", said + "".join(map(lessons.page, ("02", "03", "04"))))


def test_the_lesson_on_tags_shows_who_matches_and_what_the_others_lack(lessons: Run) -> None:
    page = lessons.page("02")

    assert "2 of 3 workers match" in page
    assert "lacks site==lab (it has site=attic)" in page
    assert "nearest: w3 (it has gpu.memory=8GiB)" in page
    assert "(512, 512)" in page  # the one that waited ran when the tags were there
    assert re.search(r"one:\s+0\ntwo:\s+0,1\n", page)
    assert "none has devices(gpu=3)" in page


def test_the_lesson_on_failures_ends_with_just_those_that_are_broken_for_good(lessons: Run) -> None:
    page = lessons.page("03")

    assert "'3,686 of 4,096 are there'" in page
    assert "Counter({'FileNotFoundError': 384, 'ValueError': 26})" in page
    assert "4,096 of 4,096, 26 failed" in page
    assert "\n16 dead pixels\n" in page
    assert "[0.0435, 0.0332, 0.0386]" in page  # a cell, once for each item
    assert "24 × ValueError: 32 dead pixels (items 333, 334, 335, 336, 337, …)" in page
    assert "ran longer than its time-out of 0.5 s" in page
    assert re.search(r"'3\.\d\d after [\d,]+ darts'", page)
    assert "1,000 of 1,000, 1,000 cancelled" in page
    assert "failed after 1 error" in page  # in the table of jobs


def test_the_lesson_on_attaching_finds_its_jobs_again_wherever_it_looks(lessons: Run) -> None:
    page = lessons.page("04")

    assert page.count("job 1 succeeded: a picture of (512, 512), contrast 0.28") == 2  # a script here, and over HTTP
    assert re.search(r"2 ?cell In\[1\] ?leased", page)  # a dead kernel's
    assert "40 41 42 43 44 45 46 47 48 49" in " ".join(page.split())  # run by two engines; said in pieces
    assert "[2209, 2304, 2401]" in page


def test_the_lessons_leave_nothing_running(lessons: Run) -> None:
    assert len(lessons.family) > 10
    eventually(lambda: gone(lessons.family))
    assert find_owner(lessons.folder / "build/attaching.db") is None
    assert not [each for each in psutil.process_iter() if _works_in(each, lessons.folder / "build")]


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.cwd() == str(folder)
    except psutil.Error:
        return False


@needs_blender
@needs_ffmpeg
def test_the_fifth_lesson_shows_the_movie_that_two_workers_have_rendered(lessons: Run) -> None:
    (page,) = (lessons.folder / "build").glob("05-*.html")

    assert re.search(r'<video[^>]*>\s*<source[^>]* src="data:video/mp4;base64,', page.read_text())
    assert "monkey.mp4" in lessons.page("05")
