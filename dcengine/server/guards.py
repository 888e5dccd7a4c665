"""What every request passes before anything else looks at it, and the headers that every answer carries."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import AccessDenied, InvalidOption
from .answers import error_answer

HOSTS = web.AppKey[frozenset[str]]("dcengine.hosts")  #: names this engine may be called by
EXTRA_HOSTS = web.AppKey[frozenset[str]]("dcengine.extra_hosts")  #: those that its owner added

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'",
    "Cache-Control": "no-store",
}
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def own_names() -> frozenset[str]:
    """Return the names that mean this machine wherever it is asked."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({"localhost", "127.0.0.1", "::1", name, short, f"{short}.local"})


def host_names(hosts: Iterable[str]) -> frozenset[str]:
    """Return *hosts* as they are compared: lower case, no port, no brackets."""
    return frozenset(filter(None, (host_of(host) for host in hosts)))


def host_of(authority: str) -> str:
    """Return the host of ``host:port``, lower case and without brackets; empty for what is none."""
    if authority.count(":") > 1 and not authority.startswith("["):
        return authority.lower()  # a bare IPv6 address
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request that calls this machine by a name it does not have (DNS rebinding)."""
    host = host_of(request.headers.get("Host", ""))
    if host in request.app[HOSTS] or host in request.app[EXTRA_HOSTS] or _is_address_it_came_to(host, request):
        return await handler(request)
    shown = ascii(host[:100])
    raise AccessDenied(f"this engine is not called {shown}; if it should be, start it with --allow-host {shown}")


def _is_address_it_came_to(host: str, request: web.Request) -> bool:
    """Tell whether *host* is the very IP address that the connection was made to: no name, no rebinding."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    local = request.transport.get_extra_info("sockname") if request.transport else None
    return isinstance(local, tuple) and address == ipaddress.ip_address(local[0].partition("%")[0])


@web.middleware
async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse writes that a page of another site sends."""
    origin = request.headers.get("Origin")
    if origin is None or request.method in READING:
        return await handler(request)
    authority = origin.partition("://")[2]
    if authority != request.headers.get("Host") and host_of(authority) not in request.app[EXTRA_HOSTS]:
        raise AccessDenied(f"pages of {origin[:100]!a} may not write here")
    return await handler(request)


@web.middleware
async def refuse_compression(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse compressed bodies: a small one could unpack to all of the memory."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() in ("", "identity"):
        return await handler(request)
    answer = error_answer(InvalidOption("Content-Encoding", ascii(encoding[:50]), "identity"), status=415)
    answer.force_close()
    return answer


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell browsers to trust nothing beyond this address; what a handler has set stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
