"""The workers as the engine is asked about them: what they offer, what they lack, and the tags that they are given."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import tags
from ..cluster import ClusterSettings, Slot, WorkerGone
from ..errors import NotFound
from ..jobs import Worker
from ..tags import compare, parse
from ..verbs import Explanation, OtherVersions, Progress, WorkerStatus
from .feeding import explained, fits, knows
from .questions import Questions
from .running import Running

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0  #: how long an answer about the workers waits for the first of them to join
SPEAKERS = 100  #: calls of a unit that are asked how far they are
ANSWER_SECONDS = 2.0  #: how long it waits for what they have of the packages and programs that it mentions


class Workers(Questions):
    """Answers what is asked about the workers."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._compared: set[frozenset[str]] = set()  #: packages of functions that were compared with the workers'

    async def workers(self, *, tags: str = "", name: str | None = None) -> list[WorkerStatus]:
        """Return every worker, those that cannot be used included, once those that must come have joined."""
        wanted = parse(tags)
        expected = 1 if self._settings.is_foreign else self._settings.workers
        await self._joined(is_enough=lambda: len(self._cluster.workers) >= expected)
        if tags:
            await self._answered(tags)
        found = [worker for _, worker in sorted(self._cluster.workers.items()) if name in (None, worker.name)]
        return self._statuses_of([worker for worker in found if not tags or wanted.matches(worker.tags)])

    async def tag_worker(self, name: str, tags: str) -> WorkerStatus:
        """Give worker *name* these tags of its owner's making, in place of those that it had."""
        try:
            await self._cluster.tag(name, tags)
        except WorkerGone:
            raise NotFound("worker", name) from None
        logger.info("worker %s has the tags %r now", name, tags)
        return self._statuses_of([self._cluster.workers[name]])[0]

    def _statuses_of(self, workers: list[Worker]) -> list[WorkerStatus]:
        """Return *workers* as people see them; slots and what runs are gone through once, however many they are."""
        slots, running = defaultdict[str, list[Slot]](list), defaultdict[str, list[Running]](list)
        for slot in self._cluster.slots:
            slots[slot.worker.name].append(slot)
        for each in self._running.values():
            running[each.slot.worker.name].append(each)
        heard = self._cluster.heard_of()
        return [
            self._worker_status(worker, slots[worker.name], running[worker.name], heard.get(worker.name))
            for worker in workers
        ]

    def _worker_status(
        self, worker: Worker, slots: list[Slot], running: list[Running], heard: tuple[float, float] | None
    ) -> WorkerStatus:
        since, last_seen = heard or (None, None)
        return WorkerStatus(
            name=worker.name, address=worker.address, contributor=worker.contributor,
            state="unfit" if worker.unfit else "ready" if slots else "starting", slots=worker.slots,
            busy=sum(1 for slot in slots if slot.in_flight), tags=worker.tags, reason=worker.unfit,
            running=[each.job_of(0) for each in running if each.left], devices=self._devices.lent_by(worker),
            set_aside=self._conduct.reasons(worker.name), own=sorted(worker.own & worker.tags.keys()),
            says=self._said_by(running), since=since, last_seen=last_seen,
            per_hour=self._tallies.workers.per_hour(worker.name, since or 0.0),
        )  # fmt: skip

    def _said_by(self, running: list[Running]) -> dict[int, str]:
        """Return what the jobs of *running* say of how far they are, of each unit the newest that does."""
        said = dict[int, str]()
        for each in running:
            for item in reversed(range(min(each.left, SPEAKERS))):
                progress = self._transcripts.progress(each.job_of(item))
                if progress is not None:
                    said[each.job_of(item)] = _sentence(progress)
                    break
        return said

    # ---- tags ------------------------------------------------------------------------------

    async def explain(self, expression: str) -> Explanation:
        """Return which workers match the tag expression, and what the others lack."""
        tags.parse(expression)
        await self._joined()
        await self._answered(expression)
        return explained(expression, self._cluster.workers.values())

    async def _missing(self, expression: str) -> str | None:
        """Return what the nearest worker lacks if none matches, once the first had time to join."""
        if not expression:
            return None
        await self._joined(lambda: self._is_met(expression))
        await self._answered(expression, lambda: self._is_met(expression))
        return None if self._is_met(expression) else self._nearest(expression)

    def _is_met(self, expression: str) -> bool:
        return any(fits(expression, worker) for worker in self._cluster.workers.values())

    async def _answered(self, expression: str, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Have the workers asked for what *expression* mentions; wait until all have answered, or it *is_enough*."""
        names = tags.looked_up(expression)
        if names:
            self._cluster.look_up(names)
            await self._until(lambda: is_enough() or self._is_known(expression), ANSWER_SECONDS)

    def _is_known(self, expression: str) -> bool:
        return all(worker.unfit or knows(expression, worker) for worker in self._cluster.workers.values())

    # ---- versions --------------------------------------------------------------------------

    async def _other_versions(self, expression: str, packages: Mapping[str, str]) -> list[OtherVersions]:
        """Return which of *packages* have other versions on workers that match *expression*, or are missing there."""
        if not packages:
            return []
        names = frozenset(f"pkg.{package}" for package in packages)
        self._cluster.look_up(names)

        def matching() -> list[Worker]:
            return [worker for _, worker in sorted(self._cluster.workers.items()) if fits(expression, worker)]

        if names not in self._compared:  # later ones need not wait: who has not answered yet is compared next time
            self._compared.add(names)
            await self._until(
                lambda: self._cluster.settled and all(names <= worker.asked for worker in matching()), ANSWER_SECONDS
            )
        compared = [worker for worker in matching() if names <= worker.asked]
        found = [_other_versions(package, here, compared) for package, here in sorted(packages.items())]
        return [other for other in found if other.there]

    # ---- waiting ---------------------------------------------------------------------------

    async def _joined(self, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Wait until the first workers had time to join, or until what there *is_enough*."""
        await self._until(lambda: self._cluster.settled or is_enough(), SETTLE_SECONDS)

    async def _until(self, is_enough: Callable[[], bool], seconds: float) -> None:
        """Wait for news of the workers until it *is_enough*, for so many *seconds* at most."""
        deadline = time.monotonic() + seconds
        while True:
            news = self._bus.news("workers")
            left = deadline - time.monotonic()
            if is_enough() or left <= 0 or self._is_closing:
                news.cancel()
                return
            await self._bus.within(news, left)


def _sentence(progress: Progress) -> str:
    """Return *progress* as people read it in a line."""
    if not progress.total:
        return progress.text or f"{progress.done:g}"
    share = f"{progress.done:g} of {progress.total:g}"
    return f"{share}: {progress.text}" if progress.text else share


def _other_versions(package: str, here: str, workers: list[Worker]) -> OtherVersions:
    """Return on which of *workers* the version of *package* is not the one *here*."""
    name = f"pkg.{package}"
    there = {worker.name: worker.tags.get(name) for worker in workers if not _has(worker, name, here)}
    return OtherVersions(package=package, here=here, there=there, compared=len(workers))


def _has(worker: Worker, name: str, version: str) -> bool:
    """Tell whether *worker* has the package in that *version*, or is said to have it, whatever the version."""
    found = worker.tags.get(name)
    return name in worker.tags and (found is None or compare(found, "==", version))
