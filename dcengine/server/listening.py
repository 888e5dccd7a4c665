"""An application on an address of this machine: TLS, the port, a clean end."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from pathlib import Path

from aiohttp import web

from ..errors import EngineError, InsecureAddress, InvalidOption, PortInUse
from .access_log import AccessLog

SHUTDOWN_SECONDS = 2.0  #: for requests under way when the engine stops


class Listening:
    """An application that answers at `url`."""

    def __init__(self, runner: web.AppRunner, url: str) -> None:
        self._runner = runner
        self.url = url  #: without a token

    async def close(self) -> None:
        """Stop taking requests; those under way get a moment to end."""
        await self._runner.cleanup()


async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    insecure: bool = False,
) -> Listening:
    """Serve *app* at *host* and *port* (0: a free one).

    Raises `InsecureAddress` for an address beyond this machine without TLS, `PortInUse`, and
    `InvalidOption` for a certificate that cannot be read or a host that is not of this machine.
    """
    tls = tls_context(tls_cert, tls_key)
    if tls is None and not insecure and not is_loopback(host):
        raise InsecureAddress(host)
    runner = web.AppRunner(
        app,
        access_log_class=AccessLog,
        auto_decompress=False,
        keepalive_timeout=75.0,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise _refused(error, host, port) from error
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


def _refused(error: OSError, host: str, port: int) -> EngineError | InvalidOption:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port)
    if error.errno == errno.EACCES:
        return EngineError(f"port {port} is for the system's administrator; choose one above 1023 with --port")
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return InvalidOption("--host", host, "an address of this machine")
    return EngineError(f"cannot listen on {host}:{port}: {error}")


def _url(runner: web.AppRunner, host: str, *, secure: bool) -> str:
    port = runner.addresses[0][1]
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    if host in ("", "0.0.0.0", "::", "[::]"):  # everywhere: show a name that others can reach
        shown = socket.gethostname()
    return f"{'https' if secure else 'http'}://{shown}:{port}"
