"""Networks that can be cut: namespaces of the kernel where this is permitted, else proxies that pass nothing on.

In a namespace packets vanish, as behind a broken cable: nobody is told that a connection has ended, and what is sent
again arrives when the line is mended. A proxy does the same with connections that it has taken.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import ClassVar

from dcengine.connection import split_address

from .chaos import CALM, Chaos, between


class Network(ABC):
    """Where some workers are, with a line of their own to the engine."""

    command: Sequence[str] = ()  #: what goes before the command of a process that is to be there
    way: str  #: the engine's address as they see it

    @abstractmethod
    def let(self, *, there: bool, back: bool) -> None:
        """Let what is said get there, and what is answered come back, or not."""

    def cut(self) -> None:
        """Let nothing through."""
        self.let(there=False, back=False)

    def deafen(self) -> None:
        """Let through what is said, and nothing of what is answered."""
        self.let(there=True, back=False)

    def mend(self) -> None:
        """Let all through again."""
        self.let(there=True, back=True)


class Networks(ABC):
    """Some networks, and one engine's address in all of them."""

    serve_options: ClassVar[Sequence[str]] = ()  #: with which the engine listens where they can reach it

    @abstractmethod
    def open(self, url: str) -> list[Network]:
        """Return the networks, in which the engine at *url* is found."""


# ---- namespaces ----------------------------------------------------------------------------


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@cache
def namespaces_are_permitted() -> bool:
    """Tell whether this process may make networks."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"dct{os.getpid() % 100_000}"
    try:
        ip("link", "add", name, "type", "bridge")
        ip("link", "del", name)
        ip("netns", "add", name)
        ip("netns", "del", name)
    except subprocess.CalledProcessError:
        return False
    return True


class Namespace(Network):
    """One namespace, with a cable to a bridge."""

    def __init__(self, name: str, bridge: str, address: str) -> None:
        self._name, self._bridge, self._address = name, bridge, address
        self.command = ("ip", "netns", "exec", name)

    def begin(self) -> None:
        """Make it."""
        here, there = f"{self._name}h", f"{self._name}n"
        ip("netns", "add", self._name)
        ip("link", "add", here, "type", "veth", "peer", "name", there)
        ip("link", "set", there, "netns", self._name)
        ip("link", "set", here, "master", self._bridge, "up")
        ip("-n", self._name, "addr", "add", f"{self._address}/24", "dev", there)
        ip("-n", self._name, "link", "set", there, "up")

    def let(self, *, there: bool, back: bool) -> None:
        is_wanted = there and not back
        subprocess.run(
            ["ip", "route", "add" if is_wanted else "del", "blackhole", self._address], check=False, capture_output=True
        )
        ip("link", "set", f"{self._name}h", "up" if there else "down")

    def end(self) -> None:
        """Leave nothing of it."""
        self.mend()
        found = subprocess.run(["ip", "netns", "pids", self._name], capture_output=True, text=True, check=False)
        for pid in map(int, found.stdout.split()):
            os.kill(pid, 9)
        ip("link", "del", f"{self._name}h")
        ip("netns", "del", self._name)


class Namespaces(Networks):
    """Namespaces around a bridge, on which the engine listens."""

    def __init__(self, n: int, stack: ExitStack) -> None:
        tag, subnet = f"dc{os.getpid() % 100_000}", f"10.213.{os.getpid() % 250}"
        self._address = f"{subnet}.1"
        self.serve_options = ("--host", self._address, "--insecure", "--allow-host", self._address)
        ip("link", "add", tag, "type", "bridge")
        stack.callback(ip, "link", "del", tag)
        ip("addr", "add", f"{self._address}/24", "dev", tag)
        ip("link", "set", tag, "up")
        self._all = [Namespace(f"{tag}.{number}", tag, f"{subnet}.{10 + number}") for number in range(n)]
        for each in self._all:
            stack.callback(each.end)
            each.begin()

    def open(self, url: str) -> list[Network]:
        for each in self._all:
            each.way = url
        return [*self._all]


# ---- proxies -------------------------------------------------------------------------------


class Proxied(Network):
    """What lies behind one proxy."""

    def __init__(self, way: str, chaos: Chaos) -> None:
        self.way, self._chaos = way, chaos

    def let(self, *, there: bool, back: bool) -> None:
        self._chaos.let(there=there, back=back)


class Proxies(Networks):
    """A proxy for each network, on loopback."""

    def __init__(self, n: int, stack: ExitStack) -> None:
        self._n, self._stack = n, stack

    def open(self, url: str) -> list[Network]:
        ways = [self._stack.enter_context(between(url, random.Random(0), odds=CALM)) for _ in range(self._n)]
        return [Proxied(*way) for way in ways]


@contextmanager
def networks(kind: type[Namespaces] | type[Proxies], n: int) -> Iterator[Networks]:
    """*n* networks, with nothing left of them afterwards."""
    with ExitStack() as stack:
        yield kind(n, stack)


def port_of(url: str) -> int:
    """Return the port of the engine at *url*."""
    port = split_address(url)[0].port
    assert port is not None
    return port
