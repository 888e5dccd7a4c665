"""What each worker has said last, to tell what it says again because the answer was lost. No I/O.

An old client asks again 2.5 seconds after its connection broke, on a new one, and nothing in the request tells that.
What it does on purpose comes on the connection that it has, or at once, or after it has said something else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable

import msgspec

LEAST_SECONDS = 2.0  #: before it asks again; the client waits 2.5
MOST_SECONDS = 60.0  #: idle connections are closed soon after: from then on a new one says nothing
MOST_TIMES = 5  #: in a row that the same job is handed out again
KEPT = 50_000  #: workers remembered


class Word(msgspec.Struct, frozen=True):
    """What a worker said, and what it was told."""

    what: str  #: the call
    connection: Hashable
    at: float  #: when it came, by the monotonic clock
    status: int = 200
    digest: bytes = b""  #: of what it handed in
    times: int = 1  #: that it was said in a row

    def is_like(self, before: Word) -> bool:
        """Tell whether this says what *before* said, which went well."""
        return (self.what, self.digest, 200) == (before.what, before.digest, before.status)


def is_new_job_repeated(word: Word, before: Word | None) -> bool:
    """Tell whether a worker that holds a job asks for it again, as far as that can be told."""
    if before is None:  # it spoke to an engine that has ended: whoever asks on purpose gets another one next time
        return True
    is_elsewhere = word.connection != before.connection
    is_in_time = LEAST_SECONDS <= word.at - before.at <= MOST_SECONDS
    return word.is_like(before) and is_elsewhere and is_in_time and before.times <= MOST_TIMES


def is_end_repeated(word: Word, before: Word | None) -> bool:
    """Tell whether a worker that holds nothing says again how its last job has ended."""
    if before is None:
        return True
    is_later = word.at - before.at >= LEAST_SECONDS
    return word.is_like(before) and (is_later or word.connection != before.connection)


class Acquaintance:
    """A worker that was heard of in the life of this engine; what it asks is answered one by one."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.last: Word | None = None
        self.address: str | None = None
        self.place: tuple[str, str] | None = None  #: project and stage
        self.is_idle = True  #: it holds nothing


class Acquaintances:
    """The workers heard of lately, by their tokens."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Acquaintance] = OrderedDict()

    def of(self, token: str) -> Acquaintance:
        """Return what is known of the worker with this *token*."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = Acquaintance()
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(token)
        return known

    def forget(self, token: str) -> None:
        """Know nothing of the worker with this *token* any more."""
        self._known.pop(token, None)

    def idle_at(self, address: str | None, place: tuple[str, str]) -> list[str]:
        """Return the tokens of those that hold nothing, spoke last from *address*, and work at *place*."""
        return [
            token
            for token, known in self._known.items()
            if known.is_idle and known.address == address and known.place == place
        ]
