"""What old clients speak: protocols that packages add, found by name through entry points.

An entry of the group ``dcengine.protocols`` is a function without arguments that returns a `Protocol`. It is imported
when somebody needs it, not before. `dcengine.testing` holds the suite that each of them passes. What is no HTTP has a
`Listener`, which answers on a port of its own where the engine's owner opens one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple

import msgspec
from aiohttp import web

from .errors import InvalidOption
from .jobs import LEASE_SECONDS, LEASE_VOTES, Project
from .verbs import Grant, ProjectSpec, StageSpec, Verbs

logger = logging.getLogger(__name__)

GROUP = "dcengine.protocols"


@dataclass(frozen=True)
class Visit:
    """A request to one project, and what there is to answer it with."""

    request: web.Request
    verbs: Verbs
    project: Project  #: as it was declared last
    grant: Grant | None  #: what allows whoever asks; None for a volunteer of an open project
    parameters: Mapping[str, str]  #: what the address says in braces
    body: bytes


Answer = Callable[[Visit], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One address below ``/p/PROJECT``, and who answers there; whoever asks may work on the project."""

    method: str
    path: str  #: such as ``/api/new`` or ``/worker/{name}``; empty for the project itself
    answer: Answer


@dataclass(frozen=True)
class Listener:
    """Who answers on a port of its own, from when it is made to its end."""

    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]  #: to the end of one connection
    close: Callable[[], Awaitable[None]]  #: called once, when no connection is left


class Protocol(NamedTuple):
    """What old clients say, and how they are answered."""

    name: str
    title: str
    routes: Sequence[Route]
    lease_seconds: float = LEASE_SECONDS  #: of lease stages that say nothing else
    votes: int = LEASE_VOTES  #: likewise
    body_limit: int = 1 << 20  #: bytes of a request
    listener: Callable[[Verbs], Listener] | None = None  #: called on the engine's loop when its port is opened


def names() -> list[str]:
    """Return the names of the installed protocols; nothing is imported."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load(name: str) -> Protocol:
    """Return the protocol called *name*; raises `InvalidOption` that names those installed."""
    return _maker(name)()


@cache
def _maker(name: str) -> Callable[[], Protocol]:
    for entry in entry_points(group=GROUP, name=name):
        try:
            maker: Callable[[], Protocol] = entry.load()
        except Exception as error:  # a package of somebody else's
            logger.exception("the protocol %r cannot be loaded", name)
            problem = f"loaded ({type(error).__name__}: {error})"
            raise InvalidOption(f"the protocol {name!r}", problem, f"to have {entry.value} installed whole") from error
        return maker
    expected = f"one of those installed: {', '.join(names()) or 'there is none'}"
    raise InvalidOption("the protocol", repr(name)[:100], expected)


def with_defaults(spec: ProjectSpec) -> ProjectSpec:
    """Return *spec* with what its protocol says of lease stages, where their author says nothing.

    Raises `InvalidOption` for a protocol that is not installed.
    """
    if not spec.protocol:
        return spec
    protocol = load(spec.protocol)
    return msgspec.structs.replace(spec, stages=[_with_defaults(stage, protocol) for stage in spec.stages])


def _with_defaults(stage: StageSpec, protocol: Protocol) -> StageSpec:
    if stage.kind != "lease":
        return stage
    return msgspec.structs.replace(
        stage,
        lease_seconds=protocol.lease_seconds if stage.lease_seconds is None else stage.lease_seconds,
        votes=protocol.votes if stage.votes is None else stage.votes,
    )
