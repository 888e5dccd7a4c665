"""The command of a workload: its help, what it is told, what it prints, how it ends."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import dcengine
from dcengine import workloads
from dcengine.cli import added, app, bars, making
from dcengine.cli.checkup import plug_ins
from dcengine.verbs import ProjectStatus, StageStatus
from tests.engines import embedded
from tests.unit.toys import OFFERED


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What packages offer: toys."""
    entries = [EntryPoint(name, value, workloads.GROUP) for name, value in OFFERED.items()]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in entries if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(workloads, "entry_points", entry_points)
    monkeypatch.setattr(added, "entry_points", entry_points)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("making") / "work.db", processes=False) as engine:
        yield engine


@pytest.fixture
def wood(tmp_path: Path) -> str:
    path = tmp_path / "wood.txt"
    path.write_text(f"wood of {tmp_path.name}")
    return str(path)


def called(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def words(text: str) -> str:
    """Return *text* of a help page without its frame."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_the_help_says_what_can_be_asked_in_which_limits_and_what_holds_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    told = words(called("toy", "--help").stdout)

    assert "toy [OPTIONS] {PARTS}... Make a toy." in told
    assert "--size <int> How large. At least 1, at most 9." in told
    assert "--speed <float> How fast. Above 0. Unless said: 2." in told
    assert re.search(r"--colour <?\[?red\|blue.* Of its outside\. Unless said: red\.", told)
    assert re.search(r"--mood <?\[?glad\|sad.* Of its face\. Unless said: glad\.", told)
    assert "--wheels --no-wheels" in told
    assert told.index("--out") < told.index("--wait") < told.index("--json") < told.index("--url")


def test_the_list_of_commands_has_workloads_and_says_which_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    listed = words(called("--help").stdout)

    assert "toy Make a toy." in listed
    assert "gone Cannot be used: ModuleNotFoundError: No module named 'nothing'." in listed
    broken = called("gone", "a", "--b")
    assert broken.exit_code == 1
    assert "the workload 'gone' of nothing.of.this:name cannot be used" in broken.stderr


def test_the_doctor_names_plug_ins_and_says_what_is_wrong_with_others() -> None:
    whole, *wrong = plug_ins()

    assert whole.verdict == "ok"
    assert "workload toy" in whole.found
    assert {finding.check: finding.verdict for finding in wrong}.keys() >= {"workload gone", "workload reserved"}
    assert "workload toy" not in [finding.check for finding in wrong]


@pytest.mark.usefixtures("engine")
def test_a_command_waits_and_prints_what_it_wrote(wood: str, tmp_path: Path) -> None:
    out = tmp_path / "toy.bin"
    options = ("--size", "3", "--mood", "sad", "--no-wheels", "--names", "ada", "--names", "bob", "--out", str(out))

    done = called("toy", wood, wood, *options)
    told = json.loads(called("toy", wood, wood, *options, "--json").stdout)
    begun = called("toy", wood, wood, *options, "--no-wait")

    assert (done.exit_code, done.stdout) == (0, f"{out}\n"), done.output
    assert out.read_bytes() == Path(wood).read_bytes().upper() * 2
    assert told == {"project": begun.stdout.strip(), "files": [str(out)]}
    assert done.stderr.strip() == f"project {begun.stdout.strip()}"
    assert dcengine.Project(told["project"]).status().total == 2


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--size", "0"), 1, "size cannot be 0; expected a whole number, at least 1, at most 9, or None"),
        (("--size", "x"), 2, "Invalid value for '--size'"),
        (("--sise", "1"), 2, "No such option: --sise"),
        (("--colour", "green"), 2, "'green' is not one of 'red', 'blue'"),
        (("--mood", "sad"), 1, "the parameters of toy cannot be these; expected glad ones"),
        (("nowhere",), 1, "parts cannot be 'nowhere' (No such file or directory)"),
        (("--names", "a", "--names", "b", "--names", "c"), 1, "expected a list of at most 2 of them, each text"),
    ],
)
def test_what_makes_no_sense_is_said_and_leaves_no_project(
    wood: str, options: tuple[str, ...], status: int, said: str
) -> None:
    before = [each.name for each in dcengine.api.current().call("projects")]

    result = called("toy", wood, *options)

    assert result.exit_code == status, result.output
    assert said in words(result.stderr)
    assert [each.name for each in dcengine.api.current().call("projects")] == before


@pytest.mark.usefixtures("engine")
def test_a_job_that_fails_ends_the_command_with_its_reason_and_the_way_on(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_text("broken")

    failed = called("toy", str(path), "--out", str(tmp_path / "out"))

    assert failed.exit_code == 1
    assert "ArithmeticError: the glue does not hold" in failed.stderr
    assert re.search(r"`dcengine jobs failed toy-part-\w+` lists what failed", failed.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("engine")
def test_what_nobody_can_do_is_said_as_a_note(wood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit import toys

    def project_of(asked: Any) -> dcengine.Project:
        project = dcengine.Project("impossible")
        project.stage(name="fly", tags="wings")(toys.glue)
        project.add([b"a"])
        return project

    monkeypatch.setattr(workloads, "_loaded", lambda entry: toys.toy()._replace(project=project_of))
    begun = called("toy", wood, "--no-wait")
    dcengine.Project("impossible").cancel()

    assert begun.stdout == "impossible\n"
    assert "wings" in begun.stderr
    assert "Warning" not in begun.stderr


@pytest.mark.usefixtures("engine")
def test_ctrl_c_ends_the_waiting_and_not_the_work(wood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "_is_done", interrupted)
    left = called("toy", wood, "--label", "x")

    name = left.stderr.split()[1]
    assert left.exit_code == 130
    assert f"{name} goes on; the same command waits for it again" in left.stderr
    assert dcengine.Project(name).wait(20).succeeded == 1


def test_the_bars_show_each_stage_and_when_it_will_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    seen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setattr(
        bars, "Console", lambda file: Console(file=file, force_terminal=True, width=120, color_system=None)
    )
    stages = [
        StageStatus(name="a", title="Cut", tags="", counts={"succeeded": 3, "leased": 2, "failed": 1, "queued": 1_194}),
        StageStatus(name="b", tags="", counts={}),
    ]
    with bars.StageBars("toy-1\x1b[31m") as shown:
        shown.show(ProjectStatus(name="toy", is_paused=False, stages=stages, open=1_199, eta=125.0))

    text = seen.getvalue()
    assert "about 2 min 5 s left" in text
    assert re.search(r"Cut .*3 of 1,200 2 running, 1 failed", text)
    assert "\x1b[31m" not in text
