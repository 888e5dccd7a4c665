"""What a worker is asked for: where its tasks come from, how many it holds, when it ends."""

from __future__ import annotations

import inspect
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

import msgspec

from .. import times
from ..calls import submitter
from ..connection import POLL
from ..errors import InvalidOption
from ..jobs import check_name
from ..options import Duration, check_names
from ..tags import parse_offer
from ..verbs import LeaseRequest
from ..verbs.leases import AT_ONCE, LENGTHS

Tags = str | Mapping[str, str | None]


F = TypeVar("F", bound=Callable[..., Any])


class _Place(TypedDict):
    project: str
    stage: str


class WorkerOptions(_Place, total=False):
    """What a worker may be told beside where its engine is."""

    nickname: str | None  #: who earns the credit and votes; user@host unless given, a token's own goes before it
    tags: Tags  #: what it offers, such as ``gpu,site=lab``
    batch: int  #: tasks in one lease request
    prefetch: int  #: tasks that are held ahead, so that the next one is there when one ends
    concurrency: int  #: tasks that are worked on at a time
    wait: Duration  #: that one request waits at the engine for the first task
    idle_exit: Duration | None  #: without a task, after which it comes to its end
    limit: int | None  #: tasks after which it does
    name: str | None  #: its own, unique among the project's workers


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a worker, as they were understood."""

    request: LeaseRequest  #: what it asks for, a full batch
    prefetch: int
    concurrency: int  #: tasks that are worked on at a time
    idle_exit: float | None
    limit: int | None

    @property
    def capacity(self) -> int:
        """How many tasks it may hold."""
        return max(self.request.n, self.concurrency) + self.prefetch


def wish_of(options: Mapping[str, Any]) -> Wish:
    """Return the options of a worker; raises `InvalidOption` or `InvalidTags` for one that cannot be."""
    check_names(options, WorkerOptions, "a worker")
    return _wish_of(**options)


def shows_options(init: F) -> F:
    """Have ``help`` and notebooks show the options of a worker, which *init* takes as keywords."""
    own = [each for each in inspect.signature(init).parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = inspect.signature(_wish_of).parameters.values()
    init.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return init


def _wish_of(
    *,
    project: str,
    stage: str,
    nickname: str | None = None,
    tags: Tags = "",
    batch: int = 1,
    prefetch: int = 0,
    concurrency: int = 1,
    wait: Duration = 20.0,
    idle_exit: Duration | None = None,
    limit: int | None = None,
    name: str | None = None,
) -> Wish:
    check_name("the project's name", project)
    check_name("the stage's name", stage)
    request = LeaseRequest(
        project=project,
        stage=stage,
        worker=_text("name", name or own_name(), LENGTHS["worker"]),
        nickname=_text("nickname", submitter() if nickname is None else nickname, LENGTHS["nickname"]),
        tags=parse_offer(tags) if isinstance(tags, str) else dict(tags),
        n=_count("batch", batch, 1, AT_ONCE),
        wait=min(POLL, times.seconds("wait", wait)),
    )
    return Wish(
        request=request,
        prefetch=_count("prefetch", prefetch, 0, 100 * AT_ONCE),
        concurrency=_count("concurrency", concurrency, 1, 100 * AT_ONCE),
        idle_exit=None if idle_exit is None else times.seconds("idle_exit", idle_exit),
        limit=None if limit is None else _count("limit", limit, 1, 1 << 62),
    )


def own_name() -> str:
    """Return a name that no other worker has."""
    return f"{socket.gethostname()[:150]}-{os.getpid()}-{secrets.token_hex(3)}"


def _count(option: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidOption(option, repr(value)[:100], f"a number of tasks from {least} to {most:,}")
    return value


def _text(option: str, value: str, limit: int) -> str:
    if len(value) > limit:
        raise InvalidOption(option, f"{len(value):,} characters long", f"at most {limit}")
    return value
