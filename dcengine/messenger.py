"""Messages over HTTP to URLs that somebody has named: signed, and to no address that is nobody's outside.

They are signed as the Standard Webhooks specification has it (https://www.standardwebhooks.com, version 1): the headers
``webhook-id``, ``webhook-timestamp`` in Unix seconds, and ``webhook-signature``: ``v1,`` and the HMAC-SHA256, in
base64, of id, timestamp and body with a full stop between.

Whoever names a URL could have the engine ask what only this machine or its network can reach. So the address a
connection goes to is looked at when it is made: what a name stood for a moment ago counts for nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ._version import __version__
from .errors import InvalidOption
from .plain import clean

SECRET_PREFIX, SECRET_BYTES = "whsec_", 32
TIMEOUT_SECONDS, CONNECT_SECONDS = 15.0, 5.0
SAID_BYTES = 500  #: of an answer that are read, to tell why a message was refused
PRIVATE = "its address is private, and the setting private_webhooks is off"
PLAIN = {"Accept-Encoding": "identity"}  #: nothing here unpacks an answer
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], "list[tuple[Any, ...]]"]  #: as `socket.getaddrinfo` answers


class Answer(NamedTuple):
    """What a try has come to."""

    status: int | None
    reason: str | None  #: why it was in vain; None: the message was taken

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants to hear nothing any more."""
        return self.status == 410


# ---- secrets and signatures ----------------------------------------------------------------


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    """Return *secret* as the receiver is given it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signed(secret: bytes, name: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that say which message *body* is, and that it is ours."""
    signature = hmac.digest(secret, b"%b.%d.%b" % (name.encode(), timestamp, body), "sha256")
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


# ---- addresses -----------------------------------------------------------------------------


class PrivateAddress(OSError):
    """A connection would go where only this machine or its network may."""


def check_url(url: str, limit: int) -> None:
    """Raise `InvalidOption` for a URL to which nothing could be sent."""
    expected = "an address such as https://example.com/hooks/dcengine"
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or not 0 < len(url) <= limit or not (url.isascii() and url.isprintable()) or " " in url:
        raise InvalidOption("url", ascii(url)[:100], f"{expected}, at most {limit} characters")
    if parts.username is not None or parts.password is not None:
        raise InvalidOption("url", "one with a name or password in it", f"{expected}: the signature says who sends it")


def is_public(address: str) -> bool:
    """Tell whether *address* is one that anybody on the internet can reach."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in NAT64 else inner
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not (found.is_multicast or found.is_reserved)


class Names(AbstractResolver):
    """Looks names up, each on a thread of its own: a name server that does not answer keeps nobody else waiting."""

    def __init__(self, look_up: Resolve) -> None:
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [
            ResolveResult(hostname=host, host=address[0], port=port, family=kind, proto=proto, flags=flags)
            for kind, _, proto, _, address in await self._found(host, port)
        ]

    async def _found(self, host: str, port: int) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

        def look_up() -> None:
            try:
                tell, told = future.set_result, self._look_up(host, port)
            except Exception as error:
                tell, told = future.set_exception, error  # type: ignore[assignment]
            with suppress(RuntimeError):  # the loop is gone: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else tell(told))

        threading.Thread(target=look_up, name="dcengine-names", daemon=True).start()
        return await future

    async def close(self) -> None:
        """Have nothing to close: threads end by themselves, and keep nobody from leaving."""


# ---- sending -------------------------------------------------------------------------------


class Messenger:
    """Sends messages; it belongs to the loop it was made on."""

    def __init__(self, *, is_private_allowed: bool, look_up: Resolve | None = None) -> None:
        self._is_private_allowed = is_private_allowed
        self._names = Names(look_up or partial(socket.getaddrinfo, type=socket.SOCK_STREAM))
        connector = aiohttp.TCPConnector(
            resolver=self._names, use_dns_cache=False, limit=0, socket_factory=self._socket_for
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # behind a proxy, nobody could see where a message goes
        )

    def _socket_for(self, found: tuple[Any, ...]) -> socket.socket:
        """Return the socket for a connection; raises `PrivateAddress` where none may go."""
        family, kind, proto, _, address = found
        if not (self._is_private_allowed or is_public(address[0])):
            raise PrivateAddress(PRIVATE)
        return socket.socket(family, kind, proto)

    async def check(self, url: str) -> None:
        """Raise `InvalidOption` if *url* leads only where no message may go; one that nobody knows yet may be good."""
        parts = urlsplit(url)
        try:
            found = await asyncio.wait_for(self._names.resolve(parts.hostname or "", parts.port or 0), CONNECT_SECONDS)
        except (OSError, UnicodeError, asyncio.TimeoutError):
            return
        if not self._is_private_allowed and not any(is_public(each["host"]) for each in found):
            raise InvalidOption(
                "url",
                ascii(url)[:100],
                "one with a public address, unless the setting private_webhooks allows others "
                "(dcengine serve --private-webhooks)",
            )

    async def send(self, url: str, secret: bytes, name: str, body: bytes) -> Answer:
        """Send *body* as message *name*, once; return what that has come to. Redirects are not followed."""
        headers = {"Content-Type": "application/json", "User-Agent": f"dcengine/{__version__}"} | PLAIN
        headers |= signed(secret, name, int(time.time()), body)
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return Answer(answer.status, None)
                said = await answer.content.read(SAID_BYTES)
                return Answer(answer.status, _refusal(answer.status, said))
        except asyncio.TimeoutError:
            return Answer(None, f"no answer within {TIMEOUT_SECONDS:g} s")
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            return Answer(None, _trouble(error))

    async def close(self) -> None:
        await self._session.close()
        await self._names.close()


def _refusal(status: int, said: bytes) -> str:
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed"
    text = clean(said.decode(errors="replace"))
    return f"answered {status}: {text}" if text else f"answered {status}"


def _trouble(error: BaseException) -> str:
    """Return why no answer came, without what the URL holds: it may be a secret."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PrivateAddress) or PRIVATE in str(seen):
            return PRIVATE
        seen = seen.__cause__ or getattr(seen, "os_error", None)
    if isinstance(error, aiohttp.ClientConnectorError):
        return clean(f"cannot be reached: {error.os_error.strerror or type(error.os_error).__name__}")
    return clean(f"cannot be reached: {type(error).__name__}")
