"""``/api/kernels``: kernels started, listed, stopped and ended over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from dcengine.endpoints import EndpointRoute
from dcengine.server.access import GRANT, SUFFICES, Role, token_of
from dcengine.server.answers import json_answer

from .bodies import body_of, fit
from .kernels import Kernels, model_of
from .prefixes import prefix_of
from .refusing import refusing
from .shapes import ShownKernel

if TYPE_CHECKING:
    from .kernel import Kernel


class _Start(msgspec.Struct):
    name: str | None = None
    path: str | None = None
    kernel_id: str | None = None
    env: dict[str, Any] | None = None


_START = msgspec.json.Decoder(_Start)


def routes(kernels: Kernels, paths_of: Callable[[Kernel], list[str]]) -> list[EndpointRoute]:
    """Return the addresses at which kernels are asked for; *paths_of* one are its documents."""
    asked = _KernelRoutes(kernels, paths_of)
    return [
        EndpointRoute("GET", "/api/running-kernels", "view", asked.shown),
        EndpointRoute("GET", "/api/kernels", "submit", asked.kernels),
        EndpointRoute("POST", "/api/kernels", "submit", refusing(asked.start)),
        EndpointRoute("GET", "/api/kernels/{id}", "submit", refusing(asked.kernel)),
        EndpointRoute("DELETE", "/api/kernels/{id}", "submit", refusing(asked.end)),
        EndpointRoute("POST", "/api/kernels/{id}/interrupt", "submit", refusing(asked.interrupt)),
        EndpointRoute("POST", "/api/kernels/{id}/restart", "submit", refusing(asked.restart)),
    ]


class _KernelRoutes:
    def __init__(self, kernels: Kernels, paths_of: Callable[[Kernel], list[str]]) -> None:
        self._kernels, self._paths_of = kernels, paths_of

    async def shown(self, request: web.Request) -> web.Response:
        """Return the kernels that run, with whose they are and what they do."""
        grant = request[GRANT]
        may_use = grant is not None and Role(grant.role) in SUFFICES[Role.SUBMIT]
        return json_answer([self._shown(kernel, may_use=may_use) for kernel in self._kernels.of(grant)])

    def _shown(self, kernel: Kernel, *, may_use: bool) -> ShownKernel:
        code, since = next(iter(kernel.running.values()), ("", None))
        return ShownKernel(
            id=kernel.id, name=kernel.name, language=kernel.language, whose=kernel.whose, state=kernel.state,
            started=kernel.started, last_activity=kernel.last_activity, connections=kernel.connections,
            documents=self._paths_of(kernel), running=code if may_use else "", running_since=since, may_use=may_use,
        )  # fmt: skip

    async def kernels(self, request: web.Request) -> web.Response:
        """Return the kernels that run."""
        return json_answer([model_of(kernel) for kernel in self._kernels.of(request[GRANT])])

    async def start(self, request: web.Request) -> web.Response:
        """Start a kernel; it runs once this is answered."""
        wanted = await body_of(request, _START)
        kernel = await self._kernels.start(
            wanted.name, request[GRANT], token=token_of(request), id=wanted.kernel_id,
            path=fit(wanted.path or "", "the path of a document"), given=wanted.env,
        )  # fmt: skip
        answer = json_answer(model_of(kernel), status=201)
        answer.headers["Location"] = f"{prefix_of(request)}/api/kernels/{kernel.id}"
        return answer

    async def kernel(self, request: web.Request) -> web.Response:
        """Return one kernel."""
        return json_answer(model_of(self._kernels.get(request.match_info["id"], request[GRANT])))

    async def end(self, request: web.Request) -> web.Response:
        """End a kernel."""
        await self._kernels.end(self._kernels.get(request.match_info["id"], request[GRANT]))
        return web.Response(status=204)

    async def interrupt(self, request: web.Request) -> web.Response:
        """Stop what a kernel runs."""
        await self._kernels.get(request.match_info["id"], request[GRANT]).interrupt()
        return web.Response(status=204)

    async def restart(self, request: web.Request) -> web.Response:
        """Start a kernel anew, under the same id."""
        kernel = self._kernels.get(request.match_info["id"], request[GRANT])
        await kernel.restart()
        return json_answer(model_of(kernel))
