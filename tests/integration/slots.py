"""Real slots for tests: units of real functions, what they said, and processes that must be gone."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from dcengine.codec import Failure, exception_from, loads, pack, pack_call, pack_function, unpack, unpack_failure
from dcengine.runner.nursery import Nursery
from dcengine.runner.slot import ChildSlot
from dcengine.runner.threads import ThreadSlot
from dcengine.runner.units import Ending, Live, Unit, UnitReport
from dcengine.verbs import Progress

AnySlot = ChildSlot | ThreadSlot

_ids = itertools.count(1)


def unit(function: Callable[..., Any], *calls: tuple[Any, ...], **options: Any) -> Unit:
    """Return a unit with one call of *function* for each of *calls*; without any, one call without arguments."""
    packed = pack_function(function)
    calls = calls or ((),)
    return Unit(
        id=next(_ids),
        function=packed.digest,
        name=packed.name,
        code=packed.code,
        items=pack([pack_call(call, {}) for call in calls]),
        count=len(calls),
        **options,
    )


def stage_unit(function: Callable[..., Any], *values: bytes, **options: Any) -> Unit:
    """Return a unit as a stage has it: one call for each of the packed *values*."""
    return msgspec.structs.replace(
        unit(function), items=pack(values), count=len(values), **{"takes": "value", **options}
    )


def endings(report: UnitReport) -> list[Ending]:
    return [Ending(ending) for ending in report.endings]


def results(report: UnitReport) -> list[Any]:
    """Return the results of a report all of whose calls succeeded."""
    assert set(endings(report)) == {Ending.SUCCEEDED}, (endings(report), unpack(report.values))
    return [loads(value) for value in unpack(report.values)]


def failure(report: UnitReport, item: int = 0) -> Failure:
    """Return what went wrong with call *item*."""
    return unpack_failure(unpack(report.values)[item])


def error(report: UnitReport, item: int = 0) -> BaseException:
    """Return the exception that call *item* would raise at its submitter's."""
    return exception_from(failure(report, item))


class Ear:
    """Hears what calls say."""

    def __init__(self) -> None:
        self.messages: list[Live] = []

    def __call__(self, message: Live) -> None:
        self.messages.append(message)

    def text(self, *kinds: str) -> str:
        """Return what was printed, on all streams or on those of *kinds*."""
        kinds = kinds or ("stdout", "stderr")
        return b"".join(message.data for message in self.messages if message.kind in kinds).decode()

    def progress(self) -> list[Progress]:
        """Return the progress that was heard."""
        decode = msgspec.msgpack.Decoder(Progress).decode
        return [decode(message.data) for message in self.messages if message.kind == "progress"]


@asynccontextmanager
async def child_slot(ear: Callable[[Live], None] | None = None, worker: str = "w1") -> AsyncIterator[ChildSlot]:
    """Give a slot with a child; afterwards neither child nor fork server may be left."""
    before = descendants()
    nursery = Nursery(worker)
    slot = ChildSlot(nursery, ear or Ear())
    await slot.start()
    try:
        yield slot
    finally:
        await slot.close()
        await nursery.close()
    assert not descendants() - before


@asynccontextmanager
async def thread_slot(ear: Callable[[Live], None] | None = None, worker: str = "w1") -> AsyncIterator[ThreadSlot]:
    """Give a slot with a thread."""
    slot = ThreadSlot(worker, ear or Ear())
    await slot.start()
    try:
        yield slot
    finally:
        await slot.close()


def child_of(slot: ChildSlot) -> int:
    """Return the process id of the slot's child."""
    assert slot._child is not None
    return slot._child.process


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.005)


def descendants() -> set[int]:
    """Return the ids of all living processes below this one."""
    return {process.pid for process in psutil.Process().children(recursive=True) if is_alive(process.pid)}


def is_alive(process: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def mark(path: Path | str) -> None:
    """Make the file *path*: a call tells that it got so far."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


async def marked(*paths: Path) -> None:
    """Wait until all of *paths* exist."""
    await until(lambda: all(path.exists() for path in paths))


def numbered(messages: Iterable[Live]) -> list[int]:
    return [message.number for message in messages]
