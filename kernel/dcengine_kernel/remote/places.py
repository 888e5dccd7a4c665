"""Which machine this is, and under which of its addresses another one reaches it."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
SOMEWHERE = "192.0.2.1"  #: an address that is nobody's, by RFC 5737: beyond the default route
JOINED = "DCENGINE_JOINED"  #: in the environment of ``dcengine join``: the address it was given, without a token


def machine() -> str:
    """Return what tells this machine from others; two containers of one machine do not share their loopback."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        facts.append(str(os.stat("/proc/self/ns/net").st_ino))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def own_address(host: str) -> str:
    """Return the address of this machine that *host* sees; empty if that is on this machine, or not to be found."""
    with suppress(OSError, UnicodeError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # nothing is sent: the system only looks for the way
        found = str(probe.getsockname()[0])
        return "" if is_loopback(found) else found
    return ""


def is_loopback(host: str) -> bool:
    """Tell whether *host* means whatever machine it is said on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_of(url: str) -> str:
    """Return the host that *url* names, empty if it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def address_for(asker_machine: str, asker_address: str) -> str:
    """Return the address of this machine at which whoever asks can reach it, loopback where that will do."""
    if asker_machine == machine():
        return LOOPBACK
    # One without an address of its own is on the engine's machine, and this machine knows the way there.
    known = (asker_address, host_of(os.environ.get(JOINED, "")), SOMEWHERE)
    found = [own_address(host) for host in known if host and not is_loopback(host)]
    return next(filter(None, found), LOOPBACK)


def engine_url(url: str) -> str:
    """Return how this machine reaches the engine that another one knows as *url*; empty if nobody knows."""
    if url and not is_loopback(host_of(url)):
        return url
    joined = os.environ.get(JOINED, "")
    return joined if joined.startswith("http") else ""  # else a Dask scheduler: the engine may be elsewhere
