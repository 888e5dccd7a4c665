"""What an engine of this process is made of, on its own loop: the engine itself and its HTTP side.

Loaded when one is started, and beside the processes that are started for it: it takes half a second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from .api import ThreadLink
from .cluster import ClusterSettings, Launched
from .config import ShownSetting
from .endpoints import Endpoint, EndpointSettings, Surroundings, found
from .engine import Engine
from .errors import StoreError
from .forms import WorkloadForms
from .jobs import Project
from .loops import Across
from .open_files import with_room
from .server import Limits, Port, Proxies, Rates, application, close_ports, listen, open_ports, places_of
from .verbs import Grant

IDLE_LOOK_SECONDS = 1.0


class HttpSide:
    """How an engine is asked over HTTP; raises `InvalidOption` for proxies or rates that cannot be."""

    def __init__(
        self,
        *,
        allow_hosts: list[str],
        trusted_proxies: list[str],
        prefix: str | None,
        max_connections: int,
        open_metrics: bool,
        volunteer_rate: float,
        volunteer_body_limit: int,
        private_webhooks: bool,
        kernels: bool,
        files: str,
        kernel_idle: float | None,
        kernel_tags: list[str],
        blobs: str | None,
        shown_settings: list[ShownSetting],
        **listening: Any,
    ) -> None:
        self._limits = Limits(connections=with_room(max_connections))
        self._options: dict[str, Any] = {
            "allowed_hosts": allow_hosts, "proxies": Proxies(trusted_proxies, prefix), "limits": self._limits,
            "open_metrics": open_metrics, "rates": Rates(volunteer_rate, volunteer_body_limit),
            "shown_settings": shown_settings,
        }  # fmt: skip
        self.private_webhooks = private_webhooks
        self._listening = listening
        self._endpoints = EndpointSettings(files, kernel_idle, blobs, tuple(kernel_tags)) if kernels else None
        self._added: list[Endpoint] = []

    def application(self, verbs: Any, who: Hosted | Later) -> web.Application:
        """Return a new application that asks *verbs* for those whom *who* knows."""
        added: list[Endpoint] = []
        if self._endpoints is not None:
            added = list(found(Surroundings(verbs, lambda: who.url, self._endpoints)))
            self._added += added
        return application(
            verbs, access=who, measured=verbs, known_project=who.known_project, endpoints=added,
            forms=WorkloadForms(verbs), **self._options,
        )  # fmt: skip

    def is_in_use(self) -> bool:
        """Tell whether an endpoint of an application made here has something to do, though nobody asks."""
        return any(endpoint.is_in_use() for endpoint in self._added)

    async def listen(self, app: web.Application) -> Any:
        """Serve *app*; raises what `server.listen` raises."""
        return await listen(app, limits=self._limits, **self._listening)


class Hosted:
    """An engine with its HTTP side; says who may ask, and when nobody has for long."""

    def __init__(
        self,
        db: Path,
        settings: ClusterSettings,
        blobs: str | None,
        http: HttpSide,
        *,
        token: str,
        finished: threading.Event,
        idle_exit: float | None,
        protocol_ports: Sequence[str] = (),
        insecure: bool = False,
    ) -> None:
        self.url = ""  #: of its HTTP side, without a token
        self.engine = Engine(db, settings, blobs)
        self.engine.trust(token)
        self.engine.may_tell_private = http.private_webhooks
        self._http, self._finished, self._idle_exit = http, finished, idle_exit
        self._places, self._insecure = places_of(protocol_ports), insecure
        self._ports: list[Port] = []
        self._last_used = time.monotonic()

    async def start(self, launched: Launched | None) -> int:
        """Start; return how many jobs are unfinished. *launched* is the beginning of the cluster."""
        left = await self.engine.start(launched)
        try:
            self._ports = await open_ports(self._places, self.engine, insecure=self._insecure)
            self._listening = await self._http.listen(self._http.application(self.engine, self))
        except BaseException:
            await close_ports(self._ports)
            await self.engine.close()
            raise
        self.engine.begin_to_hear()
        self.url = self.engine.url = self._listening.url
        self.engine.ports = self.ports
        self._watch = asyncio.get_running_loop().create_task(self._watch_itself())
        return left

    async def stop(self) -> int:
        """Stop; return how many jobs are unfinished."""
        self._watch.cancel()
        await close_ports(self._ports)
        self.engine.end_waits()
        await self._listening.close()
        return await self.engine.close()

    async def _watch_itself(self) -> None:
        """Set `finished` once there is no reason to go on."""
        while True:
            await asyncio.sleep(IDLE_LOOK_SECONDS)
            with suppress(StoreError, asyncio.TimeoutError):
                await asyncio.wait_for(self.engine.confirm_ownership(), IDLE_LOOK_SECONDS)
            if self.engine.broken is not None:
                self._finished.set()
            if self._idle_exit is not None and (self._is_in_use() or await self.engine.unfinished()):
                self._last_used = time.monotonic()
            if self._idle_exit is not None and time.monotonic() - self._last_used > self._idle_exit:
                self._finished.set()

    def _is_in_use(self) -> bool:
        return self._http.is_in_use() or any(port.is_in_use for port in self._ports)

    @property
    def ports(self) -> dict[str, str]:
        """Where which protocol is answered on a port of its own, as ADDRESS:PORT."""
        return {port.protocol: port.address for port in self._ports}

    # ---- who may ask: called for each request, on the loop of the application that got it ------

    def grant_of(self, token: str) -> Grant | None:
        """Return what *token* allows, None for an unknown, expired or revoked one; its own allows everything."""
        grant = self.engine.grant_of(token)
        if grant is not None:
            self._last_used = time.monotonic()
        return grant

    def is_open(self, project: str | None = None) -> bool:
        """Tell whether anybody may lease tasks of *project*, or of some project, without a token."""
        if not self.engine.is_open(project):
            return False
        self._last_used = time.monotonic()
        return True

    def known_project(self, name: str) -> Project | None:
        """Return project *name* as it was declared last; None for an unknown one."""
        return self.engine.known_project(name)

    def project_of_lease(self, lease: str) -> str | None:
        """Return the project whose task is held under the token of a *lease*; None if none is."""
        return self.engine.project_of_lease(lease)


# ---- for applications of others ------------------------------------------------------------


class Later:
    """Who may ask an engine that need not be started yet: nobody until then."""

    def __init__(self, hosted: Callable[[], Hosted | None]) -> None:
        self._hosted = hosted

    @property
    def url(self) -> str:
        """Where the engine is reached, without a token; empty before it is started."""
        hosted = self._hosted()
        return hosted.url if hosted is not None else ""

    def grant_of(self, token: str) -> Grant | None:
        hosted = self._hosted()
        return hosted.grant_of(token) if hosted is not None else None

    def is_open(self, project: str | None = None) -> bool:
        hosted = self._hosted()
        return hosted is not None and hosted.is_open(project)

    def known_project(self, name: str) -> Project | None:
        hosted = self._hosted()
        return hosted.known_project(name) if hosted is not None else None

    def project_of_lease(self, lease: str) -> str | None:
        hosted = self._hosted()
        return hosted.project_of_lease(lease) if hosted is not None else None


class Hop:
    """The engine's verbs for another loop: each hops to the engine's thread and back."""

    def __init__(self, way: Callable[[], ThreadLink]) -> None:
        self._way = way

    def __getattr__(self, verb: str) -> Any:
        async def hop(*args: Any, **kwargs: Any) -> Any:
            # What comes in pieces comes on the loop that serves it.
            given = [Across(each) if isinstance(each, AsyncIterator) else each for each in args]
            return await asyncio.wrap_future(self._way().start(verb, *given, **kwargs))

        return hop
