"""How often, and how much, volunteers may ask: those who show no token.

Each address has an allowance that fills up again evenly (the "generic cell rate algorithm": one number for each). Who
asks through our own API too early is told when to come back; an old client, which would take any such answer for the
end, is kept waiting until its turn instead.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from functools import lru_cache

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import InvalidOption, TooManyRequests
from .access import GRANT, ROLES, Role
from .answers import BODY_LIMIT
from .protocols import PREFIX
from .proxies import remote_of

BURST_SECONDS = 2.0  #: whose requests an address may make at once, after it was quiet for as long
ROUNDING = 1e-6  #: seconds
KNOWN_LIMIT = 20_000  #: addresses whose last requests are remembered
HELD_LIMIT, HELD_BY_ONE_LIMIT = 300, 100  #: requests that wait for their turn: in all, and of one address
HELD_SECONDS = 20.0  #: for which one waits at most: proxies give up after a while


class Rates:
    """What each address may ask, and when the next time."""

    def __init__(self, rate: float = 500.0, body_limit: int = 16 << 20) -> None:
        """Allow *rate* requests a second, each with *body_limit* bytes; raises `InvalidOption` for a rate of none."""
        if not rate > 0:
            raise InvalidOption("volunteer_rate", f"{rate:g}", "requests a second, above 0")
        self.rate, self.body_limit = rate, body_limit
        self._ahead = max(0.0, BURST_SECONDS - 1 / rate)  #: how far its allowance may be used up beforehand
        self._due: OrderedDict[str, float] = OrderedDict()  #: when all that was asked is paid for, by address
        self._held: Counter[str] = Counter()

    def take(self, address: str, now: float) -> float:
        """Take a turn of *address* if it has one at *now*; return 0.0 then, else the seconds until it has."""
        left = self._left(address, now)
        if not left:
            self._note(address, now)
        return left

    def reserve(self, address: str, now: float) -> float:
        """Take the next turn of *address*; return the seconds until then."""
        left = self._left(address, now)
        self._note(address, now)
        return left

    async def hold(self, address: str) -> bool:
        """Wait for the next turn of *address*; False, at once, if too many wait already."""
        if self._held.total() >= HELD_LIMIT or self._held[address] >= HELD_BY_ONE_LIMIT:
            return False
        if self._left(address, time.monotonic()) > HELD_SECONDS:
            return False
        seconds = self.reserve(address, time.monotonic())
        if seconds:
            self._held[address] += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                self._held[address] -= 1
                if not self._held[address]:
                    del self._held[address]
        return True

    def _left(self, address: str, now: float) -> float:
        """Return the seconds until *address* has a turn, 0.0 if it has one."""
        left = self._due.get(address, now) - self._ahead - now
        return left if left > ROUNDING else 0.0

    def _note(self, address: str, now: float) -> None:
        self._due[address] = max(self._due.get(address, now), now) + 1 / self.rate
        self._due.move_to_end(address)
        if len(self._due) > KNOWN_LIMIT:
            self._due.popitem(last=False)


RATES = web.AppKey[Rates]("dcengine.rates")


@web.middleware
async def limit_volunteers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request without a token through in its turn."""
    if GRANT not in request or request[GRANT] is not None:
        return await handler(request)
    rates, is_old = request.app[RATES], _is_of_old_client(request)
    if not is_old and request.app[ROLES].get(request.match_info.handler) is not Role.WORKER:
        return await handler(request)  # a page or a probe
    request[BODY_LIMIT] = rates.body_limit
    address = subject_of(remote_of(request))
    if not is_old:
        seconds = rates.take(address, time.monotonic())
        if seconds:
            raise TooManyRequests(rates.rate, round(seconds, 3))
    elif not await rates.hold(address):
        if request.transport is not None:
            request.transport.abort()  # without a word: that is what such clients take for "try again"
        return web.Response(status=503)
    return await handler(request)


def _is_of_old_client(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    return resource is not None and f"{PREFIX}/" in resource.canonical


@lru_cache(maxsize=10_000)
def subject_of(remote: str) -> str:
    """Return what is counted of the address *remote*: of IPv6 the network that one household has."""
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
