"""An application on an address of this machine: TLS, the port, a clean end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..errors import EngineError, InsecureAddress, InvalidOption, PortInUse
from .access_log import AccessLog
from .limits import Limits, door

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75.0  #: that a connection may be idle: longer than proxies keep theirs
BACKLOG = 1024  #: connections that wait to be taken: workers all come back at once after a restart
SHUTDOWN_SECONDS = 2.0  #: for requests under way when the engine stops


def _is_no_garbled_request(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of anything but a garbled request: anybody can send those, and fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logger.addFilter(_is_no_garbled_request)


class Listening:
    """An application that answers at `url`."""

    def __init__(self, runner: web.AppRunner, url: str) -> None:
        self._runner = runner
        self.url = url  #: without a token

    async def close(self) -> None:
        """Stop taking requests; those under way get a moment to end."""
        await self._runner.cleanup()


class _Site(web.BaseSite):
    """An address at which connections are taken as long as there are not too many."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, limits: Limits, tls: ssl.SSLContext | None) -> None:
        super().__init__(runner, ssl_context=tls)
        self._place, self._limits, self._tls = (host, port), limits, tls

    @property
    def name(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._place[0]}:{self._place[1]}"

    async def start(self) -> None:
        """Take connections."""
        await super().start()
        server = self._runner.server
        assert server is not None  # the runner was set up
        options = {
            "access_log_class": AccessLog,
            "auto_decompress": False,
            "keepalive_timeout": KEEPALIVE_SECONDS,
            "logger": logger,
        }
        self._server = await asyncio.get_running_loop().create_server(
            door(server, self._limits, **options),
            *self._place,
            ssl=self._tls,
            ssl_handshake_timeout=self._limits.head_seconds if self._tls else None,
            backlog=BACKLOG,
        )


async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    insecure: bool = False,
    limits: Limits | None = None,
) -> Listening:
    """Serve *app* at *host* and *port* (0: a free one).

    Raises `InsecureAddress` for an address beyond this machine without TLS, `PortInUse`, and
    `InvalidOption` for a certificate that cannot be read or a host that is not of this machine.
    """
    tls = tls_context(tls_cert, tls_key)
    if tls is None and not insecure and not is_loopback(host):
        raise InsecureAddress(host)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    site = _Site(runner, host, port, limits or Limits(), tls)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise refused(error, host, port) from error
    return Listening(runner, _url(runner, host, secure=tls is not None))


def is_loopback(host: str) -> bool:
    """Tell whether *host* is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def tls_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the TLS context of a certificate file and its key file; None where none is given."""
    if certificate is None:
        if key is not None:
            raise InvalidOption("--tls-key", key, "to come with --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        files = certificate if key is None else f"{certificate} with {Path(key).name}"
        raise InvalidOption("--tls-cert", files, f"PEM files of a certificate and its key ({error})") from error
    return context


def refused(
    error: OSError, host: str, port: int, *, port_option: str = "--port", host_option: str = "--host"
) -> EngineError | InvalidOption:
    """Return what to raise where *error* keeps a server from *host* and *port*, which these options choose."""
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port, port_option)
    if error.errno == errno.EACCES:
        problem = f"port {port} is for the system's administrator"
        return EngineError(f"{problem}; choose one above 1023 with {port_option}")
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return InvalidOption(host_option, host, "an address of this machine")
    return EngineError(f"cannot listen on {host}:{port}: {error}")


def _url(runner: web.AppRunner, host: str, *, secure: bool) -> str:
    port = runner.addresses[0][1]
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    if host in ("", "0.0.0.0", "::", "[::]"):  # everywhere: show a name that others can reach
        shown = socket.gethostname()
    return f"{'https' if secure else 'http'}://{shown}:{port}"
