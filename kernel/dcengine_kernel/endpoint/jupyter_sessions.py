"""``/api/sessions``: which document, known by its path, has which kernel."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from aiohttp import web

from dcengine.endpoints import EndpointRoute
from dcengine.server.access import GRANT, token_of
from dcengine.server.answers import json_answer
from dcengine.verbs import Grant

from .bodies import body_of, fit
from .kernels import Kernels, UnknownKernelspec, model_of
from .prefixes import prefix_of
from .refusing import Refused, refusing

if TYPE_CHECKING:
    from .kernel import Kernel

MOST_SESSIONS = 2_000


class _Kernel(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Notebook(msgspec.Struct):
    path: str | None = None
    name: str | None = None


class _Wanted(msgspec.Struct):
    path: str | None = None
    name: str | None = None
    type: str | None = None
    kernel: _Kernel | None = None
    notebook: _Notebook | None = None  #: as older clients say it


_WANTED = msgspec.json.Decoder(_Wanted)


class JupyterSession:
    """A document that has a kernel."""

    def __init__(self, id: str, path: str, name: str, type: str, kernel: Kernel) -> None:
        self.id, self.path, self.name, self.type, self.kernel = id, path, name, type, kernel

    def model(self) -> dict[str, Any]:
        """Return it as front ends are told of it."""
        model = {"id": self.id, "path": self.path, "name": self.name, "type": self.type}
        return {**model, "kernel": model_of(self.kernel), "notebook": {"path": self.path, "name": self.name}}


def routes(sessions: JupyterSessions) -> list[EndpointRoute]:
    """Return the addresses at which Jupyter sessions are asked for."""
    return [
        EndpointRoute("GET", "/api/sessions", "submit", sessions.sessions),
        EndpointRoute("POST", "/api/sessions", "submit", refusing(_unknown_told(sessions.start))),
        EndpointRoute("GET", "/api/sessions/{id}", "submit", refusing(sessions.session)),
        EndpointRoute("PATCH", "/api/sessions/{id}", "submit", refusing(_unknown_told(sessions.change))),
        EndpointRoute("DELETE", "/api/sessions/{id}", "submit", refusing(sessions.end)),
    ]


def _unknown_told(handler: Any) -> Any:
    """Return *handler* with a kernel that is unknown told in the two ways in which front ends look for it."""

    @wraps(handler)
    async def told(request: web.Request) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await handler(request)
            return answer
        except UnknownKernelspec as unknown:
            said = {"message": str(unknown), "short_message": "this kernel is not installed here"}
            return json_answer(said, status=unknown.status)

    return told


class JupyterSessions:
    """The Jupyter sessions of one application; one ends with its kernel."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._sessions: dict[str, JupyterSession] = {}
        self._turns: dict[str, asyncio.Lock] = {}  #: by path: who asks twice at once gets one kernel

    def paths_of(self, kernel: Kernel) -> list[str]:
        """Return the paths of the documents that have *kernel*."""
        return [session.path for session in self._sessions.values() if session.kernel is kernel]

    # ---- what is asked ---------------------------------------------------------------------

    async def sessions(self, request: web.Request) -> web.Response:
        """Return the Jupyter sessions."""
        return json_answer([session.model() for session in self._of(request[GRANT])])

    async def session(self, request: web.Request) -> web.Response:
        """Return one Jupyter session."""
        return json_answer(self._get(request).model())

    async def start(self, request: web.Request) -> web.Response:
        """Return the Jupyter session of a path, with a new kernel where there is none yet."""
        wanted = await body_of(request, _WANTED)
        path = _path_of(wanted)
        async with self._turns.setdefault(path, asyncio.Lock()):
            try:
                session = await self._found_or_made(request, wanted, path)
            finally:
                self._turns.pop(path, None)  # who waits has it, who comes later finds the session
        answer = json_answer(session.model(), status=201)
        answer.headers["Location"] = f"{prefix_of(request)}/api/sessions/{session.id}"
        return answer

    async def change(self, request: web.Request) -> web.Response:
        """Give a Jupyter session another path, name, type or kernel; the kernel it had ends if no other has it."""
        session = self._get(request)
        wanted = await body_of(request, _WANTED)
        other = None
        if wanted.kernel is not None and (wanted.kernel.id or wanted.kernel.name):
            other = await self._kernel(request, wanted.kernel, session.path)
        if wanted.path is not None or wanted.notebook is not None:
            session.path = _path_of(wanted)
        session.name = session.name if wanted.name is None else _name_of(wanted, session.path)
        session.type = _type_of(wanted) if wanted.type else session.type
        if other is not None and other is not session.kernel:
            before, session.kernel = session.kernel, other
            await self._end_unused(before)
        return json_answer(session.model())

    async def end(self, request: web.Request) -> web.Response:
        """End a Jupyter session and its kernel."""
        session = self._get(request)
        del self._sessions[session.id]
        await self._end_unused(session.kernel)
        return web.Response(status=204)

    async def _found_or_made(self, request: web.Request, wanted: _Wanted, path: str) -> JupyterSession:
        session = next((known for known in self._of(request[GRANT]) if known.path == path), None)
        if session is None:
            name, type = _name_of(wanted, path), _type_of(wanted)
            if len(self._sessions) >= MOST_SESSIONS:
                raise Refused(429, f"there are {MOST_SESSIONS:,} sessions, as many as may be: close some", "too many")
            kernel = await self._kernel(request, wanted.kernel or _Kernel(), path)
            session = JupyterSession(str(uuid4()), path, name, type, kernel)
            self._sessions[session.id] = session
        return session

    # ---- kernels ---------------------------------------------------------------------------

    async def _kernel(self, request: web.Request, wanted: _Kernel, path: str) -> Kernel:
        """Return the kernel of the id that is *wanted*, or a new one."""
        grant = request[GRANT]
        if wanted.id:
            return self._kernels.get(wanted.id, grant)
        return await self._kernels.start(wanted.name, grant, token=token_of(request), path=path)

    async def _end_unused(self, kernel: Kernel) -> None:
        if all(session.kernel is not kernel for session in self._sessions.values()):
            await self._kernels.end(kernel)

    def _of(self, grant: Grant | None) -> list[JupyterSession]:
        """Return the Jupyter sessions whose kernels there still are, of those that whoever has *grant* may use."""
        there = {kernel.id for kernel in self._kernels}
        self._sessions = {id: session for id, session in self._sessions.items() if session.kernel.id in there}
        usable = self._kernels.of(grant)
        return [session for session in self._sessions.values() if session.kernel in usable]

    def _get(self, request: web.Request) -> JupyterSession:
        id = request.match_info["id"]
        for session in self._of(request[GRANT]):
            if session.id == id:
                return session
        raise Refused(404, f"Session not found: {id[:100]}", "Not Found")


def _path_of(wanted: _Wanted) -> str:
    """Return the path that is *wanted*; it need not exist."""
    path = wanted.path if wanted.path is not None else wanted.notebook.path if wanted.notebook is not None else None
    if path is None:
        raise Refused(400, "Missing field in JSON data: path", "Bad Request")
    return fit(path, "the path of a document")


def _name_of(wanted: _Wanted, path: str) -> str:
    named = wanted.notebook.name if wanted.notebook is not None else None
    name = wanted.name if wanted.name is not None else named
    return fit(name, "the name of a document") if name is not None else path.rpartition("/")[2]


def _type_of(wanted: _Wanted) -> str:
    return fit(wanted.type or "notebook", "the type of a document")
