"""What every request passes before anything else looks at it, and the headers that every answer carries."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import AccessDenied, InvalidOption
from .answers import error_answer
from .proxies import authority_of

HOSTS = web.AppKey[frozenset[str]]("dcengine.hosts")  #: names this engine may be called by
EXTRA_HOSTS = web.AppKey[frozenset[str]]("dcengine.extra_hosts")  #: those that its owner added

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'",
    "Cache-Control": "no-store",
}
NOT_IN_HOSTS = frozenset("@/\\?#%, \t")
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def own_names() -> frozenset[str]:
    """Return the names that mean this machine wherever it is asked."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({"localhost", "127.0.0.1", "::1", name, short, f"{short}.local"})


def host_names(hosts: Iterable[str]) -> frozenset[str]:
    """Return *hosts* as they are compared: lower case, no port, no brackets."""
    return frozenset(filter(None, (host_of(host) for host in hosts)))


@lru_cache(maxsize=1024)
def host_of(authority: str) -> str:
    """Return the host of ``host:port``, lower case and without brackets; empty for what is none."""
    if authority.count(":") > 1 and not authority.startswith("["):
        return authority.lower()  # a bare IPv6 address
    if NOT_IN_HOSTS.intersection(authority):
        return ""  # readers of URLs do not agree on what that means
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request pass that knows whom it asks, comes from no page of another site, and is not compressed."""
    _check_host(request)
    _check_origin(request)
    encoding = request.headers.get("Content-Encoding", "identity")
    return await handler(request) if encoding.lower() in ("", "identity") else _refused_compression(encoding)


def _check_host(request: web.Request) -> None:
    """Refuse a request that calls this machine by a name it does not have (DNS rebinding)."""
    for host in map(host_of, [authority_of(request), *_in_request_line(request)]):
        if not _is_known(host, request):
            name = ascii(host[:100])
            raise AccessDenied(f"this engine is not called {name}; if it should be, start it with --allow-host {name}")


def _is_known(host: str, request: web.Request) -> bool:
    return host in request.app[HOSTS] or host in request.app[EXTRA_HOSTS] or _is_address_it_came_to(host, request)


def _in_request_line(request: web.Request) -> list[str]:
    """Return what *request* calls this machine where its first line has a whole URL: that goes before the header."""
    is_whole = "://" in request.raw_path and not request.raw_path.startswith("/")
    return [request.raw_path.partition("://")[2].partition("/")[0]] if is_whole else []


def _is_address_it_came_to(host: str, request: web.Request) -> bool:
    """Tell whether *host* is the very IP address that the connection was made to: no name, no rebinding."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    local = request.transport.get_extra_info("sockname") if request.transport else None
    return isinstance(local, tuple) and address == ipaddress.ip_address(local[0].partition("%")[0])


def _check_origin(request: web.Request) -> None:
    """Refuse writes and websockets that a page of another site sends."""
    origin = request.headers.get("Origin")
    is_reading = request.method in READING and "upgrade" not in request.headers.get("Connection", "").lower()
    if origin is None or is_reading:
        return
    authority = origin.partition("://")[2]
    if authority != authority_of(request) and host_of(authority) not in request.app[EXTRA_HOSTS]:
        raise AccessDenied(f"pages of {origin[:100]!a} may not write here")


def _refused_compression(encoding: str) -> web.Response:
    """Refuse a compressed body: a small one could unpack to all of the memory."""
    answer = error_answer(InvalidOption("Content-Encoding", ascii(encoding[:50]), "identity"), status=415)
    answer.force_close()
    return answer


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell browsers to trust nothing beyond this address; what a handler has set stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
