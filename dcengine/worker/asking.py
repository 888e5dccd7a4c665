"""The way of a worker to its engine: asks until it is answered, over restarts of minutes and lost answers."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Coroutine
from typing import Any

import aiohttp

from ..client.leases import AboutLeases, lease_question
from ..connection import POLL, STILL_AT_IT, Answer, Gone, Question
from ..errors import (
    AccessDenied,
    ContributorBanned,
    DcengineError,
    EngineError,
    EngineUnreachable,
    InvalidOption,
    LeaseLimitReached,
    StoreError,
    TooManyRequests,
)
from ..verbs import LeasedTask, LeaseRequest

logger = logging.getLogger(__name__)

FIRST_PATIENCE = 10.0  #: seconds to be answered for the first time; a wrong address is told so soon
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  #: seconds, at most, before the second try, and before any
SILENCE = 15.0  #: seconds until an answer counts as lost; a line may be cut and mended without a word
COLLECT_SECONDS = 0.2  #: to be told what a request has brought that nobody waits for any more

FINAL = (AccessDenied, ContributorBanned, LeaseLimitReached)  #: engine errors that asking again does not change
PASSING = (Gone, EngineError, StoreError)  #: what waiting may change, unless it is final


def pause_before(attempt: int) -> float:
    """Return the seconds to wait before the *attempt*-th try after the first.

    Exponential back-off with full jitter, as Marc Brooker describes it in "Exponential Backoff And Jitter" (AWS
    Architecture Blog, 2015): any time between none and the whole pause, so that many who failed at once do not
    come back at once.
    """
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 30)))


async def within(seconds: float, waiting: Coroutine[Any, Any, object]) -> bool:
    """Wait for what *waiting* waits for, so long at most; tell whether that came.

    `asyncio.wait_for` may lose a cancellation that comes in the same moment.
    """
    task = asyncio.ensure_future(waiting)
    try:
        done, _ = await asyncio.wait({task}, timeout=None if seconds == math.inf else seconds)
    finally:
        task.cancel()
    return bool(done)


class Asking(AboutLeases):
    """Asks the engine at *url* for tasks and says what became of them; belongs to one event loop.

    What is wrong with a question is raised; what is wrong with the engine or the way there is waited out, once it has
    answered for the first time.
    """

    silence = SILENCE

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__(url, token)
        self.has_answered = False
        self.trouble = ""  #: why there is no answer just now
        self._hurry = asyncio.Event()
        self._open: Question | None = None  #: a request for tasks whose answer was not heard

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        """Return up to *n* tasks; a request that was cut short is what `collect` asks after."""
        self._open = lease_question(request, min(request.wait, POLL))
        tasks = self._leased(await self._answer(self._open))
        self._open = None
        return tasks

    async def collect(self) -> list[LeasedTask]:
        """Return what a request for tasks has brought that was cut short; its answer may have been under way."""
        question, self._open = self._open, None
        if question is None:
            return []
        question = question._replace(query={"wait": COLLECT_SECONDS}, wait=COLLECT_SECONDS)
        try:
            answer = await asyncio.wait_for(self._send(question), 2 * COLLECT_SECONDS)
            # Whatever comes later comes for somebody who has hung up: the engine puts it back.
            return [] if answer.status == STILL_AT_IT else self._leased(self._good(answer))
        except (Gone, DcengineError, asyncio.TimeoutError):
            return []

    def _good(self, answer: Answer) -> Answer:
        if answer.status == 413 and not answer.body.startswith(b"{"):
            size = "so large that a proxy before the engine refuses it (HTTP 413)"
            raise InvalidOption("what is sent", size, "less; or have whoever runs the proxy raise its limit")
        return super()._good(answer)

    def hurry(self) -> None:
        """Have whoever waits before another try make it now."""
        self._hurry.set()

    async def _answer(self, question: Question) -> Answer:
        began, attempt = time.monotonic(), 0
        while True:
            try:
                answer = self._good(await self._send(question))
            except PASSING as problem:
                if isinstance(problem, FINAL):
                    raise
                if not self.has_answered and time.monotonic() - began > FIRST_PATIENCE:
                    raise problem if isinstance(problem, DcengineError) else self.unreachable() from None
                self._note(problem)
                await self._pause(pause_before(attempt), problem)
                attempt += 1
            else:
                self._note_answer()
                return answer

    async def _pause(self, seconds: float, problem: Exception) -> None:
        """Wait before another try, unless somebody is in a hurry; as long as the engine says, if it does."""
        if isinstance(problem, TooManyRequests):
            seconds += problem.seconds
        self._hurry.clear()
        await within(seconds, self._hurry.wait())

    def unreachable(self) -> EngineUnreachable:
        """Return the error of whoever was never answered."""
        return EngineUnreachable(self.url, self.trouble or "it does not answer")

    def _note(self, problem: Exception) -> None:
        if not self.trouble and not isinstance(problem, TooManyRequests):
            logger.warning("%s cannot be asked just now, trying again: %s", self.url, problem)
        self.trouble = str(problem) or type(problem).__name__

    def _note_answer(self) -> None:
        if self.trouble and self.has_answered:
            logger.info("%s answers again", self.url)
        self.has_answered, self.trouble = True, ""

    def _lane(self, *, waits: bool) -> aiohttp.ClientSession:
        # One session for all: a connection that is open already is there for the last word of a process that ends.
        return super()._lane(waits=False)
