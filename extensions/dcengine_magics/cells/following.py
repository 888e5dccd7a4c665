"""From a submitted cell to its end: replay what it says, stop it when asked to, wait for an engine that is away."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import dcengine
from dcengine.errors import AccessDenied, EngineClosed, EngineUnreachable, JobCancelled, MissingPackage, NotFound
from dcengine.handles import JobHandle

from .errors import raised_in_cell
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
        kind, lines = type(error).__name__, list(said.traceback) if said else []
        if said and said.name != kind:
            lines += ["", f"{kind}: {error}"]
        if lines and isinstance(error, MissingPackage) and _is_beside_the_notebook(error.module):
            lines += [f"{error.module} lies beside the notebook: import it in a cell that runs here, then it travels"]
        if isinstance(error, (SyntaxError, *GROUPS)):  # IPython shows these without asking them how
            error = raised_in_cell(kind, str(error))
        if said and _is_mute(error):
            error = raised_in_cell(kind, said.value)
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
            "waits for what it made; unpack() of that gives it by name"
        )


def _is_mute(error: BaseException) -> bool:
    """Tell whether *error*, of a class of the user's, cannot say its own message."""
    try:
        str(error)
    except Exception:
        return True
    return False


def _is_beside_the_notebook(module: str) -> bool:
    """Tell whether *module* is one of the user's own here."""
    try:
        found = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return False
    file = Path(found.origin) if found is not None and found.origin else Path("/")
    return Path.cwd() in file.parents and "site-packages" not in file.parts
