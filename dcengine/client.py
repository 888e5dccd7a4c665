"""The engine's verbs over HTTP: what a process that does not own the engine talks through."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec
from yarl import URL

from .errors import AccessDenied, DcengineError, EngineClosed, EngineUnreachable, InvalidOption, OwnershipLost, rebuild
from .verbs import (
    AddedJobs,
    BatchStatus,
    BatchSubmission,
    EngineStatus,
    FailedItem,
    ItemsSubmission,
    JobResult,
    JobStatus,
    JoinTicket,
    LeaderboardRow,
    ProjectSpec,
    ProjectStatus,
    Report,
    StageOutput,
    Submission,
    Transcript,
    WorkerStatus,
)

logger = logging.getLogger(__name__)

Resolve = Callable[[], Awaitable[tuple[str, str]]]
Query = Mapping[str, str | float | None]

POLL = 25.0  #: seconds one question may wait at the engine; proxies give up after 30 or 60
PATIENCE = 4.0  #: seconds of trying again before an engine counts as unreachable
PATIENCE_WITH_RESOLVE = 60.0  #: the same where another engine may be found or started meanwhile
SILENCE = 60.0  #: seconds an engine may take to answer beyond what it was asked to wait
STATE_HEADER = "X-Dcengine-State"
PIECE = 1 << 20  #: bytes of a body that are sent at once
LANES = 200  #: questions that wait at the same time; each takes a connection, and processes may have 1,024

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_decode_reports = msgspec.msgpack.Decoder(list[Report]).decode
_decode_outputs = msgspec.msgpack.Decoder(list[StageOutput]).decode


class _Problem(msgspec.Struct):
    """An error as the server tells it."""

    error: str
    facts: list[Any]
    message: str = ""


class _Count(msgspec.Struct):
    cancelled: int


class _Found(msgspec.Struct):
    id: int


class _Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes


class _Gone(Exception):
    """The engine at the present address cannot answer; the reason is the argument."""


class Client:
    """Asks the engine at *url*, which may carry the token, a password and a path prefix.

    With *resolve*, an engine that stopped answering is looked for again; a repeated submission
    never becomes a second job. A client belongs to the event loop that first used it.
    """

    def __init__(self, url: str, token: str | None = None, resolve: Resolve | None = None) -> None:
        self._base, self.token = split_address(url, token)
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None
        self._waiting_session: aiohttp.ClientSession | None = None
        self._waiting = 0

    @property
    def url(self) -> str:
        """The engine's address, without a token."""
        return str(self._base)

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        sessions, self._session, self._waiting_session = (self._session, self._waiting_session), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    # ---- jobs ----------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> JobStatus:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        return self._value(JobStatus, await self._ask("POST", "v1/jobs", body=_encode(submission)))

    async def job(self, id: int) -> JobStatus:
        return await self._get(JobStatus, f"v1/jobs/{id}")

    async def jobs(self, *, state: str | None = None, before: int | None = None, limit: int = 50) -> list[JobStatus]:
        return await self._get(list[JobStatus], "v1/jobs", {"state": state, "before": before, "limit": limit})

    async def result(self, id: int, *, wait: float = 0.0) -> JobResult | None:
        async def ask(piece: float) -> JobResult | None:
            answer = await self._ask("GET", f"v1/jobs/{id}/result", {"wait": piece})
            if answer.status == 204:
                return None
            if STATE_HEADER not in answer.headers:
                raise self._not_ours(answer)
            return JobResult(answer.headers[STATE_HEADER], answer.body)

        return await self._until(ask, wait)

    async def output(self, id: int) -> str:
        return await self._text(f"v1/jobs/{id}/output")

    async def transcript(self, id: int, *, after: int = 0, wait: float = 0.0) -> Transcript:
        async def ask(piece: float) -> Transcript | None:
            said = await self._get(Transcript, f"v1/jobs/{id}/transcript", {"after": after, "wait": piece})
            return said if said.lines or said.is_complete else None

        return await self._until(ask, wait) or Transcript([])

    async def why(self, id: int) -> str:
        return await self._text(f"v1/jobs/{id}/why")

    async def interrupt(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/interrupt")

    async def kill(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/kill")

    async def cancel(self, id: int) -> JobStatus:
        return await self._post(JobStatus, f"v1/jobs/{id}/cancel")

    async def cancel_unfinished(self) -> int:
        return (await self._post(_Count, "v1/jobs/cancel-unfinished")).cancelled

    # ---- batches -------------------------------------------------------------------------------

    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        return self._value(BatchStatus, await self._ask("POST", "v1/batches", body=_encode(submission)))

    async def batch(self, id: int) -> BatchStatus:
        return await self._get(BatchStatus, f"v1/batches/{id}")

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        return await self._get(list[BatchStatus], "v1/batches", {"before": before, "limit": limit})

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        async def ask(piece: float) -> list[Report] | None:
            answer = await self._ask("GET", f"v1/batches/{id}/reports", {"after": after, "wait": piece})
            try:
                return _decode_reports(answer.body) or None
            except msgspec.DecodeError:
                raise self._not_ours(answer) from None

        return await self._until(ask, wait) or []

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        return await self._get(list[FailedItem], f"v1/batches/{id}/failures", {"limit": limit})

    async def cancel_batch(self, id: int) -> BatchStatus:
        return await self._post(BatchStatus, f"v1/batches/{id}/cancel")

    async def retry_batch(self, id: int) -> BatchStatus:
        return await self._post(BatchStatus, f"v1/batches/{id}/retry")

    # ---- projects ------------------------------------------------------------------------------

    async def declare_project(self, spec: ProjectSpec) -> ProjectStatus:
        return self._value(ProjectStatus, await self._ask("POST", "v1/projects", body=_encode(spec)))

    async def add_jobs(self, submission: ItemsSubmission) -> AddedJobs:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        path = f"{_path_of(submission.project)}/jobs"
        return self._value(AddedJobs, await self._ask("POST", path, body=_encode(submission)))

    async def run_project(self, name: str) -> ProjectStatus:
        return await self._post(ProjectStatus, f"{_path_of(name)}/run")

    async def project(self, name: str, *, stage: str | None = None, wait: float = 0.0) -> ProjectStatus:
        status: ProjectStatus | None = None

        async def ask(piece: float) -> ProjectStatus | None:
            nonlocal status
            status = await self._get(ProjectStatus, _path_of(name), {"stage": stage, "wait": piece})
            return None if status.open_until(stage) else status

        found = await self._until(ask, wait) or status
        assert found is not None  # it was asked for once at least
        return found

    async def projects(self) -> list[ProjectStatus]:
        return await self._get(list[ProjectStatus], "v1/projects")

    async def outputs(self, project: str, stage: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        return await self._outputs(f"{_path_of(project)}/outputs", {"stage": stage, "after": after, "limit": limit})

    async def failed_jobs(self, project: str, *, after: int = 0, limit: int = 1000) -> list[StageOutput]:
        return await self._outputs(f"{_path_of(project)}/failed-jobs", {"after": after, "limit": limit})

    async def _outputs(self, path: str, query: Query) -> list[StageOutput]:
        answer = await self._ask("GET", path, query)
        try:
            return _decode_outputs(answer.body)
        except msgspec.DecodeError:
            raise self._not_ours(answer) from None

    async def find_job(self, project: str, number: int) -> int:
        return (await self._get(_Found, f"{_path_of(project)}/jobs/{number}")).id

    # ---- the engine and its workers ------------------------------------------------------------

    async def workers(self) -> list[WorkerStatus]:
        return await self._get(list[WorkerStatus], "v1/workers")

    async def explain(self, tags: str) -> str:
        return await self._text("v1/explain", {"tags": tags})

    async def leaderboard(self, project: str = "functions") -> list[LeaderboardRow]:
        return await self._get(list[LeaderboardRow], "v1/leaderboard", {"project": project})

    async def status(self) -> EngineStatus:
        return await self._get(EngineStatus, "v1/status")

    async def join_ticket(self) -> JoinTicket:
        return await self._get(JoinTicket, "v1/cluster")

    # ---- asking --------------------------------------------------------------------------------

    async def _get(self, kind: type[T], path: str, query: Query | None = None) -> T:
        return self._value(kind, await self._ask("GET", path, query))

    async def _post(self, kind: type[T], path: str) -> T:
        return self._value(kind, await self._ask("POST", path))

    async def _text(self, path: str, query: Query | None = None) -> str:
        return (await self._ask("GET", path, query)).body.decode()

    def _value(self, kind: type[T], answer: _Answer) -> T:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError:
            raise self._not_ours(answer) from None

    async def _until(self, ask: Callable[[float], Awaitable[T | None]], wait: float) -> T | None:
        """Ask in pieces until there is an answer or *wait* seconds are over."""
        end = time.monotonic() + wait
        self._waiting += 1
        try:
            while True:
                found = await ask(min(max(0.0, end - time.monotonic()), self._longest_piece()))
                if found is not None or time.monotonic() >= end:
                    return found
        finally:
            self._waiting -= 1

    def _longest_piece(self) -> float:
        """Return how long one question may keep its lane.

        With more callers than lanes each hands its lane on soon, so that all get a turn about every 2 s.
        """
        return POLL if self._waiting <= LANES else max(0.2, 2.0 * LANES / self._waiting)

    async def _ask(self, method: str, path: str, query: Query | None = None, *, body: bytes | None = None) -> _Answer:
        """Ask until an engine answers; raises what the engine raised, or `EngineUnreachable`."""
        parameters = {name: str(value) for name, value in (query or {}).items() if value is not None}
        patience = PATIENCE if self._resolve is None else PATIENCE_WITH_RESOLVE
        failing_since: float | None = None
        pause = 0.0
        while True:
            try:
                return self._good(await self._send(method, path, body, parameters))
            except AccessDenied:
                # A new engine at the old address has new tokens.
                if not await self._found_another():
                    raise
            except _Gone as gone:
                now = time.monotonic()
                failing_since = failing_since or now
                if now + pause - failing_since > patience:
                    raise EngineUnreachable(self.url, str(gone)) from None
                logger.debug("asking %s again: %s", self.url, gone)
                await asyncio.sleep(pause)
                await self._found_another()
                pause = min(1.0, 2 * pause + 0.05)

    async def _found_another(self) -> bool:
        """Look for the engine again; tell whether its address or token changed."""
        if self._resolve is None:
            return False
        before = (self._base, self.token)
        self._base, self.token = split_address(*await self._resolve())
        return before != (self._base, self.token)

    async def _send(self, method: str, path: str, body: bytes | None, parameters: dict[str, str]) -> _Answer:
        """Make one request; raises `_Gone` where no engine answers."""
        wait = float(parameters.get("wait", 0))
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/msgpack"
            headers["Content-Length"] = str(len(body))
        try:
            async with self._lane(waits=wait > 0).request(
                method,
                self._base.joinpath(*path.split("/")),
                params=parameters,
                data=body if body is None or len(body) <= PIECE else _in_pieces(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=wait + SILENCE),
                allow_redirects=False,
            ) as response:
                return _Answer(response.status, response.headers, await response.read())
        except aiohttp.ClientConnectorCertificateError as error:
            reason = f"its certificate is not trusted ({error.certificate_error}); name its issuer in SSL_CERT_FILE"
            raise EngineUnreachable(self.url, reason) from None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise _Gone(_first_line(error)) from error

    def _lane(self, *, waits: bool) -> aiohttp.ClientSession:
        """Return the session for such a question: those that wait must never hold up the others."""
        if waits:
            self._waiting_session = self._waiting_session or _session(LANES)
            return self._waiting_session
        self._session = self._session or _session(50)
        return self._session

    def _good(self, answer: _Answer) -> _Answer:
        """Return *answer* if it is one, else raise the error in it."""
        if answer.status in (200, 204):
            return answer
        try:
            problem = msgspec.json.decode(answer.body, type=_Problem)
        except msgspec.DecodeError:
            if answer.status in (502, 503, 504):
                raise _Gone(f"HTTP {answer.status} from a proxy in front of it") from None
            raise self._not_ours(answer) from None
        error = _rebuilt(problem)
        if self._resolve is not None and isinstance(error, (EngineClosed, OwnershipLost)):
            raise _Gone(str(error)) from error
        raise error

    def _not_ours(self, answer: _Answer) -> EngineUnreachable:
        reason = f"what answers there (HTTP {answer.status}) is not dcengine; check the address and its prefix"
        return EngineUnreachable(self.url, reason)


def split_address(url: str, token: str | None = None) -> tuple[URL, str | None]:
    """Return the bare address and the token of *url*; *token* goes before the one inside it."""
    try:
        address = URL(url.strip())
        whole = address.scheme in ("http", "https") and bool(address.host)
    except ValueError:
        whole = False
    if not whole:
        raise InvalidOption("the engine's address", repr(url), "a URL such as http://127.0.0.1:8787/?token=...")
    found = token or address.query.get("token") or address.password
    return address.with_user(None).with_query(None).with_fragment(None), found or None


def _path_of(project: str) -> str:
    return f"v1/projects/{project}"


def _rebuilt(problem: _Problem) -> DcengineError:
    try:
        return rebuild(problem.error, problem.facts)
    except TypeError:  # an engine of another version tells other facts
        return rebuild(problem.error + " (of another version)", [problem.message])


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield *body* so that other questions get their turn while it is sent."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def _session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
