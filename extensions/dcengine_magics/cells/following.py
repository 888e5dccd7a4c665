"""From a submitted cell to its end: replay what it says, stop it when asked to, wait for an engine that is away."""

from __future__ import annotations

import time

import dcengine
from dcengine.errors import AccessDenied, EngineClosed, EngineUnreachable, JobCancelled, NotFound
from dcengine.handles import JobHandle

from .replay import Replay
from .stop_button import StopButton
from .tracebacks import GROUPS, rendered

WAIT = 20.0  #: seconds that one question for more lines may wait
PATIENCE = 60.0  #: seconds to wait for an engine that went away
PAUSE = 0.5  #: seconds between two looks for it
AWAY = (EngineUnreachable, EngineClosed, AccessDenied)  #: the last is what a new engine at its address answers


class Following:
    """One remote cell, followed to its end."""

    def __init__(self, handle: JobHandle, replay: Replay) -> None:
        self._handle, self._replay = handle, replay
        self._last = 0  #: number of the last line that was said again
        self._presses = 0  #: of the stop button
        self._away_since: float | None = None

    def to_the_end(self) -> BaseException | None:
        """Say again what the cell says until it has ended; return what it raised."""
        with StopButton() as button:
            while True:
                try:
                    if self._say_more(button):
                        with button.waiting():
                            return self._handle.exception()
                except KeyboardInterrupt:
                    self._stop()
                except AWAY as error:
                    self._wait_for_the_engine(error, button)

    def error_of(self, error: BaseException) -> BaseException:
        """Return *error*, which ended the cell, as the notebook is to raise it."""
        said = self._replay.error
        if self._presses == 1 and isinstance(error, JobCancelled):
            return rendered(KeyboardInterrupt(), ["KeyboardInterrupt: the cell was stopped before it ran"])
        if said is None:
            return rendered(error)
        lines = list(said.traceback)
        if said.name != type(error).__name__:
            lines += ["", f"{type(error).__name__}: {error}"]
        if isinstance(error, GROUPS):  # IPython prints these without asking them how
            self._replay.note("\n".join(lines))
        return rendered(error, lines)

    def _say_more(self, button: StopButton) -> bool:
        """Say the next lines again; tell whether they were the last."""
        with button.waiting():
            said = self._handle.transcript(after=self._last, wait=WAIT)
        if self._away_since is not None:
            self._away_since = None
            self._replay.note(f"the engine is back, job {self._handle.id} goes on")
        for line in said.lines:
            self._replay.say(line)
            self._last = line.number
        return said.is_complete

    # ---- the stop button ---------------------------------------------------------------------

    def _stop(self) -> None:
        self._presses += 1
        if self._away_since is not None:
            raise rendered(KeyboardInterrupt(), [f"KeyboardInterrupt: {self._later()}"])
        try:
            if self._presses == 1:
                self._replay.note(f"interrupting job {self._handle.id}; once more kills it")
                self._handle.interrupt()
            else:
                self._replay.note(f"killing job {self._handle.id}")
                self._handle.kill()
        except AWAY:
            self._presses -= 1  # the loop will meet the same, and wait

    # ---- an engine that is away --------------------------------------------------------------

    def _wait_for_the_engine(self, error: Exception, button: StopButton) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._replay.note(f"{error}\njob {self._handle.id} is kept; waiting for its engine, stop gives up")
        elif now - self._away_since > PATIENCE:
            raise rendered(error, [f"{type(error).__name__}: {error}", self._later()])
        try:
            with button.waiting():
                time.sleep(PAUSE)
                self._handle = dcengine.job(self._handle.id)  # perhaps through another connection
        except KeyboardInterrupt:
            self._stop()
        except (*AWAY, NotFound):
            pass

    def _later(self) -> str:
        return (
            f"the cell's job is kept by its engine; once that runs again, dcengine.job({self._handle.id}).result() "
            "waits for what it made"
        )
