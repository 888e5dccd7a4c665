"""Commands of other packages in our command line: listed, loaded when called, and told apart when broken."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from dcengine.cli import added, app

HEAVY = ("IPython", "ipykernel", "jupyter_client", "jupyter_core", "zmq")


def loaded_by(*arguments: str) -> set[str]:
    """Return which of the heavy modules and ours the command loads in a process of its own."""
    script = (
        "import sys\nfrom dcengine.cli import app\n"
        f"try: app({list(arguments)!r})\n"
        "except SystemExit as end: print(end.code, *sys.modules, file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    status, *modules = answer.stderr.split()
    assert status == "0", answer.stderr
    return {name for name in modules if name in (*HEAVY, "dcengine_kernel.command")}


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """What other packages offer."""
    offered: list[EntryPoint] = []

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in offered if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(added, "entry_points", entry_points)
    return offered


def test_the_kernel_command_is_listed_and_found() -> None:
    listed = CliRunner().invoke(app, ["--help"])
    helped = CliRunner().invoke(app, ["kernel", "--help"])

    assert "Make the notebook kernel known to Jupyter" in listed.stdout
    assert "uninstall" in helped.stdout


def test_help_and_our_own_commands_load_no_jupyter() -> None:
    assert loaded_by("--help") == {"dcengine_kernel.command"}
    assert loaded_by("workers", "--help") == set()


def test_our_own_commands_do_not_look_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("entry points were read")

    monkeypatch.setattr(added, "entry_points", refuse)
    result = CliRunner().invoke(app, ["workers", "--help"])

    assert result.exit_code == 0


def test_a_command_of_our_own_goes_before_one_of_its_name(entries: list[EntryPoint]) -> None:
    entries.append(EntryPoint("workers", "nothing.of.this:name", added.GROUP))

    listed = CliRunner().invoke(app, ["--help"]).stdout

    assert "Cannot be loaded" not in listed
    assert listed.count("workers  ") == 1


def test_a_command_that_cannot_be_loaded_says_so_and_spoils_nothing(entries: list[EntryPoint]) -> None:
    entries.append(EntryPoint("render", "nothing.of.this:name", added.GROUP))

    listed, called = CliRunner().invoke(app, ["--help"]), CliRunner().invoke(app, ["render", "a", "--b"])

    assert "No module named 'nothing'" in " ".join(listed.stdout.replace("│", "").split())
    assert called.exit_code == 1
    assert "the command 'render' of nothing.of.this:name cannot be loaded: No module named 'nothing'" in called.stderr


def test_an_unknown_command_is_an_error_as_ever() -> None:
    result = CliRunner().invoke(app, ["nothing-of-this-name"])

    assert result.exit_code == 2
    assert "No such command" in result.output
