"""``dcengine worker URL -- COMMAND``: real commands do the tasks of a real engine, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest
from typer.testing import CliRunner

import dcengine
from dcengine.cli import app
from dcengine.worker import AsyncWorker, idle
from dcengine.worker.commands import CommandLine
from dcengine.worker.errands import Rules
from dcengine.worker.idle import Watch
from dcengine.worker.workshop import Happening, Terms, Workshop
from tests.engines import embedded, end, environment, eventually, family, gone

names = (f"p{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("engine") / "x.db", workers=0, processes=False) as one:
        yield one


class Site:
    """A project of one lease stage, and workers for it."""

    def __init__(self, engine: dcengine.Engine, **options: Any) -> None:
        self.engine = engine
        self.project = dcengine.Project(next(names))
        self.project.lease_stage("a", **{"lease_seconds": 5, **options})
        self.added = 0
        self._started: list[subprocess.Popen[str]] = []

    def add(self, *items: object) -> None:
        self.added += len(items)
        self.project.add(items)
        self.project.run()

    def start(self, *arguments: str, more: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a worker; *arguments* are its options, --, and the command."""
        command = [sys.executable, "-m", "dcengine", "worker", self.engine.url, "--project", self.project.name]
        process = subprocess.Popen(
            [*command, "--stage", "a", "--nickname", "alice", *arguments],
            env=environment(DCENGINE_TOKEN=self.engine.token, **(more or {})),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def work(
        self, *command: str, watch: Watch | None = None, prefetch: int = 0, **rules_and_terms: Any
    ) -> list[Happening]:
        """Let a worker of this very process do all that was added; return what happened."""
        happened: list[Happening] = []
        rules = {name: rules_and_terms.pop(name) for name in Rules.__struct_fields__ if name in rules_and_terms}
        terms = Terms(**rules_and_terms)

        async def work() -> None:
            async with AsyncWorker(
                self.engine.url, project=self.project.name, stage="a", nickname="alice", token=self.engine.token,
                batch=terms.jobs, prefetch=prefetch, limit=self.added, wait=20,
            ) as worker:  # fmt: skip
                line = CommandLine(command)
                workshop = Workshop(worker, line, rules=Rules(**rules), terms=terms, tell=happened.append, watch=watch)
                await workshop.run()

        asyncio.run(asyncio.wait_for(work(), 60))
        return happened

    def outputs(self) -> list[Any]:
        return list(self.project.outputs("a").values())

    def reason(self) -> str:
        return str(self.project.failed()[0].reason)

    def progress(self) -> Any:
        """Return how far the first job is, once it has said something."""
        progress = dcengine.job(f"{self.project.name}/1").progress
        return progress if progress.done else None

    def end(self) -> None:
        for process in self._started:
            end(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        with contextlib.suppress(dcengine.errors.DcengineError):
            self.project.cancel()


@pytest.fixture
def site(engine: dcengine.Engine) -> Iterator[Site]:
    one = Site(engine)
    yield one
    one.end()


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def messages(happened: list[Happening]) -> list[str]:
    return [each.text for each in happened if each.event == "message"]


def ends(happened: list[Happening]) -> list[str]:
    return [each.event for each in happened if each.event in ("done", "failed", "flagged", "returned")]


# ---- input and output ----------------------------------------------------------------------


def test_a_shell_script_gets_the_input_on_stdin_and_its_stdout_is_the_output(site: Site) -> None:
    site.add("one", "two\nlines", {"url": "ä"}, [1, 2.50], None)

    happened = site.work("/bin/sh", "-c", "cat; echo read >&2")

    assert site.outputs() == ["one", "two\nlines", '{"url":"ä"}', "[1,2.5]", "null"]
    assert messages(happened) == ["read"] * 5
    assert [row.nickname for row in site.project.leaderboard()] == ["alice"]


def test_a_text_on_stdin_ends_with_a_newline_as_echo_writes_it(site: Site) -> None:
    site.add("two words", "ended\n")

    site.work("/bin/sh", "-c", 'while read -r line; do echo "<$line>"; done')

    assert site.outputs() == ["<two words>", "<ended>"]


def test_the_input_may_be_an_argument_and_no_shell_looks_at_it(site: Site) -> None:
    site.add("$(touch /tmp/never); 'ä' {job}", ["a", 1])

    site.work(*python("import sys; print(sys.argv[1:], repr(sys.stdin.read()))"), "in={input}", "{{{number}}}")

    assert site.outputs() == [
        """["in=$(touch /tmp/never); 'ä' {job}", '{1}'] \'\'""",
        """['in=["a",1]', '{2}'] ''""",
    ]


def test_files_hold_input_and_output_as_they_are(site: Site) -> None:
    site.add("no newline", "nothing written")
    program = """
import os, sys
text = open(sys.argv[1], newline="").read()
if "nothing" not in text:
    open(sys.argv[2], "w").write("<" + text + ">\\n")
print("stdout of", os.path.basename(sys.argv[1]))
"""

    site.work(*python(program), "{file}", "{output}")

    assert site.outputs() == ["<no newline>\n", "stdout of input"]


def test_what_is_not_text_comes_through_two_stages_as_the_same_bytes(engine: dcengine.Engine) -> None:
    site = Site(engine)
    every_byte = bytes(range(256))
    site.add("x")

    site.work(*python("import sys; sys.stdout.buffer.write(bytes(range(256)))"))
    (output,) = site.outputs()
    again = Site(engine)
    again.add(output)
    again.work(*python("import sys; print(open(sys.argv[1], 'rb').read().hex())"), "{file}")

    assert output.encode("utf-8", "surrogateescape") == every_byte
    assert again.outputs() == [every_byte.hex()]


def test_with_json_output_the_output_is_a_json_value_to_the_last_digit(site: Site) -> None:
    site.add('{"n": 12345678901234567890.50}', "{,}")

    site.work("cat", as_json=True)

    assert site.outputs() == [{"n": 12345678901234567890.50}]
    assert "what the command wrote is no JSON value" in site.reason()


# ---- how a command ends --------------------------------------------------------------------


def test_exit_code_65_flags_the_input_with_the_end_of_stderr(engine: dcengine.Engine) -> None:
    site = Site(engine, votes=1)
    site.add("bad")

    happened = site.work("/bin/sh", "-c", "echo reading >&2; echo no such picture >&2; echo output; exit 65")

    assert ends(happened) == ["flagged"]
    assert "no such picture" in site.reason()


def test_any_other_exit_code_fails_the_task_with_the_end_of_stderr(site: Site) -> None:
    site.add("x")

    site.work(*python("import sys; sys.stderr.buffer.write(b'x' * 10**6 + b'\\n\\xff the end'); sys.exit(3)"))

    assert "ended with exit code 3: " in site.reason()
    assert "exit code 3: \ufffd the end" in site.reason()
    assert len(site.reason()) < 2100


def test_a_signal_fails_the_task_and_is_named(site: Site) -> None:
    site.add("x")

    site.work("/bin/sh", "-c", "kill -SEGV $$")

    assert "was ended by signal 11 (SIGSEGV)" in site.reason()


def test_openjd_fail_is_the_reason_of_a_failure(site: Site) -> None:
    site.add("x")

    site.work("/bin/sh", "-c", "echo openjd_fail: no licence left; echo noise >&2; exit 1")

    assert site.reason().endswith("ended with exit code 1: no licence left")


def test_a_command_that_takes_too_long_is_ended(site: Site) -> None:
    site.add("x")

    site.work("/bin/sh", "-c", "echo begun >&2; sleep 100", timeout=0.3)

    assert "took longer than --timeout 0.3 s: begun" in site.reason()


def test_output_above_the_limit_ends_the_command_and_fails_the_task(site: Site) -> None:
    site.add("x")

    site.work("/bin/sh", "-c", "yes", output_limit=100_000)

    assert "the output of the command is" in site.reason()
    assert "the limit is 100,000" in site.reason()


def test_a_hundred_megabytes_are_read_without_being_kept(site: Site) -> None:
    site.add("x")
    before = psutil.Process().memory_info().rss
    lines = "import sys\nfor _ in range(100): sys.stdout.write('x' * 999_999 + chr(10))\n"
    program = f"{lines}open(sys.argv[1], 'w').write('kept')"

    site.work(*python(program), "{output}", output_limit=1_000_000)

    assert site.outputs() == ["kept"]
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_an_input_that_no_argument_can_hold_fails_its_task_alone(site: Site) -> None:
    site.add("a\0b", "x" * 200_000, "fine")

    happened = site.work("echo", "{input}")

    assert sorted(ends(happened)) == ["done", "failed", "failed"]
    assert site.outputs() == ["fine"]
    reasons = [failure.reason for failure in site.project.failed()]
    assert all("{file}" in reason for reason in reasons), reasons


def test_a_program_that_is_gone_ends_the_worker_and_hands_the_task_back(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nrm -- "$0"\ncat')
    program.chmod(0o700)
    site.add("first", "second")

    with pytest.raises(dcengine.errors.InvalidOption, match="one that can be started"):
        site.work(str(program))

    assert [job.number for job in site.project.jobs("succeeded")] == [1]
    assert [job.number for job in site.project.jobs("open")] == [2]


# ---- progress ------------------------------------------------------------------------------


def test_lines_of_openjd_are_progress_and_no_output(site: Site) -> None:
    site.add("x")
    program = "echo openjd_progress: 42; echo openjd_status: rendering; echo out; echo openjd_progress: 43 >&2"

    happened = site.work("/bin/sh", "-c", f"{program}; sleep 0.6")

    assert site.outputs() == ["out"]
    assert messages(happened) == []
    told = [(each.done, each.total, each.text) for each in happened if each.event == "progress"]
    assert told[-1] in [(42, 100, "rendering"), (43, 100, "rendering")]


def test_a_bar_of_tqdm_is_the_progress_of_the_job(engine: dcengine.Engine) -> None:
    site = Site(engine, lease_seconds=1)
    site.add("x")
    program = """
import time
from tqdm import tqdm
with tqdm(total=10, desc="frames", mininterval=0) as bar:
    bar.update(4)
    time.sleep(2)
"""

    with ThreadPoolExecutor() as pool:
        working = pool.submit(site.work, *python(program))
        progress = eventually(site.progress)
        happened = working.result()

    assert (progress.done, progress.total, progress.text) == (4, 10, "frames")
    assert messages(happened) == []


# ---- side by side --------------------------------------------------------------------------


def test_three_commands_run_side_by_side(site: Site, tmp_path: Path) -> None:
    site.add(1, 2, 3)
    meet = 'touch "$0/$1"; while [ $(ls "$0" | wc -l) -lt 3 ]; do sleep 0.05; done; echo met'

    site.work("/bin/sh", "-c", meet, str(tmp_path), "{number}", jobs=3)

    assert site.outputs() == ["met"] * 3


def test_what_is_left_running_in_the_background_ends_with_its_command(site: Site) -> None:
    site.add("x")

    site.work("/bin/sh", "-c", "sleep 100 & echo $!")

    (left,) = site.outputs()
    eventually(lambda: not psutil.pid_exists(int(left)) or psutil.Process(int(left)).status() == "zombie")


def test_a_cancelled_task_ends_its_command(engine: dcengine.Engine) -> None:
    site = Site(engine, lease_seconds=1)
    site.add("x")
    with ThreadPoolExecutor() as pool:
        working = pool.submit(site.work, "/bin/sh", "-c", "echo openjd_progress: 1; sleep 100")
        eventually(site.progress)
        site.project.cancel()

        assert ends(working.result(30)) == ["returned"]


def test_after_max_time_no_task_is_begun_and_what_runs_goes_on_to_its_end(site: Site) -> None:
    site.add("x", "y")

    site.work("/bin/sh", "-c", "sleep 0.6; cat", max_time=0.4, prefetch=1)

    status = site.project.status()
    assert (status.succeeded, status.stages[0].counts["queued"]) == (1, 1)


# ---- the owner of the machine --------------------------------------------------------------


class Owner:
    """Somebody who uses the machine, or is away."""

    def __init__(self) -> None:
        self.is_here = True

    def idle_seconds(self) -> float:
        return 1.0 if self.is_here else 1000.0


def test_nothing_runs_while_the_owner_uses_the_machine_and_the_lease_lives_on(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(idle, "LOOK_SECONDS", 0.02)
    site, owner, ticks = Site(engine, lease_seconds=1), Owner(), tmp_path / "ticks"
    site.add("x")
    program = f"import time\nfor _ in range(40): open({str(ticks)!r}, 'a').write('.'); time.sleep(0.05)\nprint('done')"

    def count() -> int:
        return len(ticks.read_text()) if ticks.exists() else 0

    with ThreadPoolExecutor() as pool:
        working = pool.submit(site.work, *python(program), watch=owner, timeout=5)
        time.sleep(0.3)
        before = count()
        owner.is_here = False
        eventually(lambda: count() > 3)
        owner.is_here = True
        time.sleep(0.3)
        held_up = count()
        time.sleep(1.5)
        still = count()
        owner.is_here = False
        happened = working.result(30)

    assert (before, still) == (0, held_up)
    assert [each.event for each in happened].count("begun") == 1
    assert site.outputs() == ["done"]
    assert [each.event for each in happened if each.event in ("paused", "resumed")] == ["paused", "resumed"] * 2


# ---- the command line ----------------------------------------------------------------------


def test_it_is_a_command_that_ends_when_there_is_nothing_to_do(site: Site) -> None:
    site.add("one", "two")

    out, err = site.start("--exit-when-idle", "0.3s", "--", "/bin/sh", "-c", "echo hello >&2; cat").communicate(
        timeout=60
    )

    assert site.outputs() == ["one", "two"]
    assert out == ""
    assert err.splitlines()[0] == "hello"
    assert f"{site.project.name}/2 done after" in err


def test_once_does_one_task_and_its_exit_code_tells_what_became_of_it(site: Site) -> None:
    site.add("one", "two")

    process = site.start("--once", "--json", "--", "/bin/sh", "-c", "printf '\\033[31mred' >&2; exit 3")
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    happened = [json.loads(line) for line in out.splitlines()]
    assert [each["event"] for each in happened] == ["begun", "message", "failed"]
    assert (site.project.status().succeeded, len(site.project.failed())) == (0, 1)


def test_its_token_is_not_given_to_the_command(site: Site) -> None:
    site.add("x")

    site.start("--once", "--", "env").communicate(timeout=60)

    assert "PATH=" in site.outputs()[0]
    assert site.engine.token not in site.outputs()[0]


@pytest.mark.parametrize(
    ("number", "code", "trap"), [(signal.SIGTERM, 0, "trap '' TERM"), (signal.SIGINT, 130, "true")]
)
def test_a_signal_ends_the_commands_with_all_they_started_and_hands_the_tasks_back(
    site: Site, number: int, code: int, trap: str
) -> None:
    site.add(1, 2, 3, 4)
    process = site.start("--jobs", "2", "--prefetch", "2", "--", "/bin/sh", "-c", f"({trap}; sleep 98) & sleep 99")
    started = eventually(lambda: _sleepers(process.pid, 4))

    process.send_signal(number)

    assert process.wait(20) == code
    assert gone(started)
    status = site.project.status()
    assert (status.open, status.stages[0].counts) == (4, {"queued": 4})


def test_a_second_signal_ends_at_once_what_does_not_want_to_end(site: Site) -> None:
    site.add("x")
    process = site.start("--", "/bin/sh", "-c", "trap '' TERM; sleep 97; sleep 98; sleep 99")
    eventually(lambda: _sleepers(process.pid, 1))
    assert process.stderr is not None

    process.send_signal(signal.SIGINT)
    assert "once more ends it at once" in process.stderr.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 130
    assert time.monotonic() - began < 4.0
    assert site.project.status().stages[0].counts == {"queued": 1}


def test_a_worker_that_is_killed_leaves_no_command_behind(site: Site) -> None:
    site.add("x")
    # Who is killed in the moment in which a command begins has told nobody of it yet: so it begins with a pause.
    process = site.start("--", "/bin/sh", "-c", "sleep 1; sleep 98 & sleep 99")
    started = eventually(lambda: _sleepers(process.pid, 2))

    process.kill()

    eventually(lambda: gone(started))


def _sleepers(pid: int, count: int) -> list[psutil.Process]:
    """Return the programs that sleep below process *pid*, once there are *count* of them."""
    with contextlib.suppress(psutil.NoSuchProcess):  # one that ends while it is looked at: it is looked for again
        found = [each for each in family(pid) if each.name() == "sleep"]
        return found if len(found) == count else []
    return []


def test_a_terminal_shows_what_runs_and_nothing_that_commands_write_steers_it(site: Site) -> None:
    site.add("x")
    program = "printf 'evil \\033[2J\\342\\200\\256 text\\n' >&2; echo openjd_progress: 50; sleep 1"
    arguments = [
        site.engine.url,
        "--project",
        site.project.name,
        "--stage",
        "a",
        "--once",
        "--",
        "/bin/sh",
        "-c",
        program,
    ]
    child = pexpect.spawn(
        sys.executable, ["-m", "dcengine", "worker", *arguments], timeout=30, encoding="utf-8",
        env={**environment(DCENGINE_TOKEN=site.engine.token), "TERM": "xterm"},
    )  # fmt: skip

    shown = child.read()
    child.close()

    assert child.exitstatus == 0
    assert "evil \\x1b[2J\\u202e text" in shown
    assert "50%" in shown
    assert f"{site.project.name}/1 done after" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--", "no-such-program"], "a program that can be run here"),
        (["--", "awk", "{print $1}"], "a brace that is meant as such is doubled"),
        (["--", "{input}"], "one that is the same for all tasks"),
        (["--timeout", "soon", "--", "cat"], "--timeout cannot be 'soon'"),
        (["--max-output", "much", "--", "cat"], "--max-output cannot be 'much'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_task_is_taken(arguments: list[str], told: str) -> None:
    ended = CliRunner().invoke(app, ["worker", "http://127.0.0.1:1", "--project", "p", "--stage", "a", *arguments])

    assert ended.exit_code == 1
    assert told in " ".join(ended.stderr.split())


def test_the_help_tells_worker_from_workers() -> None:
    ended = CliRunner().invoke(app, ["worker", "--help"])

    assert "dcengine workers" in " ".join(ended.stdout.split())
