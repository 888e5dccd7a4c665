"""Whether the owner of a machine uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcengine.errors import IdlenessUnknown
from dcengine.worker import idle
from tests.engines import eventually


def known(seconds: float | None) -> idle.Source:
    return lambda: seconds


def test_the_newest_sign_counts_and_what_knows_nothing_does_not() -> None:
    assert idle.OwnerWatch([known(400.0), known(None), known(12.0)]).idle_seconds() == 12.0
    assert idle.OwnerWatch([known(None)]).idle_seconds() == float("inf")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("IdleHint=no\nIdleSinceHint=0\n", 0.0),
        ("IdleHint=yes\nIdleSinceHint=AGO\n", 90.0),
        ("IdleHint=yes\nIdleSinceHint=0\n", float("inf")),
        ("System has not been booted with systemd as init system", None),
        ("", None),
    ],
)
def test_logind_says_since_when_all_sessions_are_idle(said: str, seconds: float | None) -> None:
    said = said.replace("AGO", str(int((time.time() - 90) * 1e6)))  # now: tests are collected long before they run

    assert idle.idle_by_logind(said) == (seconds if seconds is None else pytest.approx(seconds, abs=60))


def test_a_key_in_any_terminal_is_a_sign(tmp_path: Path) -> None:
    terminals = [tmp_path / "0", tmp_path / "1"]
    for terminal, ago in zip(terminals, (1000, 20), strict=True):
        terminal.touch()
        os.utime(terminal, (time.time() - ago, time.time()))

    assert idle.since_typing([*terminals, tmp_path / "gone"]) == pytest.approx(20, abs=5)
    assert idle.since_typing([]) is None


def test_a_key_in_a_real_terminal_is_a_sign() -> None:
    controller, terminal = os.openpty()
    os.utime(os.ttyname(terminal), (time.time() - 1000, time.time() - 1000))
    before = idle.since_typing([Path(os.ttyname(terminal))])
    os.write(controller, b"ls\n")
    os.read(terminal, 10)
    after = idle.since_typing([Path(os.ttyname(terminal))])
    os.close(controller)
    os.close(terminal)

    assert before is not None
    assert after is not None
    assert (before > 900, after < 60) == (True, True)


def test_the_load_of_others_counts_and_that_of_our_own_commands_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "LOOK_SECONDS", 0.1)
    used = [(0.0, 0.0)]
    monkeypatch.setattr(idle.OthersLoad, "_used", lambda self: used[0])
    load = idle.OthersLoad()
    load._cores = 1

    def look(everybody: float, ours: float) -> float:
        used[0] = (used[0][0] + everybody, used[0][1] + ours)
        load._before = (time.monotonic() - 1.0, *load._before[1:])
        return load.idle_seconds()

    assert [look(1.0, 1.0), look(1.0, 0.9)] == [float("inf")] * 2
    assert look(1.0, 0.5) == float("inf")  # once may be a mistake
    assert look(1.0, 0.5) < 1.0
    assert look(1.0, 1.0) < 1.0


def test_processor_time_of_children_and_their_children_is_ours() -> None:
    load = idle.OthersLoad()
    before = load._used()[1]
    spin = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    shell = f'{sys.executable} -c "$0"; true'
    child = subprocess.Popen(["/bin/sh", "-c", shell, spin], stdin=subprocess.PIPE)

    eventually(lambda: load._used()[1] - before > 0.25)
    assert child.stdin is not None
    child.stdin.close()
    child.wait()
    assert load._used()[1] - before > 0.25


def test_where_nothing_can_be_found_out_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_said_by", lambda program, *arguments: "")
    monkeypatch.setattr(idle, "_seconds_since_typing", lambda: None)

    with pytest.raises(IdlenessUnknown, match="start without --idle-only"):
        idle.owner_watch()


def test_x11_is_asked_before_logind_but_not_under_wayland(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"xprintidle": "7000\n", "loginctl": "IdleHint=no\n"}
    monkeypatch.setattr(idle, "_said_by", lambda program, *arguments: said.get(program, ""))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    assert [source() for source in idle._screens()] == [7.0]
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert [source() for source in idle._screens()] == [0.0]


def test_macos_tells_in_nanoseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    told = '    | |   "HIDIdleTime" = 7500000000\n'
    monkeypatch.setattr(idle, "_said_by", lambda program, *arguments: told if program == "ioreg" else "")
    monkeypatch.setattr(sys, "platform", "darwin")

    assert [source() for source in idle._screens()] == [7.5]
