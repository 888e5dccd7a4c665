"""Bring this machine as a worker to an engine, or to a Dask scheduler that somebody else started."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
from distributed import Security, Worker
from distributed.comm.core import connect

from .._version import __version__
from ..errors import AccessDenied, ClusterError, EngineError, EngineUnreachable, SchedulerUnreachable, WorkerUnfit
from ..tags import parse_offer
from ..verbs import JoinTicket
from .nodes import IDENTITY, configure_process, new_worker, security
from .settings import Certificate, Identity

logger = logging.getLogger(__name__)

ASK_SECONDS = 5.0  #: for the engine or the scheduler to answer
CLOSE_SECONDS = 3.0  #: for the worker to say good-bye
JOINED = "DCENGINE_JOINED"  #: says to what runs here how this machine reaches the engine, or its scheduler
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  #: seconds between attempts to come back

_ticket_decoder = msgspec.json.Decoder(JoinTicket)


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a worker's life, for whoever shows it to people."""

    kind: Literal["joined", "left", "waiting"]
    name: str
    scheduler: str = ""
    reason: str = ""


async def join(
    target: str,
    *,
    tags: str = "",
    nickname: str = "",
    slots: int = 1,
    name: str | None = None,
    on_event: Callable[[Joining], None] = lambda event: None,
) -> None:
    """Serve *target* as a worker with *slots* slots until cancelled; come back whenever it does.

    *target* is an engine's URL with its token, or the address of a Dask scheduler. Takes the process
    over as far as Dask's settings and logs go. Raises `InvalidTags`, `EngineUnreachable`,
    `AccessDenied`, `SchedulerUnreachable` or `WorkerUnfit` if the first attempt fails.
    """
    parse_offer(tags)
    name = name or f"{socket.gethostname()}-{secrets.token_hex(2)}"
    identity = Identity(tags=tags, nickname=nickname)
    pause, has_joined = FIRST_PAUSE, False
    while True:
        try:
            ticket = await _ticket_for(target, name)
            if ticket.nickname:  # of its token, which goes before what is said here
                identity = msgspec.structs.replace(identity, nickname=ticket.nickname)
            async with _Membership(ticket, name=name, identity=identity, slots=slots) as worker:
                os.environ[JOINED] = _bare(target)
                on_event(Joining(kind="joined", name=name, scheduler=ticket.scheduler))
                pause, has_joined = FIRST_PAUSE, True
                await worker.finished()
                identity = getattr(worker, IDENTITY)  # with the tags that it was given meanwhile
            on_event(Joining(kind="left", name=name, scheduler=ticket.scheduler, reason="the scheduler is gone"))
        except (WorkerUnfit, AccessDenied):
            raise  # waiting changes neither
        except (EngineError, ClusterError) as error:
            if not has_joined:
                raise
            on_event(Joining(kind="waiting", name=name, reason=str(error)))
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


class _Membership:
    """A Dask worker in this process, from its registration to its end."""

    def __init__(self, ticket: JoinTicket, *, name: str, identity: Identity, slots: int) -> None:
        self._ticket = ticket
        self._name = name
        self._identity = identity
        self._slots = slots
        self._directory = tempfile.TemporaryDirectory(prefix="dcengine-")
        self._worker: Worker | None = None

    async def __aenter__(self) -> Worker:
        try:
            return await self._register()
        except BaseException:
            await self._leave()
            raise

    async def __aexit__(self, *error: object) -> None:
        await self._leave()

    async def _register(self) -> Worker:
        scheduler = self._ticket.scheduler
        certificate = _certificate(self._ticket)
        await _check(scheduler, certificate)
        configure_process()
        self._worker = worker = new_worker(
            scheduler,
            name=self._name,
            identity=self._identity,
            slots=self._slots,
            certificate=certificate,
            directory=self._directory.name,
        )
        registering = asyncio.ensure_future(worker)
        try:
            # not wait_for(): before Python 3.12 it loses a cancellation that comes together with the result
            await asyncio.wait([registering], timeout=ASK_SECONDS)
        finally:
            registering.cancel()
        if not registering.done() or registering.cancelled():
            raise SchedulerUnreachable(scheduler, f"it did not take this worker within {ASK_SECONDS:g} s")
        if error := registering.exception():
            raise SchedulerUnreachable(scheduler, f"it did not take this worker: {_words(error)}") from error
        return worker

    async def _leave(self) -> None:
        """Close the worker; one that does not close in time is left to the end of the process."""
        if self._worker:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._worker.close(timeout=CLOSE_SECONDS, nanny=False), CLOSE_SECONDS)
        self._directory.cleanup()


async def _check(scheduler: str, certificate: Certificate | None) -> None:
    """Connect to *scheduler* once: a Dask worker by itself would try for ever, without a word."""
    options = (security(certificate) or Security()).get_connection_args("worker")
    try:
        comm = await connect(scheduler, timeout=ASK_SECONDS, **options)
        await comm.close()
    except (OSError, ValueError, TypeError, RuntimeError, asyncio.TimeoutError) as error:
        raise SchedulerUnreachable(scheduler, _words(error)) from error


# ---- tickets -------------------------------------------------------------------------------


async def _ticket_for(target: str, name: str) -> JoinTicket:
    """Return what it takes to join *target*."""
    if not target.startswith(("http://", "https://")):
        return JoinTicket(target, None, None, None, __version__)
    ticket = await _ask_engine(target)
    if ticket.version != __version__:
        reason = (
            f"it has dcengine {__version__}, the engine has {ticket.version}; "
            f"install that here: pip install dcengine=={ticket.version}"
        )
        raise WorkerUnfit(name, reason)
    return ticket


async def _ask_engine(target: str) -> JoinTicket:
    """Return the ticket that the engine at the URL *target* gives out; raises `EngineError`."""
    parts = urlsplit(target)
    token = parse_qs(parts.query).get("token", [""])[0]
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    limit = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, headers={"Authorization": f"Bearer {token}"}) as session,
            session.get(f"{base}/v1/cluster") as response,
        ):
            body = await response.read()
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        raise EngineUnreachable(base, _words(error)) from error
    if response.status in (401, 403):
        raise AccessDenied(f"the engine at {base} does not accept this token for joining", True)
    try:
        if response.status != 200:
            raise ValueError(f"it answered with status {response.status}")
        return _ticket_decoder.decode(body)
    except (ValueError, msgspec.DecodeError) as error:
        raise EngineUnreachable(base, f"what answers there is no engine: {_words(error)}") from error


def _certificate(ticket: JoinTicket) -> Certificate | None:
    if ticket.ca is None or ticket.certificate is None or ticket.key is None:
        return None
    return Certificate(ca=ticket.ca, certificate=ticket.certificate, key=ticket.key)


def _bare(target: str) -> str:
    """Return *target* without its token, and without a name and password before its host."""
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
