"""``--background``: cells that go on while others run; what they say appears in their own place."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import Any

from dcengine.errors import ResultNotReady

from .errors import InvalidCell
from .replay import Replay
from .sent import Sent
from .tracebacks import rendered, shown_lines

_running: dict[str, BackgroundCell] = {}  #: by name: those that run, or whose end nobody has asked for


def begin(sent: Sent, replay: Replay, number: int) -> BackgroundCell:
    """Follow *sent* in the background; return its handle."""
    cell = BackgroundCell(sent, replay, number)
    _running[sent.name] = cell
    cell.start()
    return cell


def wait(text: str) -> None:
    """Wait for the background cell that *text* names, or for all; raises the error of the first that failed."""
    named = [cell for cell in _running.values() if not text or text in (cell.name, str(cell.id))]
    if text and not named:
        raise InvalidCell(f"no cell goes on in the background as {text}; %distribute attach {text} looks further")
    for cell in named:
        cell.wait()
    errors = [error for cell in named if (error := cell.told()) is not None]
    if errors:
        raise errors[0]


class BackgroundCell:
    """A cell that goes on in the background."""

    def __init__(self, sent: Sent, replay: Replay, number: int) -> None:
        self.id, self.name = sent.id, sent.name
        self._sent, self._replay, self._number = sent, replay, number
        self._error: BaseException | None = None
        self._over = threading.Event()

    def __repr__(self) -> str:
        how = "goes on" if not self.done() else "has failed" if self._error is not None else "has ended"
        return f"<cell In[{self._number}] in the background, {self.name}: it {how}>"

    def start(self) -> None:
        """Follow the cell in a thread whose outputs have the present cell as their parent."""
        # ipykernel keeps the parent of outputs in context variables.
        context = contextvars.copy_context()
        name = f"dcengine-cell-{self._number}"
        threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True).start()

    def done(self) -> bool:
        """Tell whether it has ended, and what it made is here."""
        return self._over.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end, failed or not; raises `ResultNotReady` after *timeout* seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._over.wait(1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))):
                if deadline is not None and time.monotonic() >= deadline:
                    raise rendered(ResultNotReady(f"cell In[{self._number}] ({self.name})", timeout or 0.0))
        except KeyboardInterrupt as stop:
            told = f"no longer waiting for cell In[{self._number}] ({self.name}), which goes on"
            raise rendered(stop, [f"KeyboardInterrupt: {told}; %distribute wait waits again"]) from None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end; return the value of its last expression, or raise its error."""
        self.wait(timeout)
        if (error := self.told()) is not None:
            raise error
        return self._sent.value

    def told(self) -> BaseException | None:
        """Return the error with which it ended, if it did; from now on somebody knows."""
        _running.pop(self.name, None)
        return self._error

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the remote code, which may catch it and go on; of a batch, cancel what is left."""
        self._sent.interrupt()

    def cancel(self) -> None:
        """Cancel it; code that runs is interrupted."""
        self._sent.cancel()

    # ---- its thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            value = self._sent.finish()
            if value is not None:
                self._replay.show_value(value)
            self._replay.note(self._said_at_the_end())
        except BaseException as error:  # as a cell in the foreground would raise it
            self._error = error
            self._replay.show_error(error, shown_lines(error))
        finally:
            self._over.set()

    def _said_at_the_end(self) -> str:
        made = self._sent.made
        names = f"; in the notebook now: {', '.join(made)}" if made else ""
        return f"cell In[{self._number}] has ended{names}"
