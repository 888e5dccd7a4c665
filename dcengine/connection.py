"""The way to an engine over HTTP: asks again until it answers, and looks for it again where it can.

What is asked stands in `client`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec
from yarl import URL

from .errors import AccessDenied, DcengineError, EngineClosed, EngineUnreachable, InvalidOption, OwnershipLost, rebuild
from .logs import redact

logger = logging.getLogger(__name__)

Resolve = Callable[[], Awaitable[tuple[str, str]]]
Query = Mapping[str, str | float | None]

POLL = 25.0  #: seconds one question may wait at the engine; proxies give up after 30 or 60
PATIENCE = 4.0  #: seconds of trying again before an engine counts as unreachable
PATIENCE_WITH_RESOLVE = 60.0  #: the same where another engine may be found or started meanwhile
SILENCE = 60.0  #: seconds an engine may take to answer beyond what it was asked to wait
PIECE = 1 << 20  #: bytes of a body that are sent at once
MSGPACK = "application/msgpack"
KEY = "Idempotency-Key"  #: names the header; asked twice under one key, an engine does once what it was asked
STILL_AT_IT = 202  #: the status of an answer that says: come back for the end, under the same key
LANES = 200  #: questions that wait at the same time; each takes a connection, and processes may have 1,024

T = TypeVar("T")


class Problem(msgspec.Struct):
    """An error as the server tells it."""

    error: str  #: the name of its class
    facts: list[Any]  #: what the class is made from
    message: str = ""  #: what happened, to what, and the way out


class Question(NamedTuple):
    """One request, sent as often as it takes."""

    method: str
    path: str
    query: Query = {}
    body: bytes | None = None
    content_type: str = MSGPACK
    pieces: AsyncIterable[Any] | None = None  #: a body instead that is never in memory as a whole
    key: str | None = None  #: under which its repetitions are known as such
    wait: float = 0.0  #: seconds that the engine may keep it waiting

    def once(self) -> Question:
        """Return this question with a key of its own: it will be done once, however often it is sent."""
        return self._replace(key=uuid.uuid4().hex)

    def with_json(self, value: object) -> Question:
        """Return this question with *value* as its body; raises `InvalidOption` for text that cannot travel."""
        try:
            return self._replace(body=msgspec.json.encode(value), content_type="application/json")
        except UnicodeEncodeError as error:
            raise InvalidOption("a text", ascii(error.object)[:100], "one that UTF-8 can say") from None

    def headers(self, token: str | None) -> dict[str, str]:
        """Return the headers that it is sent with."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self.key is not None:
            headers[KEY] = self.key
        if self.pieces is not None:
            headers["Content-Type"] = self.content_type
        if self.body is not None:
            headers["Content-Type"] = self.content_type
            headers["Content-Length"] = str(len(self.body))
        return headers


class Answer(NamedTuple):
    """What an engine answered."""

    status: int
    headers: Any
    body: bytes


class Gone(Exception):
    """The engine at the present address cannot answer; the reason is the argument."""


class Connection:
    """Asks the engine at *url*, which may carry the token, a password and a path prefix.

    With *resolve*, an engine that stopped answering is looked for again. It belongs to the event loop that first
    used it.
    """

    silence = SILENCE

    def __init__(self, url: str, token: str | None = None, resolve: Resolve | None = None) -> None:
        self._base, self.token = split_address(url, token)
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None
        self._waiting_session: aiohttp.ClientSession | None = None
        self._waiting = 0
        self._has_answered = False

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

    # ---- asking --------------------------------------------------------------------------------

    async def _get(self, kind: type[T], path: str, query: Query | None = None) -> T:
        return self._value(kind, await self._ask("GET", path, query))

    async def _post(self, kind: type[T], path: str, query: Query | None = None, *, value: object = None) -> T:
        """Ask for something to be done, once however often the question has to be repeated; *value* travels as JSON."""
        question = Question("POST", path, query or {}).once()
        return self._value(kind, await self._answer(question if value is None else question.with_json(value)))

    async def _long_post(self, kind: type[T], path: str, *, value: object = None) -> T:
        """Ask for something that may take hours, and come back for its end."""
        question = Question("POST", path).once()
        if value is not None:
            question = question.with_json(value)

        async def ask(piece: float) -> Answer | None:
            answer = await self._answer(question._replace(query={"wait": piece}, wait=piece))
            return None if answer.status == STILL_AT_IT else answer

        answer = await self._until(ask, math.inf)
        assert answer is not None  # nothing ends such a wait but an answer
        return self._value(kind, answer)

    async def _text(self, path: str, query: Query | None = None) -> str:
        return (await self._ask("GET", path, query)).body.decode()

    def _unpacked(self, decode: Callable[[bytes], T], answer: Answer) -> T:
        """Return what *decode* finds in *answer*."""
        try:
            return decode(answer.body)
        except msgspec.DecodeError:
            raise self._not_ours(answer) from None

    def _value(self, kind: type[T], answer: Answer) -> T:
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

    async def _ask(self, method: str, path: str, query: Query | None = None, *, body: bytes | None = None) -> Answer:
        """Ask until an engine answers; *body* is what `verbs` has for it, as msgpack."""
        query = query or {}
        return await self._answer(Question(method, path, query, body, wait=float(query.get("wait") or 0)))

    async def _answer(self, question: Question) -> Answer:
        """Ask until an engine answers; raises what the engine raised, or `EngineUnreachable`."""
        patience = PATIENCE if self._resolve is None else PATIENCE_WITH_RESOLVE
        failing_since: float | None = None
        pause = 0.0
        while True:
            try:
                return self._good(await self._send(question))
            except AccessDenied:
                # A new engine at the old address has new tokens.
                if not await self._found_another():
                    raise
            except Gone as gone:
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

    async def _send(self, question: Question) -> Answer:
        """Make one request; raises `Gone` where no engine answers."""
        body = question.body
        try:
            async with self._lane(waits=question.wait > 0).request(
                question.method,
                self._base.joinpath(*question.path.split("/")),
                params={name: str(value) for name, value in question.query.items() if value is not None},
                data=question.pieces if body is None else body if len(body) <= PIECE else _in_pieces(body),
                headers=question.headers(self.token),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=question.wait + self.silence),
                allow_redirects=False,
            ) as response:
                self._has_answered = True
                return Answer(response.status, response.headers, await response.read())
        except aiohttp.ClientConnectorCertificateError as error:
            reason = f"its certificate is not trusted ({error.certificate_error}); name its issuer in SSL_CERT_FILE"
            raise EngineUnreachable(self.url, reason) from None
        except aiohttp.ClientConnectorSSLError as error:
            reason = f"no TLS is to be had there ({_first_line(error)}); without it, its address begins with http:"
            raise EngineUnreachable(self.url, reason) from None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise Gone(_first_line(error) + self._hint(error)) from error

    def _hint(self, error: BaseException) -> str:
        """Return what may be wrong with an address at which somebody hangs up without a word."""
        is_silent = isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError))
        if not is_silent or self._has_answered or self._base.scheme != "http":
            return ""
        return "; if it speaks TLS, its address begins with https:"

    def _lane(self, *, waits: bool) -> aiohttp.ClientSession:
        """Return the session for such a question: those that wait must never hold up the others."""
        if waits:
            self._waiting_session = self._waiting_session or _session(LANES)
            return self._waiting_session
        self._session = self._session or _session(50)
        return self._session

    def _good(self, answer: Answer) -> Answer:
        """Return *answer* if it is one, else raise the error in it."""
        if answer.status in (200, STILL_AT_IT, 204):
            return answer
        try:
            problem = msgspec.json.decode(answer.body, type=Problem)
        except msgspec.DecodeError:
            if answer.status in (502, 503, 504):
                raise Gone(f"HTTP {answer.status} from a proxy in front of it") from None
            raise self._not_ours(answer) from None
        error = _rebuilt(problem)
        if self._resolve is not None and isinstance(error, (EngineClosed, OwnershipLost)):
            raise Gone(str(error)) from error
        raise error

    def _not_ours(self, answer: Answer) -> EngineUnreachable:
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
        raise InvalidOption("the engine's address", redact(repr(url)), "a URL such as http://127.0.0.1:8787/?token=...")
    found = token or address.query.get("token") or address.password
    return address.with_user(None).with_query(None).with_fragment(None), found or None


def _rebuilt(problem: Problem) -> DcengineError:
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
    return redact((str(error).strip() or type(error).__name__).splitlines()[0])
