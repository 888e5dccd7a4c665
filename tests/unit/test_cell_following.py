"""How a remote cell is followed: an engine that is away, the stop button, what the notebook raises."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import dcengine
from dcengine.errors import EngineUnreachable, JobCancelled, TaskTimeout
from dcengine.verbs import Line, Transcript
from dcengine_magics.cells import away
from dcengine_magics.cells.following import Following
from dcengine_magics.cells.replay import RemoteError
from dcengine_magics.cells.stop_button import StopButton

GONE = EngineUnreachable("http://127.0.0.1:1", "connection refused")


class Scripted:
    """A handle whose answers are written down; an exception among them is raised, a function called."""

    id = 7

    def __init__(self, *answers: Transcript | Exception | Callable[[], Any]) -> None:
        self._answers = iter(answers)
        self.done: list[str] = []

    def transcript(self, after: int, wait: float) -> Transcript:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Transcript) else answer()

    def exception(self) -> None:
        return None

    def interrupt(self) -> None:
        self.done.append("interrupt")

    def kill(self) -> None:
        self.done.append("kill")


class NoComms:
    """Stands for the widgets of a cell that has none."""

    def reach(self, tell: Callable[[bytes], bool]) -> None:
        pass

    def leave(self) -> None:
        pass


class Notes:
    """A replay that remembers."""

    comms = NoComms()

    def __init__(self, error: RemoteError | None = None) -> None:
        self.error = error
        self.said: list[str] = []

    def say(self, line: Line) -> None:
        self.said.append(line.text)

    def note(self, text: str) -> None:
        self.said.append(f"note: {text.splitlines()[-1]}")


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "PAUSE", 0.001)
    monkeypatch.setattr(away, "PATIENCE", 0.05)


def end(*texts: str) -> Transcript:
    return Transcript([Line(n, "stdout", text) for n, text in enumerate(texts, 1)], is_complete=True)


def press() -> Transcript:
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("the press was not heard")


def follow(handle: Scripted, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> BaseException | None:
    monkeypatch.setattr(dcengine, "job", lambda id: handle)
    return Following(handle, notes).to_the_end()  # type: ignore[arg-type]


def test_an_engine_that_comes_back_is_said_once_and_nothing_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    handle = Scripted(Transcript([Line(1, "stdout", "a")]), GONE, GONE, Transcript([Line(2, "stdout", "b")], True))

    assert follow(handle, notes, monkeypatch) is None
    assert notes.said == [
        "a",
        "note: job 7 is kept; waiting for its engine, stop gives up",
        "note: the engine is back, job 7 goes on",
        "b",
    ]


def test_an_engine_that_stays_away_ends_in_an_error_that_names_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Scripted(*[GONE] * 1000)

    with pytest.raises(EngineUnreachable) as error:
        follow(handle, Notes(), monkeypatch)

    assert "%distribute attach job 7" in error.value._render_traceback_()[-1]  # type: ignore[attr-defined]


def test_stop_gives_up_an_engine_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Scripted(GONE, press)

    with pytest.raises(KeyboardInterrupt):
        follow(handle, Notes(), monkeypatch)

    assert handle.done == []


def test_the_first_press_interrupts_and_the_second_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Scripted(press, press, end("bye"))

    assert follow(handle, Notes(), monkeypatch) is None
    assert handle.done == ["interrupt", "kill"]


def test_a_press_outside_of_waiting_is_kept_for_the_next_wait() -> None:
    with StopButton() as button:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), button.waiting():
            pass
        with button.waiting():
            pass


def test_the_signal_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)

    with StopButton():
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before


def test_the_error_shown_is_what_the_cells_shell_showed() -> None:
    said = RemoteError("ZeroDivisionError", "division by zero", ("line 1", "line 2"))

    error = Following(Scripted(), Notes(said)).error_of(ZeroDivisionError("division by zero"))  # type: ignore[arg-type]

    assert error._render_traceback_() == ["line 1", "line 2"]  # type: ignore[attr-defined]


def test_an_error_that_the_engine_made_of_it_is_said_below() -> None:
    said = RemoteError("KeyboardInterrupt", "", ("line 1",))

    error = Following(Scripted(), Notes(said)).error_of(TaskTimeout(1.0, "interrupted"))  # type: ignore[arg-type]

    assert error._render_traceback_()[0] == "line 1"  # type: ignore[attr-defined]
    assert error._render_traceback_()[-1].startswith("TaskTimeout: ran longer")  # type: ignore[attr-defined]


def test_an_error_without_a_traceback_is_one_line() -> None:
    error = Following(Scripted(), Notes()).error_of(JobCancelled(7))  # type: ignore[arg-type]

    assert error._render_traceback_() == ["JobCancelled: job 7 was cancelled"]  # type: ignore[attr-defined]
