"""A task in a worker's hands: what it is, and what can be said of it."""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ..codec import JSON, json_text, loads, pack_json
from ..errors import InvalidInput, InvalidOption
from ..verbs import Completion, LeasedTask, TaskFailure, TaskFlag
from ..verbs.leases import LENGTHS

logger = logging.getLogger(__name__)


class Release(msgspec.Struct, frozen=True):
    """A task that is put back."""

    token: str


Word = Completion | TaskFailure | TaskFlag | Release  #: the last that is said of a task
News = dict[str, Any]  #: progress
Said = TypeVar("Said")  #: what saying something gives: a coroutine, or nothing


class Holding:
    """What a worker knows of a task that it leased."""

    def __init__(self, leased: LeasedTask, name: str) -> None:
        self.leased = leased
        self.name = name  #: for people, such as laion/17
        self.word: Word | None = None  #: what was said of it
        self.is_accepted = False  #: and the engine took that in
        self.news: News | None = None  #: progress that is not on its way yet
        self.is_kept = False  #: it may be ended after the loop has gone on
        self.is_cancelled = False
        self.is_lost = False

        self._settled = asyncio.Event()

    @property
    def token(self) -> str:
        """What proves that it is held."""
        return self.leased.token

    @property
    def is_settled(self) -> bool:
        """Whether the engine has answered to the last that was said of it, or will not any more."""
        return self._settled.is_set()

    @property
    def is_worth_telling(self) -> bool:
        """Whether something was said of it that somebody else would have to find out anew."""
        return self.word is not None and not isinstance(self.word, Release)

    def claim(self, word: Word) -> bool:
        """Note the last that is said of it; tell whether it is the first word of that kind."""
        if self.word is not None:
            logger.warning("task %s had ended here; what was said of it later is not sent", self.name)
            return False
        self.word = word
        return True

    async def accepted(self) -> bool:
        """Wait for the answer to what was said; tell whether it was taken in."""
        await self._settled.wait()
        return self.is_accepted

    def settle(self, *, is_accepted: bool) -> None:
        """Note the answer to the last that was said."""
        self.is_accepted = is_accepted
        self._settled.set()


class Telling(ABC, Generic[Said]):
    """A task, and what can be said of it; `_tell` and `_say` bring that on its way."""

    def __init__(self, holding: Holding) -> None:
        self.holding = holding

    # ---- what it is ------------------------------------------------------------------------

    @property
    def raw(self) -> str:
        """The input as JSON text, as it was sent."""
        return bytes(self.holding.leased.input).decode()

    @cached_property
    def input(self) -> Any:
        """The input, a JSON value."""
        return loads(JSON + bytes(self.holding.leased.input))

    @property
    def job(self) -> int:
        """The id of its job."""
        return self.holding.leased.job

    @property
    def number(self) -> int:
        """The number of its job within the project."""
        return self.holding.leased.number

    @property
    def generation(self) -> int:
        """How often the job has been sent back to this stage."""
        return self.holding.leased.generation

    @property
    def attempt(self) -> int:
        """How often the task has been handed out, this time included."""
        return self.holding.leased.attempt

    @property
    def lease_seconds(self) -> float:
        """How long it stays with a worker that gives no sign of life."""
        return self.holding.leased.lease_seconds

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants it any more, as far as the last sign of life knows; what is said of it is in vain."""
        return self.holding.is_cancelled

    @property
    def is_lost(self) -> bool:
        """Whether its lease had ended when the engine was last asked: somebody else has it, or nobody wants it."""
        return self.holding.is_lost

    @property
    def is_ended(self) -> bool:
        """Whether it was completed, failed, flagged or released here."""
        return self.holding.word is not None

    # ---- what can be said of it ------------------------------------------------------------

    def progress(self, done: float | None = None, text: str = "", *, total: float | None = None) -> Said:
        """Say how far it is: a share from 0 to 1, or *done* of *total*; sent with a sign of life, the newest wins."""
        if done is not None and total is None and 0 <= done <= 1:
            total = 1.0
        news = {"done": _finite(done), "total": _finite(total), "text": _short("text", text)}
        is_first = self.holding.news is None
        self.holding.news = {name: value for name, value in news.items() if value not in (None, "")}
        return self._tell(is_first=is_first)

    def complete(self, output: object = None, *, raw: str | bytes | None = None, units: int | None = None) -> Said:
        """Hand *output* in, a JSON value, or *raw*, its JSON text; *units* count where the stage gives credit by units.

        Raises `NotJson` for a value that is none, and `InvalidOption` for a text that is none.
        """
        if raw is not None:
            text = _checked(raw)
        else:
            text = json_text(pack_json(output, what=f"the output of {self.holding.name}"))
        return self._say(Completion(token=self.holding.token, output=msgspec.Raw(text), units=units))

    def fail(self, reason: str) -> Said:
        """Say that it could not be done, through a fault of the code or the machine; retried as its stage says."""
        return self._say(TaskFailure(token=self.holding.token, reason=_short("reason", reason)))

    def flag(self, reason: str = "") -> Said:
        """Say that its input is bad."""
        return self._say(TaskFlag(token=self.holding.token, reason=_short("reason", reason)))

    def release(self) -> Said:
        """Put it back for others; that counts against nobody."""
        return self._say(Release(self.holding.token))

    # ---- and by whom -----------------------------------------------------------------------

    def keep(self) -> None:
        """Let the loop go on while somebody else, a thread say, works on it and will end it."""
        self.holding.is_kept = True

    def end_with(self, error: BaseException) -> Said:
        """Say what *error* means that the work on it raised."""
        if isinstance(error, InvalidInput):
            return self.flag(error.reason)
        if not isinstance(error, Exception):
            return self.release()
        logger.warning("task %s failed", self.holding.name, exc_info=error)
        return self.fail(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    @abstractmethod
    def _tell(self, *, is_first: bool) -> Said:
        """Send the progress that is noted; it is the first, or takes the place of some that is on its way."""

    @abstractmethod
    def _say(self, word: Word) -> Said:
        """Send the last that is said of it."""

    def __repr__(self) -> str:
        return f"<task {self.holding.name}, attempt {self.attempt}>"


class Bearer(Protocol):
    """Brings what is said of tasks to the engine; on its own loop."""

    def tell(self, holding: Holding) -> None:
        """Send the newest progress with one of the next signs of life."""

    def send(self, holding: Holding) -> None:
        """Send the last that was said of a task, in the background."""


class HeldTask(Telling[Coroutine[Any, Any, None]]):
    """A task in the hands of an `AsyncWorker`: ``await task.complete(output)``.

    What is said is sent in the background; `accepted` waits for the answer. With ``async with task:`` an exception
    fails it with its text, `InvalidInput` flags it, and what is meant to end the program releases it.
    """

    def __init__(self, holding: Holding, bearer: Bearer) -> None:
        super().__init__(holding)
        self._bearer = bearer

    async def accepted(self) -> bool:
        """Wait until the engine has answered to what was said of it; tell whether it took that in."""
        return await self.holding.accepted()

    async def _tell(self, *, is_first: bool) -> None:
        self._bearer.tell(self.holding)

    async def _say(self, word: Word) -> None:
        if self.holding.claim(word):
            self._bearer.send(self.holding)

    async def __aenter__(self) -> HeldTask:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or self.is_ended:
            return False
        await self.end_with(error)
        return isinstance(error, Exception)


def _checked(raw: str | bytes) -> bytes:
    """Return JSON text as it is; raises `InvalidOption` for what is none."""
    text = raw.encode() if isinstance(raw, str) else raw
    try:
        loads(JSON + text)
    except (ValueError, RecursionError) as error:
        raise InvalidOption("raw", repr(raw[:60]), f"the text of a JSON value ({error})") from None
    return text


def _short(what: str, text: object) -> str:
    """Return *text* as the engine takes it: whole characters, and the middle left out of what is too long."""
    whole = str(text).encode("utf-8", "backslashreplace").decode()
    limit = LENGTHS[what]
    return whole if len(whole) <= limit else f"{whole[: limit // 2 - 3]} ... {whole[-(limit // 2 - 3) :]}"


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)
