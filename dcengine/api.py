"""The front: `submit`, `map`, `job`, `batch` and friends, and which engine they talk to.

In this order: an `Engine` opened in this process; the one named by `connect` or ``DCENGINE_URL``; the owner
of ``./dcengine.db``; one started in the background for that file.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias, get_args

from . import config, owner, times
from .client import Client
from .codec import pack, pack_call, pack_function
from .errors import EngineClosed, InvalidOption
from .handles import BatchHandle, JobHandle, Link
from .jobs import CRASH_RETRIES
from .lists import Leaderboard, WorkerList
from .loops import LoopThread
from .owner import find_or_start
from .verbs import BatchSubmission, OnNoMatch, Options, Span, Submission, Verbs

BLOCK_ITEMS, BLOCK_BYTES = 4096, 1 << 20  #: of inputs packed together

Moment: TypeAlias = float | datetime | timedelta | str  #: what `times.moment` reads
Duration: TypeAlias = float | timedelta | str  #: what `times.seconds` reads


class NoMatchWarning(UserWarning):
    """No worker has the tags that a job needs: it waits for one."""


class ThreadLink:
    """The way from any thread to an engine's verbs on their own loop; implements `handles.Link`."""

    def __init__(self, verbs: Verbs, thread: LoopThread, address: tuple[str, str] | None = None) -> None:
        self.verbs = verbs
        self.address = address  #: URL and token by which another process reaches an engine of this one
        self.is_left = False  #: the engine at its end is closing
        self._thread = thread

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Ask for *verb* and wait for the answer."""
        if self._thread.is_current:
            raise RuntimeError(f"{verb} would wait for its own thread; use the engine's coroutines there")
        future = self.start(verb, *args, **kwargs)
        try:
            return future.result()
        except Exception:
            if self.is_left:  # what it met was the closing of its engine
                raise self._closed() from None
            raise
        except BaseException:
            future.cancel()
            raise

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Ask for *verb*; the future ends with the answer."""
        if self.is_left or self._thread.loop.is_closed():
            raise self._closed()
        return self._thread.start(getattr(self.verbs, verb)(*args, **kwargs))

    def _closed(self) -> EngineClosed:
        return EngineClosed(str(getattr(self.verbs, "db", "this process")))


class Front:
    """Which engine this process uses, and its connections; one per process."""

    def __init__(self) -> None:
        self._embedded: list[ThreadLink] = []  #: the engines opened in this process, the newest last
        self._address: tuple[str, str | None] | None = None  #: of the engine asked for by name
        self._named: ThreadLink | None = None
        self._db: Path | None = None
        self._by_file: dict[Path, ThreadLink] = {}
        self._thread: LoopThread | None = None

    def current(self) -> ThreadLink:
        """Return the way to the engine that calls use now."""
        if self._embedded:
            return self._embedded[-1]
        if self._named is None:
            address = self._address or self._address_in_settings()
            if address is None:
                return self._of_file()
            self._named = ThreadLink(Client(*address), self._loop())
        return self._named

    def describe(self) -> str:
        """Say which engine `current` would return the way to, without starting or asking one."""
        if self._embedded:
            return f"the engine of this process, for {getattr(self._embedded[-1].verbs, 'db', 'a file of its own')}"
        if self._address:
            return f"the engine at {owner.bare(self._address[0])}"
        return owner.describe(self._db)

    def _address_in_settings(self) -> tuple[str, str | None] | None:
        if self._db is not None:  # asked for in the program, so it goes before the environment
            return None
        settings = config.load()
        return (settings.url, settings.token) if settings.url else None

    def connect(self, url: str, token: str | None) -> None:
        self.disconnect()
        self._address = (url, token)

    def disconnect(self) -> None:
        named, self._address, self._named = self._named, None, None
        if named is not None:
            named.call("close")

    def use_db(self, path: Path) -> None:
        self.disconnect()
        self._db = path

    def enter(self, link: ThreadLink) -> None:
        """Make an engine that was opened in this process the one to use."""
        self._embedded.append(link)

    def leave(self, link: ThreadLink) -> None:
        """Stop using an engine that is being closed."""
        link.is_left = True
        if link in self._embedded:
            self._embedded.remove(link)

    def drop_after_fork(self) -> None:
        """Forget loops and engines, whose threads stayed in the parent; keep where they answer."""
        if self._embedded:
            self._address = self._embedded[-1].address
        self._embedded, self._named, self._by_file, self._thread = [], None, {}, None

    def _of_file(self) -> ThreadLink:
        db = (self._db or Path(config.load().db)).resolve()
        if db not in self._by_file:
            owner = find_or_start(db)

            async def resolve() -> tuple[str, str]:
                found = await asyncio.get_running_loop().run_in_executor(None, find_or_start, db)
                return found.url, found.token

            self._by_file[db] = ThreadLink(Client(owner.url, owner.token, resolve), self._loop())
        return self._by_file[db]

    def _loop(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread("dcengine-client")
        return self._thread


front = Front()  #: this process's choice of engine
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=front.drop_after_fork)


# ---- which engine --------------------------------------------------------------------------


def current() -> ThreadLink:
    """Return the way to the engine that `submit` and the others use."""
    return front.current()


def connect(url: str | None = None, token: str | None = None) -> None:
    """Use the engine at *url* from now on; None goes back to the usual search.

    *url* may carry its token (``?token=...``), as `dcengine serve` prints it. Raises `EngineUnreachable`
    if nobody answers there and `AccessDenied` for a wrong token.
    """
    if url is None:
        front.disconnect()
        return
    try:
        front.connect(url, token)
        front.current().call("status")
    except BaseException:
        front.disconnect()
        raise


def use_db(path: str | Path) -> None:
    """Use the engine of the file *path* instead of ``./dcengine.db``."""
    front.use_db(Path(path))


# ---- functions -----------------------------------------------------------------------------


class Caller:
    """What can be asked for in a program: of the engine in use, or of one in particular."""

    def _way(self) -> ThreadLink:
        """Return the way to the engine that is asked."""
        return front.current()

    def submit(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        tags: str = "",
        retries: int = 0,
        crash_retries: int = CRASH_RETRIES,
        timeout: float | None = None,
        priority: int = 0,
        key: str | None = None,
        on_no_match: OnNoMatch = "wait",
        not_before: Moment | None = None,
        keep: Duration | None = None,
        **kwargs: Any,
    ) -> JobHandle:
        """Store a call of *function* as a job and return its handle; it is durable when this returns.

        Args:
            tags: expression a worker must satisfy, such as ``"gpu.memory>=16GiB & cuda>=12"``.
            retries: further runs allowed after the function raised.
            crash_retries: further runs allowed after the process ended under it: a segfault, out of memory.
            timeout: seconds one run may take.
            priority: higher runs earlier.
            key: a name of your own; the same key gives the same job, not a second one.
            on_no_match: when no worker has the tags, ``"wait"`` for one (and warn) or ``"fail"`` the job.
            not_before: when it may begin: a datetime, Unix seconds, a timedelta from now.
            keep: how long after its end its values are kept, in seconds or as a timedelta; None: for ever.

        Raises `NotPicklable`, `InvalidTags`, `InvalidOption`, `PayloadTooLarge`; nothing is stored then.
        """
        submission = Submission(
            function=pack_function(function),
            input=pack_call(args, kwargs),
            options=options(
                tags, retries, timeout, priority, on_no_match, crash_retries, not_before=not_before, keep=keep
            ),
            key=key,
            submitter=submitter(),
        )
        link = self._way()
        status = link.call("submit", submission)
        _warn(status.warning, tags)
        return JobHandle(link, status.id)

    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        tags: str = "",
        retries: int = 0,
        timeout: float | None = None,
        priority: int = 0,
        on_no_match: OnNoMatch = "wait",
        not_before: Moment | None = None,
        keep: Duration | None = None,
    ) -> BatchHandle:
        """Store a call of *function* for each item of *iterables* (as the built-in `map` pairs them) as one batch.

        The options are those of `submit`, for each item by itself. Iterate the handle for results in order.
        """
        if not iterables:
            raise InvalidOption("iterables", "missing", "at least one, such as map(function, [1, 2, 3])")
        blocks, count = _blocks(zip(*iterables, strict=False))
        submission = BatchSubmission(
            function=pack_function(function),
            blocks=blocks,
            count=count,
            options=options(tags, retries, timeout, priority, on_no_match, not_before=not_before, keep=keep),
            submitter=submitter(),
        )
        link = self._way()
        status = link.call("submit_batch", submission)
        _warn(status.warning, tags)
        return BatchHandle(link, status)

    def job(self, id: int | str) -> JobHandle:
        """Return the handle of job *id*, also by its place in a project, as in ``"photos/17"``; raises `NotFound`."""
        link = self._way()
        found = id_of(link, id)
        link.call("job", found)
        return JobHandle(link, found)

    def batch(self, id: int) -> BatchHandle:
        """Return the handle of batch *id*; raises `NotFound`."""
        link = self._way()
        return BatchHandle(link, link.call("batch", id))

    def workers(self) -> WorkerList:
        """Return the workers with their tags and what they run."""
        link = self._way()
        return WorkerList(link.call("workers"), link)

    def explain(self, tags: str) -> str:
        """Return which workers match the expression *tags*, or what the nearest one lacks."""
        return str(self._way().call("explain", tags))

    def leaderboard(self, project: str = "functions", *, span: Span = "all") -> Leaderboard:
        """Return the contributors of *project* by their credit of all time, or the last month, week or day."""
        check_span(span)
        link = self._way()
        return Leaderboard(link.call("leaderboard", project, span=span), project, link, span)


def id_of(link: Link, job: int | str) -> int:
    """Return the id of *job*, which may be given as text, or by its project and number; raises `NotFound`."""
    if isinstance(job, int):
        return job
    project, slash, number = job.rpartition("/")
    if not number.isascii() or not number.isdigit() or bool(project) != bool(slash):
        raise InvalidOption("a job", repr(job), "an id such as 1234, or a project and a number such as photos/17")
    return int(link.call("find_job", project, int(number))) if project else int(number)


_caller = Caller()
submit = _caller.submit
map = _caller.map
job = _caller.job
batch = _caller.batch
workers = _caller.workers
explain = _caller.explain
leaderboard = _caller.leaderboard


# ---- packing -------------------------------------------------------------------------------


def options(
    tags: str,
    retries: int,
    timeout: float | None,
    priority: int,
    on_no_match: OnNoMatch,
    crash_retries: int = CRASH_RETRIES,
    *,
    not_before: Moment | None = None,
    keep: Duration | None = None,
) -> Options:
    """Return what was asked for as one value; raises `InvalidOption`."""
    if on_no_match not in ("wait", "fail"):
        raise InvalidOption("on_no_match", repr(on_no_match), "'wait' or 'fail'")
    for name, value in (("retries", retries), ("crash_retries", crash_retries), ("priority", priority)):
        if not isinstance(value, int):
            raise InvalidOption(name, repr(value), "a whole number")
    if timeout is not None and not isinstance(timeout, int | float):
        raise InvalidOption("timeout", repr(timeout), "a number of seconds")
    return Options(
        tags=str(tags), retries=retries, crash_retries=crash_retries, timeout=timeout, priority=priority,
        on_no_match=on_no_match, not_before=None if not_before is None else times.moment("not_before", not_before),
        keep=None if keep is None else times.seconds("keep", keep),
    )  # fmt: skip


def check_span(span: object) -> None:
    """Raise `InvalidOption` for what is no span of a leaderboard."""
    if span not in get_args(Span):
        raise InvalidOption("span", repr(span)[:100], " or ".join(repr(known) for known in get_args(Span)))


def _blocks(calls: Iterator[tuple[Any, ...]]) -> tuple[list[bytes], int]:
    """Return the arguments of all calls, packed in blocks, and their number."""
    blocks: list[bytes] = []
    count = 0
    for block, items in blocks_of(pack_call(args, {}) for args in calls):
        blocks.append(block)
        count += items
    return blocks, count


def blocks_of(packed: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield *packed* values in blocks, each with the number of its values."""
    values: list[bytes] = []
    size = 0
    for value in packed:
        if values and (len(values) >= BLOCK_ITEMS or size + len(value) > BLOCK_BYTES):
            yield pack(values), len(values)
            values, size = [], 0
        values.append(value)
        size += len(value)
    if values:
        yield pack(values), len(values)


def submitter() -> str:
    """Return who submits: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        user = f"uid{os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"


def _warn(missing: str | None, tags: str) -> None:
    if missing is not None:
        warnings.warn(f"no worker matches {tags!r} yet, the job waits: {missing}", NoMatchWarning, stacklevel=3)
