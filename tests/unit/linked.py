"""The front over an engine in memory: `dcengine.Project` and the command line ask the double."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from tests.unit.engine_double import EngineDouble


class DoubleLink:
    """The way to an engine double; remembers what was asked with which arguments."""

    def __init__(self) -> None:
        self.told: set[tuple[object, str]] = set()
        self.loop = asyncio.new_event_loop()
        self.engine = EngineDouble()
        self.asked: list[tuple[Any, ...]] = []  #: verb, arguments, named arguments

    def call(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        self.asked.append((verb, *args, kwargs))
        return self.play(getattr(self.engine, verb)(*args, **kwargs))

    def start(self, verb: str, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self.call(verb, *args, **kwargs))
        return future

    def play(self, happening: Any) -> Any:
        """Have something happen at the engine."""
        return self.loop.run_until_complete(happening)
