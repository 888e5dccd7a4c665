"""Addresses that are nearly right: a slash too many, or an editor's page behind the engine's own address."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web

from dcengine.endpoints import EndpointRoute
from dcengine.server.proxies import public_url

from .prefixes import prefix_of
from .refusing import Refused, refusing

PAGES = "lab|tree|notebooks|doc|nbclassic|edit|consoles|terminals"  #: of JupyterLab and Jupyter Notebook


def with_strays(routes: Sequence[EndpointRoute]) -> list[EndpointRoute]:
    """Return *routes*, each with a slash at its end too, and what is said at addresses that are nearly theirs."""
    slashed = [route._replace(path=f"{route.path}/") for route in routes if ":" not in route.path]
    return [
        *routes,
        *(route for route in slashed if route.path != "/api/contents/"),
        EndpointRoute("*", "//{path:(?:api|files|kernelspecs)(?:/.*)?}", None, _without_slash),
        EndpointRoute("*", f"/{{page:{PAGES}}}{{rest:(?:/.*)?}}", None, refusing(_no_page)),
    ]


def is_stray(method: str, path: str) -> bool:
    """Tell whether a route is one of those that `with_strays` adds."""
    return method == "*" or (path.endswith("/") and path != "/")


async def _without_slash(request: web.Request) -> web.Response:
    """Send whoever has the engine's address with a slash at its end, and adds ``/api``, to where that is."""
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    path = re.sub("/{2,}", "/", request.rel_url.raw_path.removeprefix(prefix_of(request)))
    return web.Response(status=308, headers={"Location": f"{prefix_of(request)}{path}{query}"})


async def _no_page(request: web.Request) -> web.Response:
    """Say that there is no such page here, and what front ends are given."""
    page, address = request.match_info["page"], f"{public_url(request)}/?token=..."
    raise Refused(404, f"there is no /{page} here; front ends are given the address without it: {address}", "Not Found")
