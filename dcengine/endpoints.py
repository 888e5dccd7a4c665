"""What answers beside the engine's own API: endpoints that packages add, found by name through entry points.

An entry of the group ``dcengine.endpoints`` is a function that takes the `Surroundings` and returns an `Endpoint`. It
is called for each application that serves an engine, so it should load nothing heavy before somebody asks.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol

from aiohttp.typedefs import Handler

from .verbs import Verbs

logger = logging.getLogger(__name__)

GROUP = "dcengine.endpoints"


@dataclass(frozen=True)
class EndpointSettings:
    """What the owner of an engine has chosen for its endpoints."""

    files: str = "."  #: the folder, or fsspec URL, whose files notebooks may read and write
    kernel_idle: float | None = None  #: seconds after which a kernel that does nothing ends; None: never
    blobs: str | None = None  #: where the engine keeps large values, if not beside its database
    kernel_tags: tuple[str, ...] = ()  #: tag expressions, each with a kernel of its own that runs on a worker


class OwnVerbs(Verbs, Protocol):
    """What the engine of an application can be asked there, and by nobody else."""

    async def has_work_of(self, origin: str) -> bool:
        """Tell whether a job or batch that *origin* sent to this engine has not ended."""
        ...

    async def note_kernel(self, name: str, *, has_ended: bool = False) -> None:
        """Have those who follow the engine's events told that a kernel of the kernelspec *name* runs, or has ended."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """The engine that an endpoint answers for."""

    verbs: OwnVerbs
    url: Callable[[], str]  #: where the engine itself is reached, without a token; empty before it is
    settings: EndpointSettings


class EndpointRoute(NamedTuple):
    """One address, and who answers there."""

    method: str
    path: str  #: such as ``/api/kernels/{id}``
    role: str | None  #: that a token must have for it, one of `server.Role`; None: no token is needed
    answer: Handler


async def _nothing_to_do() -> None:
    pass


def _is_never_in_use() -> bool:
    return False


@dataclass(frozen=True)
class Endpoint:
    """Addresses at the root of an engine's application, and what they keep."""

    name: str
    routes: Sequence[EndpointRoute]
    close: Callable[[], Awaitable[None]] = _nothing_to_do  #: called when the application ends
    is_in_use: Callable[[], bool] = _is_never_in_use  #: an engine that is, does not end for being idle


def found(surroundings: Surroundings) -> Iterator[Endpoint]:
    """Yield the installed endpoints; one that cannot be loaded says so in the log."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            yield entry.load()(surroundings)
        except Exception:  # a package of somebody else's
            logger.exception("the endpoint %r cannot be loaded", entry.name)
