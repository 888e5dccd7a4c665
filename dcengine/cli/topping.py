"""``dcengine top``: the engine on one screen, as it works; keys cancel, requeue and pause."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live

from ..errors import DcengineError, NotFound
from ..verbs import JobFilter, JobStatus, OutsiderFilter, OutsiderPage, WorkerStatus
from .choosing import Link, with_engine
from .screen import MOST, Answers, Listed, Screen, name_of

MOST_JOBS = 30
TICK_SECONDS = 0.1  #: between two looks at what was answered, and at the size of the screen
LOG_COLUMNS = 120  #: where there is no terminal to ask
KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
MEANT = {"\x1b[A": "k", "\x1b[B": "j", "\x1bOA": "k", "\x1bOB": "j"}
LEAVE = ("q", "\x03", "\x04")

Said = Answers | DcengineError | str  #: what was asked for, why it was not to be had, or what an act has come to


@with_engine
def top(
    engine: Link,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, for logs and scripts.")] = False,
) -> None:
    """Show projects, workers and jobs as they are, on one screen."""
    screen = Screen(_asked(engine, "running"))
    if once or not sys.stdout.isatty() or not sys.stdin.isatty():
        console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS, highlight=False)
        console.print(screen.drawn(console.width))
        return
    with suppress(KeyboardInterrupt), _keys() as keys, Live(screen=True, auto_refresh=False) as live:
        _Desk(engine, screen).watch(keys, live, every)


class _Desk:
    """Where keys are heard and answers come in; what is asked waits on a thread of its own, for as long as it takes."""

    def __init__(self, engine: Link, screen: Screen) -> None:
        self._engine, self._screen = engine, screen
        self._questions: SimpleQueue[Callable[[], Said]] = SimpleQueue()
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._is_looking = False
        self._due = 0.0
        # A daemon: whoever leaves does not wait for an engine that does not answer.
        threading.Thread(target=self._ask, name="dcengine-top", daemon=True).start()

    def watch(self, keys: _Keys, live: Live, every: float) -> None:
        """Show the screen until somebody leaves."""
        shown: object = None
        while True:
            is_new = self._take()
            if time.monotonic() >= self._due and not self._is_looking:
                self._due, self._is_looking = time.monotonic() + every, True
                self._questions.put(partial(_asked, self._engine, self._screen.listed))
            size = os.get_terminal_size(sys.stdout.fileno())
            if is_new or shown != size:
                live.update(self._screen.drawn(size.columns, size.lines), refresh=True)
                shown = size
            key = keys(TICK_SECONDS)
            if key in LEAVE:
                return
            if key:
                self._press(key)
                shown = None

    def _ask(self) -> None:
        while True:
            question = self._questions.get()
            try:
                said = question()
            except DcengineError as error:
                said = error
            self._said.put(said)

    def _take(self) -> bool:
        """Learn what was answered; tell whether anything was."""
        is_new = False
        with suppress(Empty):
            while True:
                said = self._said.get_nowait()
                is_new = True
                if isinstance(said, str):
                    self._screen.said, self._due = said, 0.0
                    continue
                self._is_looking = False
                if isinstance(said, Answers):
                    self._screen.take(said)
                else:
                    self._screen.trouble = str(said)
        return is_new

    # ---- keys ------------------------------------------------------------------------------

    def _press(self, key: str) -> None:
        """Do what *key* stands for; what cannot be undone is asked first."""
        screen, job = self._screen, self._screen.job
        screen.said = ""
        if screen.question:
            screen.question = ""
            if key == "y" and job is not None:
                self._act(lambda: f"job {self._engine.call('cancel', job.id).id} is cancelled")
        elif key in ("j", "k"):
            screen.move(1 if key == "j" else -1)
        elif key == "\t":
            screen.turn()
            self._due = 0.0
        elif key in ("c", "r", "p"):
            if job is None:
                screen.said = "there is no job to choose"
            elif key == "c":
                screen.question = f"Cancel job {name_of(job)}? y/n"
            else:
                self._change(job, key)

    def _change(self, job: JobStatus, key: str) -> None:
        if key == "r":
            self._act(lambda: f"{self._engine.call('retry', [job.id])} job(s) queued again")
        elif job.project == "functions":
            self._screen.said = "calls without a project cannot be paused"
        else:
            self._act(lambda: _turned(self._engine, job.project))

    def _act(self, act: Callable[[], str]) -> None:
        """Have *act* be done, and say what there is to say of it."""

        def said() -> str:
            try:
                return act()
            except DcengineError as error:
                return str(error)

        self._screen.said = "..."
        self._questions.put(said)


def _turned(engine: Link, project: str) -> str:
    """Pause *project*, or let it run if it is; return which."""
    is_paused = engine.call("project", project).is_paused
    name = engine.call("run_project" if is_paused else "pause_project", project).name
    return f"{name} {'runs' if is_paused else 'is paused'}"


# ---- questions -----------------------------------------------------------------------------


def _asked(engine: Link, listed: Listed) -> Answers:
    workers: list[WorkerStatus] = engine.call("workers")
    outsiders: OutsiderPage = engine.call("find_outside_workers", OutsiderFilter(order="-has"), limit=MOST_JOBS)
    if listed == "running":
        held = [job for worker in outsiders.workers for job in worker.jobs]
        jobs = _jobs(engine, [*(job for worker in workers for job in worker.running), *held])
    else:
        jobs = engine.call("find_jobs", JobFilter(state=listed), limit=MOST_JOBS).jobs
    few = OutsiderPage(outsiders.workers[:MOST], outsiders.found, outsiders.total)
    return Answers(engine.call("status"), engine.call("projects"), workers, few, listed, jobs)


def _jobs(engine: Link, ids: list[int]) -> list[JobStatus]:
    """Return the jobs that workers have in their hands; those of a chunk are shown by its first."""
    found = list[JobStatus]()
    for asked in [engine.start("job", id) for id in ids[:MOST_JOBS]]:
        with suppress(NotFound):  # its project was deleted just now
            found.append(asked.result())
    return found


# ---- the terminal --------------------------------------------------------------------------


class _Keys:
    """Keys as they are pressed."""

    def __init__(self) -> None:
        self._pressed: deque[str] = deque()

    def __call__(self, seconds: float) -> str:
        """Return the next key within so many *seconds*, "" if there is none."""
        if not self._pressed and select.select([sys.stdin], [], [], seconds)[0]:
            said = os.read(sys.stdin.fileno(), 1024).decode(errors="replace") or "q"  # nobody is there any more
            self._pressed.extend(MEANT.get(key, key) for key in KEY.findall(said))
        return self._pressed.popleft() if self._pressed else ""


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Have keys come at once and unseen, as long as the block lasts; the terminal is then as it was before."""
    import termios  # late: not on Windows
    import tty

    before = termios.tcgetattr(sys.stdin)
    signals = {each: signal.signal(each, _leave) for each in (signal.SIGTERM, signal.SIGHUP)}
    tty.setcbreak(sys.stdin)
    try:
        yield _Keys()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for each, handler in signals.items():
            signal.signal(each, handler)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
