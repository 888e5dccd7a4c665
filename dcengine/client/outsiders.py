"""Questions of workers that were given an identity, and about all outside workers."""

from __future__ import annotations

import msgspec

from ..connection import Connection, Query, Question
from ..raw import decode
from ..verbs import LeasedTask, OutsiderFilter, OutsiderPage, OutsideWorker, Registered, Registration
from .projects import path_of

_leased = msgspec.json.Decoder(list[LeasedTask])


class AboutOutsiders(Connection):
    """Registers workers and speaks for them; shows who is there."""

    async def register_worker(self, registration: Registration) -> Registered:
        path = f"{path_of(registration.project, registration.stage)}/workers"
        wish = {"nickname": registration.nickname, "name": registration.name}
        return self._value(Registered, await self._answer(Question("POST", path).once().with_json(wish)))

    async def registered_worker(self, secret: str) -> OutsideWorker:
        return self._value(OutsideWorker, await self._answer(_about("", secret)))

    async def lease_as(
        self, secret: str, *, n: int = 1, wait: float = 0.0, is_volunteer: bool = False, grant: int | None = None
    ) -> list[LeasedTask]:
        async def ask(piece: float) -> list[LeasedTask] | None:
            return await self._tasks(_about("/lease", secret, wait=piece, n=n).once()) or None

        return await self._until(ask, wait) or []

    async def held_tasks(self, secret: str) -> list[LeasedTask]:
        return await self._tasks(_about("/held", secret))

    async def leave_worker(self, secret: str) -> bool:
        return self._value(bool, await self._answer(_about("/leave", secret).once()))

    async def say_progress(self, secret: str, text: str) -> bool:
        return self._value(bool, await self._answer(_about("/progress", secret, text=text)))

    async def outside_workers(
        self, project: str | None = None, *, tags: str = "", name: str | None = None
    ) -> list[OutsideWorker]:
        query: Query = {"project": project, "tags": tags or None, "name": name}
        return await self._get(list[OutsideWorker], "v1/outside-workers", query)

    async def find_outside_workers(self, wanted: OutsiderFilter, *, skip: int = 0, limit: int = 100) -> OutsiderPage:
        query = {name: text or None for name, text in msgspec.structs.asdict(wanted).items()}
        return await self._get(OutsiderPage, "v1/outside-workers/found", {**query, "skip": skip, "limit": limit})

    async def _tasks(self, question: Question) -> list[LeasedTask]:
        answer = await self._answer(question)
        try:
            return decode(answer.body, _leased, raw="input")
        except ValueError:
            raise self._not_ours(answer) from None


def _about(what: str, secret: str, *, wait: float = 0.0, **more: object) -> Question:
    """Return a question of the worker that shows this *secret*."""
    said = {"secret": secret, **more, **({"wait": wait} if wait else {})}
    return Question("POST", f"v1/registered-worker{what}", wait=wait).with_json(said)
