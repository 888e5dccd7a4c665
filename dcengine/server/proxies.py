"""Who asks, and under which address, where reverse proxies stand in between.

``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``-Prefix`` are believed when a trusted proxy sends them, and from nobody
else. Of a chain of addresses the rightmost that is no trusted proxy counts, as the page of MDN on ``X-Forwarded-For``
recommends: what stands further left is what the caller says of itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web

from ..errors import InvalidOption

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
AUTHORITY = re.compile(r"[A-Za-z0-9._\[\]:-]{1,255}")


class Proxies:
    """The reverse proxies that an engine trusts, and the prefix under which they show it."""

    def __init__(self, trusted: Iterable[str] = (), prefix: str | None = None) -> None:
        """Trust the addresses and networks *trusted*; raises `InvalidOption` for what is none."""
        self.networks = [_network(text) for text in trusted]
        self.prefix = _checked_prefix(prefix or "")

    def trusts(self, address: Address | None) -> bool:
        """Tell whether *address* is that of a trusted proxy."""
        return address is not None and any(address in network for network in self.networks)


class Forwarded(NamedTuple):
    """What trusted proxies say of a request; None for what they do not mention."""

    remote: str
    scheme: str | None
    authority: str | None
    prefix: str | None


PROXIES = web.AppKey[Proxies]("dcengine.proxies")
FORWARDED = web.RequestKey[Forwarded]("dcengine.forwarded")


# ---- what a request says -------------------------------------------------------------------


def remote_of(request: web.BaseRequest) -> str:
    """Return the address of whoever asks: the caller's, where trusted proxies pass its request on."""
    forwarded: Forwarded | None = request.get(FORWARDED)
    return (request.remote or "") if forwarded is None else forwarded.remote


def authority_of(request: web.BaseRequest) -> str:
    """Return host and port under which the engine was asked for."""
    forwarded: Forwarded | None = request.get(FORWARDED)
    if forwarded is not None and forwarded.authority is not None:
        return forwarded.authority
    host: str = request.headers.get("Host", "")
    return host


def public_url(request: web.Request) -> str:
    """Return the address of the engine as whoever asks knows it, with its prefix and without a slash at its end."""
    forwarded: Forwarded | None = request.get(FORWARDED)
    own = request.app[PROXIES].prefix
    if forwarded is None:
        is_below = request.path == own or request.path.startswith(f"{own}/")
        return f"{request.scheme}://{authority_of(request)}{own if is_below else ''}"
    prefix = own if forwarded.prefix is None else forwarded.prefix
    return f"{forwarded.scheme or request.scheme}://{authority_of(request)}{prefix}"


# ---- what proxies say of it ----------------------------------------------------------------


def look_through_proxies(request: web.Request, proxies: Proxies) -> None:
    """Note what trusted *proxies* say of a request; called before anything asks who sent it."""
    if proxies.networks and proxies.trusts(_address(request.remote or "")):
        request[FORWARDED] = _forwarded(request, proxies)


def _forwarded(request: web.Request, proxies: Proxies) -> Forwarded:
    scheme = _last(request, "X-Forwarded-Proto").lower()
    authority = _last(request, "X-Forwarded-Host")
    prefix = _last(request, "X-Forwarded-Prefix").rstrip("/")
    return Forwarded(
        remote=_caller(request, proxies),
        scheme=scheme if scheme in ("http", "https") else None,
        authority=authority if AUTHORITY.fullmatch(authority) else None,
        prefix=prefix if PREFIX.fullmatch(prefix) else None,
    )


def _caller(request: web.Request, proxies: Proxies) -> str:
    """Return the rightmost address of the chain that is no trusted proxy; the leftmost one if all are."""
    remote = request.remote or ""
    for entry in reversed(_entries(request, "X-Forwarded-For")):
        address = _address(entry)
        if address is None:  # garbled: nobody vouches for what is left of it
            break
        remote = str(address)
        if not proxies.trusts(address):
            break
    return remote


def _last(request: web.Request, name: str) -> str:
    """Return what the proxy nearest to us says under *name*."""
    return next(reversed(_entries(request, name)), "")


def _entries(request: web.Request, name: str) -> list[str]:
    return [entry.strip() for line in request.headers.getall(name, ()) for entry in line.split(",")]


def _address(text: str) -> Address | None:
    """Return the address in *text*, which may have a port; None for what is none."""
    host = text.partition("]")[0][1:] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise InvalidOption("trusted_proxy", repr(text), "an address or a network such as 10.0.0.0/8") from None


def _checked_prefix(prefix: str) -> str:
    """Return *prefix* with a slash before it and none behind it."""
    checked = prefix.strip().strip("/")
    if checked and not PREFIX.fullmatch(f"/{checked}"):
        raise InvalidOption("prefix", repr(prefix), "a path such as /farm")
    return f"/{checked}" if checked else ""
