"""What is asked, how often, and how long the answers take; and the id by which each request is found in the log."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Iterator

from aiohttp import web
from aiohttp.typedefs import Handler

from ..verbs.figures import Distribution
from .limits import watch_body
from .proxies import PROXIES, look_through_proxies

REQUEST_ID = "X-Request-Id"
WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=:-]{1,100}")
NOWHERE = "unmatched"  #: instead of the path, for an address that there is not
GONE = 499  #: the status, as nginx says it, of a request whose sender did not wait for the answer

_process = secrets.token_hex(4)
_numbers = itertools.count(1)


class RouteTraffic:
    """How often a route was asked, and how long its answers took."""

    __slots__ = ("method", "path", "seconds", "statuses")

    def __init__(self, path: str, method: str) -> None:
        self.path, self.method = path, method
        self.statuses: dict[int, int] = {}
        self.seconds = Distribution()

    def note(self, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.note(seconds)


class Traffic:
    """Counts requests by the routes they take, never by what stands in their addresses."""

    def __init__(self, prefix: str = "") -> None:
        self.under_way = 0
        self._prefix = prefix
        self._kept: dict[tuple[str, str], RouteTraffic] = {}  #: by path, with names in braces for values, and method
        self._known: dict[web.AbstractRoute, RouteTraffic] = {}

    def of(self, route: web.AbstractRoute) -> RouteTraffic:
        """Return what is counted of *route*."""
        return self._known.get(route) or self._learn(route)

    def __iter__(self) -> Iterator[RouteTraffic]:
        return iter(self._kept.values())

    def _learn(self, route: web.AbstractRoute) -> RouteTraffic:
        if route.resource is None:  # made for this one request, to which nobody answers
            return self._kept.setdefault((NOWHERE, "any"), RouteTraffic(NOWHERE, "any"))
        method = "any" if route.method == "*" else route.method
        path = route.resource.canonical.removeprefix(self._prefix)
        known = self._known[route] = self._kept.setdefault((path, method), RouteTraffic(path, method))
        return known


TRAFFIC = web.AppKey[Traffic]("dcengine.traffic")
ID = web.RequestKey[str]("dcengine.request_id")
TAKEN = web.RequestKey[RouteTraffic]("dcengine.route_traffic")  #: of the route that the request took


@web.middleware
async def accompany(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Learn who sends a request, see to it that it comes within its time, and count it once it is answered."""
    app = request.app
    look_through_proxies(request, app[PROXIES])
    traffic, watch = app[TRAFFIC], watch_body(request, app)
    taken = request[TAKEN] = traffic.of(request.match_info.route)
    status, began = GONE, time.perf_counter()
    traffic.under_way += 1
    try:
        answer = await handler(request)
        status = answer.status
        return answer
    finally:
        if watch is not None:
            watch.end()
        traffic.under_way -= 1
        taken.note(status, time.perf_counter() - began)


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Give a request its id: the one it brings along if that is well-formed, else a new one."""
    given = request.headers.get(REQUEST_ID)
    if given is None or WELL_FORMED.fullmatch(given) is None:
        given = f"{_process}-{next(_numbers):x}"
    request[ID] = response.headers[REQUEST_ID] = given
