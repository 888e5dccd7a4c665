"""The front: `submit`, `map`, `job`, `batch` and friends, and which engine they talk to.

In this order: an `Engine` opened in this process; the one named by `connect` or ``DCENGINE_URL``; the owner
of ``./dcengine.db``; one started in the background for that file.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, overload

from . import config, owner, times
from .batches import BatchHandle
from .calls import batch_of, submission_of
from .cautions import Told, warn_of
from .errors import EngineClosed, InvalidOption
from .handles import JobHandle, Link
from .lists import Explained, JobList, Leaderboard, SessionList, WorkerList, found_jobs
from .loops import LoopThread, RunningLoop
from .options import CallOptions, Duration, SubmitOptions, taken_out, takes
from .owner import find_or_start
from .values import Reference, pieces_to_put
from .verbs import BatchSubmission, EngineStatus, JobFilter, Span, Submission, Verbs, WorkerStatus

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ThreadLink:
    """The way from any thread to an engine's verbs on their own loop; implements `handles.Link`."""

    def __init__(self, verbs: Verbs, thread: LoopThread | RunningLoop, address: tuple[str, str] | None = None) -> None:
        self.verbs = verbs
        self.address = address  #: URL and token by which another process reaches an engine of this one
        self.is_left = False  #: the engine at its end is closing
        self.told: Told = set()  #: functions, each with a worker whose versions were warned of
        self._thread = thread

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Ask for *verb* and wait for the answer."""
        if self._thread.is_current:
            raise RuntimeError(f"{verb} would wait for its own thread; use the engine's coroutines there")
        future = self.start(verb, *args, **kwargs)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Ask for *verb*; the future ends with the answer."""
        if self.is_left or self._thread.loop.is_closed():
            raise self.closed()
        return self._thread.start(self._answer(getattr(self.verbs, verb)(*args, **kwargs)))

    async def _answer(self, question: Coroutine[Any, Any, Any]) -> Any:
        """Return the answer to *question*; what meets the closing of its engine is told so."""
        try:
            return await question
        except (Exception, asyncio.CancelledError):
            if self.is_left:
                raise self.closed() from None
            raise

    @cached_property
    def file(self) -> str:
        """What the engine's file is called, wherever it lies."""
        status: EngineStatus = self.call("status")
        return status.file

    def __reduce__(self) -> tuple[Any, ...]:
        return LaterLink, (self.file,)

    def closed(self) -> EngineClosed:
        """Return the error of those who ask an engine that is closed."""
        return EngineClosed(str(getattr(self.verbs, "db", "this process")))


class LaterLink:
    """The way of a handle that was pickled, to the engine in use when it is first asked; implements `handles.Link`.

    That has to be one of the same file: another has other jobs under the same ids.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._link: ThreadLink | None = None

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Ask for *verb* and wait for the answer; raises `InvalidOption` where the engine in use is another's."""
        return self._found().call(verb, *args, **kwargs)

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Ask for *verb*; the future ends with the answer."""
        return self._found().start(verb, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return LaterLink, (self.file,)

    def _found(self) -> ThreadLink:
        if self._link is None or self._link.is_left:
            link = front.current()
            if link.file != self.file:
                expected = f"one of the database that it was pickled with; in use is {front.describe()}"
                raise InvalidOption("the engine of this handle", "another one's", expected)
            self._link = link
        return self._link


_chosen: ContextVar[ThreadLink | None] = ContextVar("dcengine_link", default=None)


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
        if (chosen := _chosen.get()) is not None:
            return chosen
        if self._embedded:
            return self._embedded[-1]
        if self._named is None:
            address = self._address or self._address_in_settings()
            if address is None:
                return self._of_file()
            from .client import Client  # late: an engine of this process is asked without

            self._named = ThreadLink(Client(*address), self._loop())
        return self._named

    def at_hand(self) -> ThreadLink | None:
        """Return the way to an engine that was asked before; starts none."""
        ways = [*self._embedded, self._named, *self._by_file.values()]
        return next((way for way in ways if way is not None), None)

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
        """Use the engine at *url* from now on; one that does not answer changes nothing."""
        from .client import Client  # late: an engine of this process is asked without

        named = ThreadLink(Client(url, token), self._loop())
        try:
            named.call("status")
        except BaseException:
            named.call("close")
            raise
        self.forget()
        self._address, self._named = (url, token), named

    def forget(self) -> None:
        """Go back to the usual search, whatever was chosen."""
        named, self._address, self._named, self._db = self._named, None, None, None
        if named is not None:
            named.call("close")

    def use_db(self, path: Path) -> None:
        """Use the engine of the file *path* from now on."""
        self.forget()
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
        # Never freed: a connection that is, would have the parent hear nothing more of it. Both have the same epoll.
        left = (self._embedded, self._named, self._by_file, self._thread)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))
        self._embedded, self._named, self._by_file, self._thread = [], None, {}, None

    def _of_file(self) -> ThreadLink:
        db = (self._db or Path(config.load().db)).resolve()
        if db not in self._by_file:
            owner = find_or_start(db)

            async def resolve() -> tuple[str, str]:
                found = await asyncio.get_running_loop().run_in_executor(None, find_or_start, db)
                return found.url, found.token

            from .client import Client

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


@contextmanager
def using(link: ThreadLink) -> Iterator[None]:
    """Have what the block calls, and nobody else, use the engine that *link* leads to."""
    before = _chosen.set(link)
    try:
        yield
    finally:
        _chosen.reset(before)


def connect(url: str | None = None, token: str | None = None) -> None:
    """Use the engine at *url* from now on; None goes back to the usual search, after `use_db` too.

    *url* may carry its token (``?token=...``), as `dcengine serve` prints it. Raises `EngineUnreachable`
    if nobody answers there and `AccessDenied` for a wrong token; the engine in use is then the one it was.
    """
    if url is None:
        front.forget()
    else:
        front.connect(url, token)


def use_db(path: str | Path) -> None:
    """Use the engine of the file *path* instead of ``./dcengine.db``, until `connect` says otherwise."""
    front.use_db(Path(path))


# ---- functions -----------------------------------------------------------------------------


class Caller:
    """What can be asked for in a program: of the engine in use, or of one in particular."""

    def _way(self) -> ThreadLink:
        """Return the way to the engine that is asked."""
        return front.current()

    @overload
    def submit(
        self, function: Callable[..., Any], /, *args: Any, **options: Unpack[SubmitOptions]
    ) -> JobHandle: ...  # with arguments by position
    @overload
    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobHandle: ...
    @takes(SubmitOptions, and_others=True)
    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobHandle:
        """Store a call of *function* as a job and return its handle; it is durable when this returns.

        Handles among the arguments, or inside the function, stand for results: the call waits until those are there.

        Args:
            tags: expression a worker must satisfy, such as ``"gpu.memory>=16GiB & cuda>=12"``.
            retries: further runs allowed after the function raised.
            crash_retries: further runs allowed after the process ended under it: a segfault, out of memory.
            timeout: how long one run may take, in seconds, as a timedelta, or as a text such as ``"10m"``.
            priority: higher runs earlier.
            key: a name of your own; the same key gives the same job, not a second one.
            on_no_match: when no worker has the tags, ``"wait"`` for one (and warn) or ``"fail"`` the job.
            not_before: when it may begin: a datetime, Unix seconds, a timedelta from now.
            keep: how long after its end its values are kept; None: for ever.
            session: run in the one living process of this name, in which what calls keep in modules stays.

        All options stand in `options.SubmitOptions`; other keywords are the function's own.
        Raises `NotPicklable`, `InvalidTags`, `InvalidOption`, `PayloadTooLarge`; nothing is stored then.
        """
        given, own = taken_out(kwargs, SubmitOptions)
        return self._submit(submission_of(function, args, own, given))

    @takes(CallOptions)
    def map(
        self, function: Callable[..., Any], /, *iterables: Iterable[Any], **options: Unpack[CallOptions]
    ) -> BatchHandle:
        """Store a call of *function* for each item of *iterables* (as the built-in `map` pairs them) as one batch.

        The options are those of `submit`, for each item by itself. Iterate the handle for results in order.
        """
        if not iterables:
            raise InvalidOption("iterables", "missing", "at least one, such as map(function, [1, 2, 3])")
        return self._submit_batch(batch_of(function, zip(*iterables, strict=False), options))

    def _submit(self, submission: Submission) -> JobHandle:
        """Have one call stored; return its handle."""
        link = self._way()
        status = link.call("submit", submission)
        warn_of(link.told, submission, status)
        return JobHandle(link, status.id)

    def _submit_batch(self, submission: BatchSubmission) -> BatchHandle:
        """Have the calls of a batch stored; return its handle."""
        link = self._way()
        status = link.call("submit_batch", submission)
        warn_of(link.told, submission, status)
        return BatchHandle(link, status)

    def put(self, value: Any, *, keep: Duration | None = None) -> Reference:
        """Store *value* for many calls to refer to: pass the reference, and the function gets the value.

        It is durable when this returns, travels to each worker once, and is kept until `Reference.delete`, or for
        *keep*: seconds, a timedelta, or a text such as ``"2h"``. The same value put twice is stored once.
        Functions should not change it: the calls of a worker share it, its arrays cannot be written to.
        """
        link = self._way()
        seconds = None if keep is None else times.seconds("keep", keep)
        return Reference(link, link.call("put_value", pieces_to_put(value), keep=seconds))

    def reference(self, digest: str) -> Reference:
        """Return the reference to the value with this *digest*, from any process; raises `NotFound`."""
        link = self._way()
        return Reference(link, link.call("value", digest))

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

    def list_jobs(
        self,
        *,
        state: str | None = None,
        project: str | None = None,
        stage: str | None = None,
        submitter: str | None = None,
        worker: str | None = None,
        text: str | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> JobList:
        """Return the newest jobs, all or those in *state*: open, succeeded, failed, cancelled.

        Batches come beside them, unless more is said of the jobs. Raises `InvalidOption`, `NotFound`.

        Args:
            stage: where they are now, or ended.
            submitter: who brought them, as user@host.
            worker: who has them, or had them last.
            text: in the name of their function, their key or tags; a number: theirs, or their id.
            before: only those with an id below; `JobList.older` of the page before.
        """
        link = self._way()
        facts = {"state": state, "project": project, "stage": stage, "submitter": submitter, "worker": worker}
        wanted = JobFilter(text=text or "", **{name: value or "" for name, value in facts.items()})
        jobs, older = found_jobs(partial(link.call, "find_jobs"), wanted, before, limit)
        is_first = wanted == JobFilter(state=wanted.state) and before is None
        batches = link.call("batches", limit=limit) if is_first else []
        listed = [batch for batch in batches if state in (None, batch.state)]
        return JobList(jobs, listed, project, link=link, wanted=wanted, before=before, older=older)

    def workers(self) -> WorkerList:
        """Return the workers with their tags and what they run."""
        link = self._way()
        return WorkerList(link.call("workers"), link)

    def explain(self, tags: str) -> Explained:
        """Return in a sentence which workers match the expression *tags*, or what the nearest one lacks.

        The sentence is a text; its `workers` say of each worker which clauses it lacks.
        """
        return Explained.of(self._way().call("explain", tags))

    def tag_worker(self, name: str, tags: str) -> WorkerStatus:
        """Give worker *name* the *tags* ``gpu,site=lab`` in place of those of its owner's making.

        What it finds by itself stays. Jobs that wait are matched anew. Raises `NotFound`, `InvalidTags`, `WorkerUnfit`.
        """
        status: WorkerStatus = self._way().call("tag_worker", name, tags)
        return status

    def sessions(self) -> SessionList:
        """Return the sessions that live, with their workers, and those that are lost."""
        return SessionList(self._way().call("sessions"))

    def end_session(self, name: str) -> bool:
        """End a session, with its process and all that was kept there; return False if there is none.

        What runs in it is cancelled, what waits for it fails. The next call with this name begins it anew.
        """
        return bool(self._way().call("end_session", name))

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


caller = Caller()  #: asks the engine in use
submit = caller.submit
map = caller.map
put = caller.put
reference = caller.reference
job = caller.job
batch = caller.batch
list_jobs = caller.list_jobs
workers = caller.workers
sessions = caller.sessions
end_session = caller.end_session
explain = caller.explain
tag_worker = caller.tag_worker
leaderboard = caller.leaderboard


def check_span(span: object) -> None:
    """Raise `InvalidOption` for what is no span of a leaderboard."""
    if span not in get_args(Span):
        raise InvalidOption("span", repr(span)[:100], " or ".join(repr(known) for known in get_args(Span)))
