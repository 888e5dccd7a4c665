"""What outside workers ask and say. Their values are JSON text here, and nobody looks into them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import asdict

from ..connection import Answer, Connection, Question
from ..raw import decode
from ..verbs import Completion, Heartbeat, LeasedTask, LeaseRequest, TaskAnswer, TaskFailure, TaskFlag
from .projects import path_of

SAID_AT_ONCE = 1000  #: tasks spoken of in one request

_leased = msgspec.json.Decoder(list[LeasedTask])


class AboutLeases(Connection):
    """Leases tasks and reports what became of them."""

    async def lease(self, request: LeaseRequest) -> list[LeasedTask]:
        async def ask(piece: float) -> list[LeasedTask] | None:
            return self._leased(await self._answer(lease_question(request, piece))) or None

        return await self._until(ask, request.wait) or []

    def _leased(self, answer: Answer) -> list[LeasedTask]:
        try:
            return decode(answer.body, _leased, raw="input")
        except ValueError:
            raise self._not_ours(answer) from None

    async def heartbeat(self, beats: list[Heartbeat], *, project: str | None = None) -> list[TaskAnswer]:
        return await self._say("heartbeat", beats)

    async def complete(self, completions: list[Completion], *, project: str | None = None) -> list[TaskAnswer]:
        return await self._say("complete", completions)

    async def fail(self, failures: list[TaskFailure], *, project: str | None = None) -> list[TaskAnswer]:
        return await self._say("fail", failures)

    async def flag(self, flags: list[TaskFlag], *, project: str | None = None) -> list[TaskAnswer]:
        return await self._say("flag", flags)

    async def release(self, tokens: list[str], *, project: str | None = None) -> list[TaskAnswer]:
        return await self._say("release", tokens)

    async def _say(self, what: str, items: Sequence[object]) -> list[TaskAnswer]:
        """Say *what* of tasks; an engine answers alike to what it was told before, so this needs no key."""
        answers: list[TaskAnswer] = []
        for start in range(0, len(items), SAID_AT_ONCE):
            question = Question("POST", f"v1/tasks/{what}").with_json(items[start : start + SAID_AT_ONCE])
            answers += self._value(list[TaskAnswer], await self._answer(question))
        return answers


def lease_question(request: LeaseRequest, wait: float) -> Question:
    """Return *request* as it is sent; it waits *wait* seconds, and is done once however often it is sent."""
    wish = {name: value for name, value in asdict(request).items() if name not in ("project", "stage")}
    path = f"{path_of(request.project, request.stage)}/lease"
    return Question("POST", path, wait=wait).once().with_json({**wish, "wait": wait})
