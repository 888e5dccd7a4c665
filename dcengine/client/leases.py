"""What outside workers ask and say. Their values are JSON text here, and nobody looks into them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import asdict

from ..connection import Connection, Question
from ..raw import decode
from ..verbs import Completion, Heartbeat, LeasedTask, LeaseRequest, TaskAnswer, TaskFailure, TaskFlag
from .projects import path_of

SAID_AT_ONCE = 1000  #: tasks spoken of in one request

_leased = msgspec.json.Decoder(list[LeasedTask])


class AboutLeases(Connection):
    """Leases tasks and reports what became of them."""

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        path = f"{path_of(request.project, request.stage)}/lease"
        wish = {name: value for name, value in asdict(request).items() if name not in ("project", "stage")}

        async def ask(piece: float) -> list[LeasedTask] | None:
            question = Question("POST", path, wait=piece).once().with_json({**wish, "wait": piece})
            answer = await self._answer(question)
            try:
                return decode(answer.body, _leased, raw="input") or None
            except ValueError:
                raise self._not_ours(answer) from None

        return await self._until(ask, request.wait) or []

    async def heartbeat(self, beats: list[Heartbeat]) -> list[TaskAnswer]:
        return await self._say("heartbeat", beats)

    async def complete(self, completions: list[Completion]) -> list[TaskAnswer]:
        return await self._say("complete", completions)

    async def fail(self, failures: list[TaskFailure]) -> list[TaskAnswer]:
        return await self._say("fail", failures)

    async def flag(self, flags: list[TaskFlag]) -> list[TaskAnswer]:
        return await self._say("flag", flags)

    async def release(self, tokens: list[str]) -> list[TaskAnswer]:
        return await self._say("release", tokens)

    async def _say(self, what: str, items: Sequence[object]) -> list[TaskAnswer]:
        """Say *what* of tasks; an engine answers alike to what it was told before, so this needs no key."""
        answers: list[TaskAnswer] = []
        for start in range(0, len(items), SAID_AT_ONCE):
            question = Question("POST", f"v1/tasks/{what}").with_json(items[start : start + SAID_AT_ONCE])
            answers += self._value(list[TaskAnswer], await self._answer(question))
        return answers
