"""What a worker's commands are doing, for those who watch: live, as lines, or as JSON."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..plain import clean as on_one_line
from .showing import clean, duration, show_json, show_note

if TYPE_CHECKING:
    from ..worker.workshop import Happening

Tell = Callable[["Happening"], None]

ENDS = {"done": "done", "failed": "failed", "flagged": "input flagged", "returned": "handed back"}  #: in words
REASON_WIDTH, TEXT_WIDTH, BAR_WIDTH = 300, 60, 24
MOST_ROWS = 20  #: of running commands that are shown


class _Lines:
    """Says on stderr what became of each task, and what commands say."""

    def __init__(self, project: str, jobs: int) -> None:
        self._project, self._jobs = project, jobs
        self._tally: Counter[str] = Counter()
        self._since = time.monotonic()

    def tell(self, happening: Happening) -> None:
        """Take in what happened."""
        if happening.event in ENDS:
            self._tally[happening.event] += 1
            self._end(happening)
        elif happening.event == "message":
            prefix = f"[{happening.number}] " if self._jobs > 1 else ""
            self.say(prefix + clean(happening.text))
        elif happening.event in NOTES:
            self.say(NOTES[happening.event] or happening.text)

    def say(self, line: str) -> None:
        """Show a line."""
        show_note(line)

    def summary(self, *more: str) -> str:
        """Return what came of all tasks so far."""
        counts = [f"{self._tally[event]:,} {words}" for event, words in ENDS.items() if self._tally[event]]
        return " · ".join([*(counts or ["no task done"]), *more, duration(time.monotonic() - self._since)])

    def _end(self, happening: Happening) -> None:
        reason = f": {on_one_line(happening.text, REASON_WIDTH)}" if happening.text else ""
        took = f"after {happening.seconds or 0:.1f} s"
        self.say(f"{self._project}/{happening.number} {ENDS[happening.event]} {took}{reason}")


NOTES = {
    "paused": "somebody uses this machine: the commands are held up until nobody does",
    "resumed": "nobody uses this machine: working",
    "trouble": "",
}


class _Display(_Lines):
    """The same above a table of what runs."""

    def __init__(self, project: str, jobs: int) -> None:
        super().__init__(project, jobs)
        self.console = Console(file=sys.stderr, highlight=False)
        self._rows: dict[int, Happening] = {}  #: by the number of the job: the newest of its progress
        self._began: dict[int, float] = {}
        self._is_paused = False

    def tell(self, happening: Happening) -> None:
        if happening.event in ("begun", "progress"):
            self._rows[happening.number] = happening
            self._began.setdefault(happening.number, time.monotonic())
        elif happening.event in ENDS:
            self._rows.pop(happening.number, None)
            self._began.pop(happening.number, None)
        elif happening.event in ("paused", "resumed"):
            self._is_paused = happening.event == "paused"
        super().tell(happening)

    def say(self, line: str) -> None:
        self.console.print(Text(clean(line)), soft_wrap=True)

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for number, newest in list(self._rows.items())[:MOST_ROWS]:
            took = duration(time.monotonic() - self._began[number])
            text = on_one_line(newest.text, TEXT_WIDTH)
            table.add_row(*map(Text, (f"{self._project}/{number}", _bar(newest), took, text)))
        state = "held up" if self._is_paused else f"{len(self._rows)} running"
        return Group(table, Text(self.summary(state), style="bold"))


def _bar(newest: Happening) -> str:
    """Return how far a command is, as a bar where it says the whole."""
    if newest.done is None:
        return ""
    if not newest.total:
        return f"{newest.done:g}"
    share = min(1.0, max(0.0, newest.done / newest.total))
    full = round(share * BAR_WIDTH)
    return "━" * full + "╌" * (BAR_WIDTH - full) + f" {share:4.0%}"


@contextmanager
def teller(project: str, *, jobs: int, as_json: bool) -> Iterator[Tell]:
    """Give what shows what happens, for as long as it happens."""
    if as_json:
        yield show_json
        return
    if not sys.stderr.isatty():
        lines = _Lines(project, jobs)
        yield lines.tell
        show_note(lines.summary())
        return
    display = _Display(project, jobs)
    with Live(console=display.console, get_renderable=display.__rich__, refresh_per_second=4, transient=True):
        yield display.tell
    show_note(display.summary())


class _Teller(logging.Handler):
    """Tells what is logged as a trouble."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        from ..worker.workshop import Happening  # late, as the worker itself is

        self._tell(Happening(event="trouble", text=record.getMessage()))


@contextmanager
def told_troubles(tell: Tell) -> Iterator[None]:
    """Tell what the worker warns of."""
    handler, logger = _Teller(tell), logging.getLogger("dcengine.worker")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
