"""Endpoints that other packages add to the application: their routes, each with its role, and their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from ..endpoints import Endpoint
from .access import ROLES, Holder, Role
from .answers import FOREIGN


def mount_endpoints(app: web.Application, endpoints: Iterable[Endpoint], prefix: str = "") -> None:
    """Have *endpoints* answer below *prefix*, and closed with *app*."""
    roles: Mapping[Handler, Role | Holder | None] = app[ROLES]
    added: dict[Handler, Role | None] = {}
    for endpoint in endpoints:
        for method, path, role, answer in endpoint.routes:
            app.router.add_route(method, prefix + path, answer)
            added[answer] = None if role is None else Role(role)
        if not prefix:
            app.on_shutdown.append(_ends(endpoint))
    app[ROLES] = {**roles, **added}
    app[FOREIGN] = {*app.get(FOREIGN, ()), *added}


def _ends(endpoint: Endpoint) -> Callable[[web.Application], Awaitable[None]]:
    async def end(_: web.Application) -> None:
        await endpoint.close()

    return end
