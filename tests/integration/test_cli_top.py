"""``dcengine top`` in a terminal: what somebody sees there, the keys they press, and what is left when they leave."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.verbs import Heartbeat, JobStatus, LeaseRequest, TokenSpec
from tests.engines import environment, eventually, served, serving
from tests.terminals import Terminal, terminal

pytestmark = pytest.mark.timeout(120)

ALTERNATE, USUAL = b"\x1b[?1049h", b"\x1b[?1049l"  #: what a terminal is told, to show a screen and to leave it
KEYS = "q leave"
HOSTILE = "\x1b[31mred\u202e\nrow"


def ask(verb: str, *arguments: object, **options: object) -> object:
    return dcengine.api.current().call(verb, *arguments, **options)


def look(item: int) -> int:
    if item == 9:
        raise ValueError(HOSTILE)
    return item


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine with a project that is done but for what a volunteer holds, one that is paused, and a long call."""
    with served(tmp_path_factory.mktemp("top") / "work.db", "--no-kernels", workers=2) as told:
        photos = dcengine.Project("photos")
        photos.stage(look)
        photos.add(list(range(10)))
        photos.run()
        photos.wait()
        crawl = dcengine.Project("crawl")
        crawl.lease_stage("see")
        crawl.add(["a", "b", "c"])
        crawl.run()
        (task,) = ask("lease", LeaseRequest(project="crawl", stage="see", worker="gpu box", nickname="alice"))  # type: ignore[misc]
        ask("heartbeat", [Heartbeat(token=task.token, done=1, total=4, text=HOSTILE)])
        waiting = dcengine.Project("waiting")
        waiting.stage(look)
        waiting.add([1])
        yield str(told["url"])


def choose_first(shown: Terminal, job: int) -> None:
    """Choose *job*, the first of those that run."""
    shown.shows(KEYS, f"{job}  ")
    shown.press("k" * 10)
    shown.shows(f"›   {job}")


@pytest.fixture
def long_call(engine: str) -> Iterator[int]:
    """A call that runs for long."""
    job = dcengine.submit(time.sleep, 3600)
    eventually(lambda: job.status().task_state == "leased")
    yield job.id
    if not job.status().is_final:
        job.cancel()


def state_of(job: int) -> str:
    status = ask("job", job)
    assert isinstance(status, JobStatus)
    return status.state


def test_it_shows_projects_workers_and_jobs_and_leaves_the_terminal_as_it_was(engine: str, long_call: int) -> None:
    command = f"{shlex.quote(sys.executable)} -m dcengine top --url {shlex.quote(engine)}"
    shown = Terminal(program=["/bin/sh", "-c", f"stty -a; {command}; echo left with $?; stty -a"])
    try:
        text = shown.shows("photos", "10 of 10", "crawl", "0 of 3", "waiting (paused)", str(long_call), "gpu box", KEYS)
        assert "w1" in text
        assert "1 of 1" in text  # busy
        assert "█" in text
        assert "25% " in text  # said by the volunteer, of the job that it holds
        assert "sleep" in text
        shown.press("q")
        left = shown.shows("left with 0")
    finally:
        shown.close()

    assert shown.raw.count(ALTERNATE) == shown.raw.count(USUAL) == 1
    before, after = shown.raw.split(ALTERNATE)[0], shown.raw.split(b"left with 0")[1]
    assert before.split(b"speed")[-1].split() == after.split(b"speed")[-1].split()
    assert b"icanon" in after
    assert b"-icanon" not in after
    assert "photos" not in left


def test_a_project_that_runs_has_a_rate_and_says_how_long_it_will_take(engine: str) -> None:
    project = dcengine.Project("rolling")
    project.stage(slowly)
    project.add(list(range(400)))
    project.run()
    with terminal("top", "--url", engine, "--every", "0.2") as shown:
        shown.shows("rolling", "/s")
        line = eventually(
            lambda: next((each for each in shown.lines if each.startswith("rolling") and " s" in each), "")
        )
        assert "█" in str(line)
        assert "░" in str(line)
    ask("delete_project", "rolling")


def slowly(item: int) -> int:
    time.sleep(0.05)
    return item


def test_arrows_choose_a_job_and_tab_another_list(engine: str, long_call: int) -> None:
    with terminal("top", "--url", engine) as shown:
        choose_first(shown, long_call)
        shown.press("\x1b[B")
        shown.shows("›   crawl/1")
        shown.press("\x1bOA\x1b[A")  # as terminals send it in either mode; above the first there is none
        shown.shows(f"›   {long_call}")
        shown.press("\t")
        shown.shows("›   photos/10", "ValueError")
        shown.press("\t")
        shown.shows("waiting/1", "crawl/3", "queued")
        shown.press("\t")
        shown.shows(f"›   {long_call}")


def test_cancel_is_asked_once_and_done_after_yes(engine: str, long_call: int) -> None:
    with terminal("top", "--url", engine) as shown:
        choose_first(shown, long_call)
        shown.press("c")
        shown.shows(f"Cancel job {long_call}? y/n")
        shown.press("n")
        shown.shows(KEYS)
        assert state_of(long_call) == "open"
        shown.press("c")
        shown.shows("y/n")
        shown.press("y")
        shown.shows(f"job {long_call} is cancelled")
    assert state_of(long_call) == "cancelled"


def test_failed_jobs_are_queued_again_and_projects_paused_and_run(engine: str) -> None:
    with terminal("top", "--url", engine) as shown:
        shown.shows(KEYS)
        shown.press("\t")
        shown.shows("›   photos/10")
        shown.press("p")
        shown.shows("photos is paused", "photos (paused)")
        shown.press("r")
        shown.shows("1 job(s) queued again", "9 of 10")
        shown.press("\t")
        shown.shows("photos/10")
        shown.press("j" * 10)  # to the last, which it is
        shown.shows("›   photos/10")
        shown.press("p")
        shown.shows("photos runs", "10 of 10")


def test_what_cannot_be_done_is_said_in_words(engine: str, long_call: int) -> None:
    with terminal("top", "--url", engine) as shown:
        choose_first(shown, long_call)
        shown.press("p")
        shown.shows("calls without a project cannot be paused")
        shown.press("x")
        shown.shows(KEYS)


def test_whoever_may_only_look_is_told_so(engine: str, long_call: int) -> None:
    token = ask("create_token", TokenSpec(role="view")).token  # type: ignore[attr-defined]
    with terminal("top", "--url", engine.partition("?")[0], "--token", token) as shown:
        choose_first(shown, long_call)
        shown.press("cy")
        shown.shows("token")
        assert "view" in shown.lines[-1]
        shown.press("\t")
        shown.shows("photos/10")
    assert state_of(long_call) == "open"


def test_hostile_texts_are_spelt_out(engine: str) -> None:
    with terminal("top", "--url", engine) as shown:
        shown.shows("\\x1b[31mred\\u202e row")
        shown.press("\t")
        shown.shows("ValueError: \\x1b[31mred\\u202e")
        shown.press("q")
        shown.ended()

    assert b"\x1b[31mred" not in shown.raw
    assert "\u202e".encode() not in shown.raw


@pytest.mark.parametrize(("columns", "lines"), [(120, 40), (80, 24), (60, 18), (40, 12), (20, 5)])
def test_in_whatever_room_there_is_the_last_line_is_seen(engine: str, columns: int, lines: int) -> None:
    with terminal("top", "--url", engine, columns=columns, lines=lines) as shown:
        shown.shows("dcengine", "↑↓")
        assert len(shown.lines) == lines
        assert "↑↓" in "".join(shown.lines[-max(1, lines // 3) :])
        if lines >= 18:
            shown.shows("crawl", "crawl/1")
        shown.resize(100, 30)
        shown.shows("photos", "gpu box", KEYS)
        assert shown.lines[29].startswith("↑↓")


@pytest.mark.parametrize("how", ["interrupted", "terminated"])
def test_a_signal_leaves_the_terminal_as_it_was(engine: str, how: str) -> None:
    with terminal("top", "--url", engine) as shown:
        shown.shows(KEYS)
        if how == "interrupted":
            shown.press("\x03")
        else:
            os.kill(shown.child.pid, signal.SIGTERM)
        status = shown.ended()

    assert status == (0 if how == "interrupted" else 128 + signal.SIGTERM)
    assert shown.raw.count(ALTERNATE) == shown.raw.count(USUAL) == 1
    assert b"Traceback" not in shown.raw


def once(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dcengine", "top", *arguments]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_where_there_is_no_terminal_it_is_printed_once(engine: str, long_call: int) -> None:
    for flags in ((), ("--once",)):
        done = once("--url", engine, *flags)
        assert (done.returncode, done.stderr) == (0, "")
        for text in ("photos", "10 of 10", "crawl", "gpu box", str(long_call)):
            assert text in done.stdout
        assert "\x1b" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 120
    with terminal("top", "--url", engine, "--once") as shown:
        assert shown.ended() == 0
    assert ALTERNATE not in shown.raw


def test_an_engine_that_cannot_be_asked_is_a_sentence_on_the_usual_screen(engine: str) -> None:
    for arguments in (("--url", "http://127.0.0.1:9"), ("--url", engine.partition("?")[0], "--token", "wrong")):
        with terminal("top", *arguments) as shown:
            assert shown.ended() == 1
        assert ALTERNATE not in shown.raw
        assert b"Traceback" not in shown.raw


def test_it_goes_on_with_the_engine_that_is_started_anew(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with serving(db, "--no-kernels", "--threads", workers=0) as (process, told):
        url, token = str(told["url"]).split("/?token=")
        port = url.rpartition(":")[2]
        client = once("--url", f"{url}/?token={token}")
        assert client.returncode == 0
        made = subprocess.run(
            [sys.executable, "-m", "dcengine", "token", "create", "--role", "view", "--url", f"{url}/?token={token}"],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        with terminal("top", "--url", url, "--token", made.stdout.strip(), "--every", "0.2") as shown:
            shown.shows("no projects yet", KEYS)
            process.kill()
            process.wait()
            shown.shows("what is shown is old", "no projects yet")
            shown.press("\t")  # keys are heard meanwhile
            shown.shows("...")
            with serving(db, "--no-kernels", "--threads", "--port", port, workers=0):
                shown.shows(KEYS, "none")
                assert "what is shown is old" not in shown.text
                shown.press("q")
                assert shown.ended() == 0
