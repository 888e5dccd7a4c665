"""A worker's side of its heart: the process is started with the first lease, told what changes, and started anew."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from yarl import URL

from . import heart
from .asking import within
from .line import Line

logger = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  #: seconds before another heart is started: the first time, and at most
LIVED_SECONDS = 10.0  #: after which the next one is started as soon as the first
STOP_SECONDS = 1.0  #: for one that is dismissed to end
NEWS_SECONDS = 0.2  #: for which news of progress is gathered


class Pulse:
    """Keeps the leases that it is told of; *on_answer* hears of those that were lost, and of those nobody wants.

    It belongs to the event loop that first used it.
    """

    def __init__(self, url: str, token: str | None, on_answer: Callable[[list[str], list[str]], None]) -> None:
        self._url, self._token, self._on_answer = URL(url), token, on_answer
        self._leases: dict[str, float] = {}
        self._begun: set[str] = set()
        self._news: dict[str, Mapping[str, Any]] = {}  #: the newest progress, while it is gathered
        self._telling: asyncio.TimerHandle | None = None
        self._process: Process | None = None
        self._starting: asyncio.TimerHandle | None = None
        self._pause, self._began = FIRST_PAUSE, 0.0
        self._line: Line | None = None  #: to the present heart
        self._is_dismissed = False
        self._ended = asyncio.Event()

    def hold(self, leases: Mapping[str, float]) -> None:
        """Keep *leases*, seconds by token, from now on."""
        self._leases.update(leases)
        if self._process is not None:
            self._say(hold=list(leases.items()))
        elif self._starting is None:
            self._start()

    def begin(self, token: str) -> None:
        """Note that work on a task has begun: should the worker be killed, that may be the task's fault."""
        self._begun.add(token)
        self._say(begin=[token])

    def progress(self, token: str, news: Mapping[str, Any]) -> None:
        """Send *news* with one of the next beats; what is newer replaces it."""
        self._news[token] = news
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(NEWS_SECONDS, self._tell_news)

    def drop(self, tokens: Iterable[str]) -> None:
        """Keep these no longer."""
        tokens = list(tokens)
        for token in tokens:
            self._leases.pop(token, None)
            self._begun.discard(token)
            self._news.pop(token, None)
        self._say(drop=tokens)

    async def stop(self) -> None:
        """End the heart."""
        for timer in (self._starting, self._telling):
            if timer is not None:
                timer.cancel()
        self._starting = self._telling = None
        process = self._process
        if process is None:
            return
        self._is_dismissed = True
        self._say(bye=True)
        self._hang_up()
        await within(STOP_SECONDS, self._ended.wait())
        process.kill()  # does nothing to one that has ended
        await self._ended.wait()

    # ---- the process -----------------------------------------------------------------------

    def _start(self) -> None:
        """Have a heart."""
        self._starting, self._began = None, time.monotonic()
        try:
            process = self._process = _started()
        except OSError as problem:
            logger.error("no process can be started that keeps the leases, they may run out: %s", problem)
            self._start_later()
            return
        assert process.stdin is not None
        self._ended, self._line, self._is_dismissed = asyncio.Event(), Line(process.stdin), False
        # A thread, since pipes are no sockets everywhere.
        listening = (process, asyncio.get_running_loop())
        threading.Thread(target=self._listen, args=listening, name="dcengine-heart", daemon=True).start()
        place = {
            "parent": os.getpid(), "host": self._url.raw_host, "port": self._url.port,
            "tls": self._url.scheme == "https", "path": self._url.raw_path.rstrip("/"), "token": self._token,
        }  # fmt: skip
        self._say(**place)
        self._say(hold=list(self._leases.items()), begin=list(self._begun))

    def _start_later(self) -> None:
        """Have another heart, but not again and again where none lives."""
        if time.monotonic() - self._began > LIVED_SECONDS:
            self._pause = FIRST_PAUSE
        self._starting = asyncio.get_running_loop().call_later(self._pause, self._start)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _listen(self, process: Process, loop: asyncio.AbstractEventLoop) -> None:
        """Pass on what the heart says, until it has ended."""
        assert process.stdout is not None
        with suppress(RuntimeError):  # the loop was closed
            for line in process.stdout:
                loop.call_soon_threadsafe(self._hear, json.loads(line))
            process.wait()
            loop.call_soon_threadsafe(self._has_ended)
        process.stdout.close()

    def _hear(self, said: dict[str, Any]) -> None:
        if "trouble" in said:
            logger.info("a sign of life was not taken, trying again: %s", said["trouble"])
        else:
            self._on_answer(said["lost"], said["cancel"])

    def _has_ended(self) -> None:
        self._ended.set()
        self._process = None
        self._hang_up()
        if not self._is_dismissed:
            logger.warning("the process that keeps the leases has ended; another one is started")
            self._start_later()

    def _tell_news(self) -> None:
        news, self._telling, self._news = self._news, None, {}
        self._say(progress=news)

    def _say(self, **what: Any) -> None:
        """Tell the heart; if it has ended, the next one is told all there is."""
        if self._line is not None:
            self._line.say(json.dumps(what).encode() + b"\n")

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.hang_up()


def _started() -> Process:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", heart.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # Ctrl-C and Ctrl-Z in the terminal are the worker's to answer
    )
