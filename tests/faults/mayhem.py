"""Mayhem: processes of an engine and its workers are killed or stopped at random, and started again as on any machine.

Here stands who is hit, when, and what is counted; what goes on meanwhile, and has to come out right, stands in
`test_cluster_chaos`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

import dcengine
from benchmarks.faults import processes
from tests.engines import environment, eventually, gone

WORKERS = 2  #: that the engine starts itself
LEASE = 2.0  #: seconds that a worker may be silent
PAUSES = 0.2, 3.0  #: seconds between two hits, at least and at most
AWAY = 0.0, 2.0  #: seconds before what was killed and nobody else starts again is started
LAST = 15.0  #: seconds at the end in which no engine is killed: a new one would put right what another has left stuck
STARTING = 1.5  #: seconds of a start, in which an engine is hit again
MARK = "DCENGINE_MAYHEM"  #: in the environment of all processes that belong to one place
BOX = "box"  #: the name of the machine that joins
WEIGHTS = {"child": 5, "fork server": 3, "worker": 4, "joined worker": 3, "launcher": 2, "scheduler": 2, "engine": 3}
STANDSTILLS = {"more than": (1.5, 2.5), "less than": (0.1, 0.6), "about": (0.9, 1.1)}  #: in leases


@dataclass
class Kept:
    """A program that is started again whenever it has ended, as a supervisor would do it."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    due: float = 0.0  #: when it is to be started
    is_ours: bool = False  #: its end was our doing
    surprises: list[str] = field(default_factory=list)  #: ends that were not

    def look_after(self, dice: random.Random) -> None:
        """Start it if it is due; take note of its end."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            if not self.is_ours:
                self.surprises.append(f"{self.command[3]} ended with {self.process.returncode}")
            self.process, self.is_ours, self.due = None, False, now + dice.uniform(*AWAY)
        if self.process is None and now >= self.due:
            self.start()

    def start(self, **more: Any) -> None:
        """Start it now."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stderr=log, **{"stdout": log, **more}
            )  # fmt: skip

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None:
            self.is_ours = True
            self.process.kill()

    def end(self) -> None:
        """End it politely, then by force."""
        if self.process is not None:
            self.is_ours = True
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Place:
    """An engine in a process of its own, a machine that has joined it, and all their processes."""

    def __init__(self, folder: Path) -> None:
        self.db, self.folder = folder / "work.db", folder
        self.name = uuid.uuid4().hex
        marked = environment(**{MARK: self.name, "DCENGINE_WORKER_LEASE": f"{LEASE:g}", "DCENGINE_LOG_LEVEL": "info"})
        command = [sys.executable, "-m", "dcengine"]
        options = ["--db", str(self.db), "--workers", str(WORKERS), "--json", "--port"]
        self.engine = Kept([*command, "serve", *options, "0"], marked, folder / "engine.log")
        self.engine.start(stdout=subprocess.PIPE)
        assert self.engine.process is not None
        assert self.engine.process.stdout is not None
        with self.engine.process.stdout as said:
            self.url = str(json.loads(said.readline())["url"])
        self.engine.command[-1] = str(urlsplit(self.url).port)
        self.box = Kept([*command, "join", self.url, "--name", BOX], marked, folder / "box.log")
        self.box.start()

    def look_after(self, dice: random.Random) -> None:
        """Start again what has ended."""
        self.engine.look_after(dice)
        self.box.look_after(dice)
        self.box.surprises.clear()  # it gives up by itself when it finds no engine the first time

    def find(self, kind: str) -> list[psutil.Process]:
        """Return the processes that *kind* names, as far as they are there at the moment."""
        roots = [_process(kept) for kept in (self.engine, self.box)]
        if kind in ("engine", "joined worker"):
            return [root for root in roots[kind != "engine" :][:1] if root is not None]
        return [one for root in roots if root is not None for one in processes(kind, root)]

    def everybody(self) -> list[psutil.Process]:
        """Return all living processes that belong to this place, whoever their parents are by now."""
        return [one for one in psutil.process_iter() if not gone([one]) and _is_of(one, self.name)]

    def is_well(self) -> bool:
        """Tell whether all slots are back: each worker has one, with a child, and nothing stands still."""
        try:
            workers = dcengine.workers()
        except dcengine.DcengineError:
            return False
        ready = sorted(one.name for one in workers if one.state == "ready")
        expected = sorted([BOX, *(f"w{n + 1}" for n in range(WORKERS))])
        return ready == expected and len(self.find("child")) >= len(expected) and not self.standing()

    def standing(self) -> list[psutil.Process]:
        """Return the processes that stand still."""
        return [one for one in self.everybody() if _status(one) == psutil.STATUS_STOPPED]

    def end(self) -> list[psutil.Process]:
        """End all of it; return what was left behind, which is killed."""
        for kept in (self.box, self.engine):
            kept.end()
        with suppress(AssertionError):
            eventually(lambda: not self.everybody(), 10)
        left = self.everybody()
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        return left


@dataclass
class Mayhem:
    """What happens to the processes of a *place*."""

    place: Place
    dice: random.Random
    hits: Counter[str] = field(default_factory=Counter)  #: by who was hit and how
    story: list[str] = field(default_factory=list)  #: the hits, in order
    _deck: deque[tuple[str, str]] = field(default_factory=deque)
    _standing: list[tuple[float, psutil.Process]] = field(default_factory=list)
    _again: float = float("inf")  #: when an engine that starts is killed

    def go_on(self, seconds: float, report: Callable[[], None]) -> None:
        """Hit one after the other for *seconds*; *report* is called now and then."""
        begun = time.monotonic()
        due = begun + self.dice.uniform(*PAUSES)
        while (now := time.monotonic()) < begun + seconds:
            self.place.look_after(self.dice)
            self._let_go_on(now)
            if now >= self._again:
                self._again = float("inf")
                self._hit("engine", "killed while it starts", now - begun)
            if now >= due and self._hit(*self._draw(may_restart=now < begun + seconds - LAST), now - begun):
                due = now + self.dice.uniform(*PAUSES)
            report()
            time.sleep(0.02)
        self._let_go_on(float("inf"))

    def _draw(self, *, may_restart: bool) -> tuple[str, str]:
        """Return the next of a shuffled deck, so that everybody has their turn also in a short time."""
        if not may_restart:
            self._deck = deque(card for card in self._deck if card != ("engine", "killed"))
        if not self._deck:
            hows = ["killed", *(f"stopped for {word} its lease" for word in STANDSTILLS)]
            cards = [(kind, hows[n % len(hows)]) for kind, weight in WEIGHTS.items() for n in range(weight)]
            self.dice.shuffle(cards)
            if not self.hits:  # kills first, for a slow machine does not get far; before them the engine
                cards.sort(key=lambda card: (card[1] != "killed", card[0] != "engine"))
            self._deck.extend(cards)
        card = self._deck.popleft()
        return card if may_restart or card != ("engine", "killed") else self._draw(may_restart=False)

    def _hit(self, kind: str, how: str, at: float) -> bool:
        """Have it happen to one of those whom it may hit; return False if there is none at the moment."""
        found = self.place.find(kind)
        if not found:
            self._deck.append((kind, how))
            return False
        victim = self.dice.choice(found)
        with suppress(psutil.NoSuchProcess):  # it has just ended by itself
            if how.startswith("killed"):
                self._kill(kind, victim)
            else:
                low, high = STANDSTILLS[how.removeprefix("stopped for ").removesuffix(" its lease")]
                victim.suspend()
                self._standing.append((time.monotonic() + LEASE * self.dice.uniform(low, high), victim))
            self.hits[kind] += 1
            self.story.append(f"{at:7.2f} s: {kind} (process {victim.pid}) {how}")
        return True

    def _kill(self, kind: str, victim: psutil.Process) -> None:
        if kind == "engine":
            self.place.engine.kill()
            if self.dice.random() < 0.25:
                self._again = time.monotonic() + AWAY[1] + self.dice.uniform(0, STARTING)
        elif kind == "joined worker":
            self.place.box.kill()
        else:
            victim.kill()

    def _let_go_on(self, until: float) -> None:
        """Let those go on who have stood still for long enough."""
        for one in [one for one in self._standing if one[0] <= until]:
            self._standing.remove(one)
            with suppress(psutil.NoSuchProcess):
                one[1].resume()


@contextmanager
def place_in(folder: Path) -> Iterator[Place]:
    """A place that ends in any case, with all its processes."""
    place = Place(folder)
    try:
        yield place
    finally:
        for one in place.standing():
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)
        place.end()


def _process(kept: Kept) -> psutil.Process | None:
    if kept.process is None or kept.process.poll() is not None:
        return None
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(kept.process.pid)
    return None


def _is_of(process: psutil.Process, name: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == name
    except (psutil.Error, OSError):  # it has ended, or is somebody else's
        return False


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD
