"""From a submitted cell to its end: replay what it says, stop it when asked to, tell what it raised."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import dcengine
from dcengine.errors import JobCancelled, MissingPackage
from dcengine.handles import JobHandle

from .away import Follower
from .errors import raised_in_cell
from .replay import Replay
from .stop_button import StopButton
from .tracebacks import GROUPS, rendered

WAIT = 20.0  #: seconds that one question for more lines may wait


class Following(Follower):
    """One remote cell, followed to its end."""

    def __init__(self, handle: JobHandle, replay: Replay) -> None:
        super().__init__(f"job {handle.id}", replay)
        self.handle = handle  #: perhaps through another connection than at first
        self._last = 0  #: number of the last line that was said again
        self._end: BaseException | None = None

    def to_the_end(self) -> BaseException | None:
        """Say again what the cell says until it has ended; return what it raised."""
        self._replay.comms.reach(lambda message: self.handle.tell(message))  # the handle may become another
        try:
            self.follow()
        finally:
            self._replay.comms.leave()
        return self._end

    def error_of(self, error: BaseException) -> BaseException:
        """Return *error*, which ended the cell, as the notebook is to raise it."""
        said = self._replay.error
        if self.presses == 1 and isinstance(error, JobCancelled):
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

    def say_more(self, button: StopButton) -> bool:
        """Say the next lines again; tell whether they were the last."""
        with button.waiting():
            said = self.handle.transcript(after=self._last, wait=WAIT)
        self.is_back()
        for line in said.lines:
            self._replay.say(line)
            self._last = line.number
        if said.is_complete:
            with button.waiting():
                self._end = self.handle.exception()
        return said.is_complete

    def stop(self) -> None:
        """Interrupt the cell; kill it when asked again."""
        if self.presses == 1:
            self._replay.note(f"interrupting {self.name}; once more kills it")
            self.handle.interrupt()
        else:
            self._replay.note(f"killing {self.name}")
            self.handle.kill()

    def find_again(self) -> None:
        """Ask for the job through whatever connection there is now."""
        self.handle = dcengine.job(self.handle.id)

    def later(self) -> str:
        """Return how the cell is found once its engine runs again."""
        return (
            f"the cell's job is kept by its engine; once that runs again, %distribute attach {self.name} "
            "shows what it said and takes home what it made"
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
