"""A kernel on a worker, for whoever asked for it: its job is submitted, the line to it kept, its end noticed."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import signal
import time
from contextlib import suppress
from typing import Any

import msgspec

from dcengine.calls import submission_of
from dcengine.client import Client
from dcengine.errors import DcengineError
from dcengine.plain import clean

from ..errors import KernelNotStarted
from . import places
from .job import MIME, HostKernel
from .line import Asker, AskerEnd, Begin, Ended, Ping, Signal, Started, Where

logger = logging.getLogger(__name__)

PRIORITY = 100  #: somebody sits and waits for it
BEAT = 1.0  #: seconds between two signs of life
SILENCE = 3.0  #: seconds without a word after which the engine is asked what became of the job
GIVEN_UP = 15.0  #: seconds of silence of both, after which the kernel counts as dead
LAST_WORD = 0.1  #: seconds for what the host told before its job ended: it says more
KILL_SECONDS = 1.0  #: seconds for a kernel that was killed to be gone, before its host is
KILLED = -9  #: the status of a kernel of which no other is known
KILL = 9  #: SIGKILL, also where Python has no such name
BRING_ONE = "bring one with `dcengine join`"
OURS = re.compile(r"^dcengine[\w.]*\.errors\.\w+: ")  #: how reasons begin that are ours
STREAMS = ("stdout", "stderr")
OUTPUT = 2000  #: characters of what a kernel printed that its error quotes


class Launch:
    """One kernel; it belongs to the loop that it is made on, and *client* is closed with it."""

    def __init__(self, client: Client, tags: str) -> None:
        self.status: int | None = None  #: that the kernel ended with; None while it lives
        self.job: int | None = None
        self._client, self._tags = client, tags
        self._line = AskerEnd()
        self._attempt = 0
        self._heard = 0.0
        self._started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._watching: list[asyncio.Task[None]] = []

    def has_ended(self) -> bool:
        """Tell whether the kernel is known to have ended."""
        return self.status is not None

    async def start(self, title: str, begin: Begin, limit: float) -> dict[str, Any]:
        """Return how the kernel is reached; raises `KernelNotStarted` if it is not within *limit* seconds."""
        asker = Asker(self._line.key, places.machine(), places.own_address(places.host_of(self._client.url)))
        options = {"tags": self._tags, "on_no_match": "fail", "priority": PRIORITY, "crash_retries": 0}
        submission = submission_of(HostKernel(title), (msgspec.to_builtins(asker),), {}, options)
        self.job = (await self._client.submit(submission)).id
        try:
            return await asyncio.wait_for(self._reached(begin), limit)
        except asyncio.TimeoutError:
            why = await self._why_not_yet()
            await self._end_job()
            raise KernelNotStarted(self._tags, f"it took more than {limit:g} s; job {self.job}: {why}") from None
        except BaseException:
            await self._end_job()
            raise

    async def signal(self, number: int) -> None:
        """Send the kernel a signal; by way of its job, if the line is silent."""
        if self.has_ended():
            return
        if time.monotonic() - self._heard < SILENCE:
            await self._line.send(Signal(number))
        elif number == signal.SIGINT:
            await self._client.interrupt(self._id)
        else:
            await self._end_job()

    async def kill(self) -> None:
        """End the kernel, and if need be its host."""
        if self.has_ended():
            return
        await self._line.send(Signal(KILL))
        deadline = time.monotonic() + KILL_SECONDS
        while not self.has_ended() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if not self.has_ended():
            await self._end_job()
            await self._end_with(KILLED)

    async def close(self) -> None:
        """Let go of everything; a kernel that still lives ends."""
        if not self.has_ended():
            self.status = KILLED
            await self._end_job()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._line.close()
        await self._client.close()

    @property
    def _id(self) -> int:
        assert self.job is not None
        return self.job

    # ---- its start -----------------------------------------------------------------------------

    async def _reached(self, begin: Begin) -> dict[str, Any]:
        """Return how the kernel is reached, once it listens."""
        self._line.connect(await self._where())
        self._attempt = (await self._client.job(self._id)).attempt
        self._heard = time.monotonic()
        await self._line.send(begin)
        self._watching = [asyncio.create_task(work) for work in (self._listen(), self._beat(), self._await_end())]
        return await self._started

    async def _where(self) -> Where:
        """Return where the host of the kernel is reached, once it runs."""
        last = 0
        while True:
            said = await self._client.transcript(self._id, after=last, wait=20.0)
            for line in said.lines:
                last = line.number
                if line.kind == "display" and (where := _where_in(line.text)) is not None:
                    return where
            if said.is_complete:
                raise await self._why_not()

    async def _why_not(self) -> KernelNotStarted:
        """Return why there is no kernel, for a job that has ended."""
        try:
            status = await self._client.job(self._id)
            if status.state == "failed" and not status.attempt:
                return KernelNotStarted(self._tags, f"{(await self._client.explain(self._tags)).sentence}; {BRING_ONE}")
            said = await self._client.transcript(self._id)
        except DcengineError as error:
            return KernelNotStarted(self._tags, str(error))
        printed = "".join(line.text for line in said.lines if line.kind in STREAMS).strip()[-OUTPUT:]
        reason = OURS.sub("", status.reason or f"its job {status.id} was {status.state}")
        return KernelNotStarted(self._tags, reason + (f". It printed: {clean(printed, OUTPUT)}" if printed else ""))

    async def _why_not_yet(self) -> str:
        """Return why there is no kernel so far."""
        try:
            return await self._client.why(self._id)
        except DcengineError as error:
            return str(error)

    # ---- its life ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear what the host tells."""
        while True:
            told = await self._line.receive()
            self._heard = time.monotonic()
            if isinstance(told, Started) and not self._started.done():
                self._started.set_result(told.connection)
            elif isinstance(told, Ended) and self._started.done():  # else the end of the job says why
                self.status = told.status

    async def _beat(self) -> None:
        """Give signs of life; ask the engine about the job when none come back."""
        while not self.has_ended():
            await self._line.send(Ping())
            await asyncio.sleep(BEAT)
            silence = time.monotonic() - self._heard
            if silence > SILENCE and await self._is_lost():
                await self._end_job()
                await self._end_with(KILLED)

    async def _is_lost(self) -> bool:
        """Tell whether the run of the job that hosts the kernel is over: its worker is gone, or nobody knows of it."""
        try:
            status = await self._client.job(self._id)
        except DcengineError as error:
            is_given_up = time.monotonic() - self._heard > GIVEN_UP
            if is_given_up:
                logger.warning("the kernel of job %s counts as dead: it is silent, and %s", self.job, error)
            return is_given_up
        return status.is_final or status.task_state != "leased" or status.attempt != self._attempt

    async def _await_end(self) -> None:
        """Notice the end of the job, in whatever way it comes."""
        with suppress(DcengineError):
            if await self._client.result(self._id, wait=math.inf) is not None:
                await asyncio.sleep(LAST_WORD)
                await self._end_with(KILLED)

    async def _end_with(self, status: int) -> None:
        """Take note that the kernel has ended, unless that is known; who waits for its start hears why."""
        if not self.has_ended():
            self.status = status
        reason = None if self._started.done() else await self._why_not()
        if reason is not None and not self._started.done():
            self._started.set_exception(reason)

    async def _end_job(self) -> None:
        """End the job: it is not to be run again for nobody."""
        if self.job is not None:
            with suppress(DcengineError):
                await self._client.kill(self.job)


def _where_in(text: str) -> Where | None:
    """Return where a kernel's host says that it is reached, None for what says something else."""
    try:
        return msgspec.convert(msgspec.json.decode(text)["data"][MIME], Where)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError):
        return None
