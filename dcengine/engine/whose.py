"""Whose work it is: contributors as all see them, and what holders of tokens are told of themselves."""

from __future__ import annotations

import time

from ..errors import NotFound
from ..jobs import Worker
from ..verbs import ContributorReport, Grant, HeldTask, JobFilter, JobPage, Mine, OutsideWorker, Span, Standing
from ..verbs.access import mark_of
from .hands import Held
from .outsider import Outsider
from .questions import EVERYTHING
from .tokens import OWNER
from .webhooks import Webhooks

HOURS = 720  #: that a report goes back
SPANS: tuple[Span, ...] = ("day", "week", "month", "all")
HELD_SHOWN = 100  #: tasks in somebody's hands
NICKNAMES_SHOWN = 5  #: under one token
BATCHES_LOOKED_AT, BATCHES_SHOWN = 500, 20  #: the newest; of them those brought with one token


class Whose(Webhooks):
    """Answers what one contributor, or the holder of one token, has done, has and has brought."""

    async def contributor(self, nickname: str) -> ContributorReport:
        """Return all that is known of *nickname*; raises `NotFound` for one never met."""
        return await self._report_on(nickname, None)

    async def mine(self, *, grant: Grant | None = None) -> Mine:
        """Return what the holder of the token that allows *grant* has done, holds and has brought."""
        grant = grant or OWNER
        outsiders = [each for each in self._outsiders.values() if _is_of(each, grant)]
        in_hand = [held for held in self._leases.values() if _is_held_under(held, grant)]
        held = sorted(in_hand, key=lambda each: each.until)
        names = {grant.nickname} if grant.nickname else {each.nickname for each in outsiders}
        reports = [await self._report_on(name, grant.project) for name in sorted(filter(None, names))[:NICKNAMES_SHOWN]]
        batches = await self.batches(limit=BATCHES_LOOKED_AT)
        return Mine(
            role=grant.role, token=grant.id, project=grant.project, nickname=grant.nickname, contributors=reports,
            workers=self._statuses_of_outsiders(outsiders), held=len(held),
            holding=[self._as_held(each) for each in held[:HELD_SHOWN]],
            batches=[each for each in batches if mark_of(each.submitter) == grant.id][:BATCHES_SHOWN],
        )  # fmt: skip

    async def my_jobs(self, *, before: int | None = None, limit: int = 50, grant: Grant | None = None) -> JobPage:
        """Return the jobs that were brought with the token that allows *grant*, newest first."""
        id = (grant or OWNER).id
        return await self._store.reads.find_jobs(
            JobFilter(), before=before, limit=max(1, min(limit, 1000)), brought_with=id or 0
        )

    # ---- one by one ------------------------------------------------------------------------

    async def _report_on(self, nickname: str, project: str | None) -> ContributorReport:
        """Return what is known of *nickname*, of *project* alone if it is given."""
        at = time.time()
        credited = await self._store.reads.credited(nickname, project=project, hour=int(at // 3600), hours=HOURS)
        workers = self._workers_of(nickname, project)
        machines = [] if project else sorted(each.name for each in self._machines_of(nickname))
        if credited is None:
            if not (workers or machines or any(each.stored.nickname == nickname for each in self._tokens.values())):
                raise NotFound("contributor", nickname)
            return ContributorReport(nickname=nickname, at=at, workers=workers, machines=machines)
        return ContributorReport(
            nickname=nickname, banned=credited.banned, at=at, hours=credited.hours, projects=credited.projects,
            stages=credited.stages, newest=credited.newest, places=await self._places_of(nickname, project),
            workers=workers, machines=machines,
        )  # fmt: skip

    async def _places_of(self, nickname: str, project: str | None) -> dict[Span, Standing]:
        places = dict[Span, Standing]()
        for span in SPANS:
            try:
                place = await self.standing(project or EVERYTHING, nickname, span=span)
            except NotFound:  # no credit, or calls alone
                return {}
            if place.units:
                places[span] = place
        return places

    def _workers_of(self, nickname: str, project: str | None) -> list[OutsideWorker]:
        outsiders = self._outsiders.values()
        return self._statuses_of_outsiders(
            [each for each in outsiders if each.nickname == nickname and project in (None, each.project)]
        )

    def _machines_of(self, nickname: str) -> list[Worker]:
        return [worker for worker in self._cluster.workers.values() if worker.contributor == nickname]

    def _as_held(self, held: Held) -> HeldTask:
        progress = self._transcripts.progress(held.task.job)
        return HeldTask(
            project=self._stages.project_of(held.stage.id) or "", stage=held.stage.name, job=held.task.job,
            number=held.task.number, worker=held.worker, deadline=held.deadline,
            says="" if progress is None else progress.text,
        )  # fmt: skip


def _is_of(outsider: Outsider, grant: Grant) -> bool:
    """Tell whether *outsider* has shown the token that allows *grant* last, or earns for its nickname."""
    if grant.project not in (None, outsider.project):
        return False
    return (grant.id is not None and outsider.grant == grant.id) or _is_named(outsider.nickname, grant)


def _is_held_under(held: Held, grant: Grant) -> bool:
    return (grant.id is not None and held.holder == grant.id) or _is_named(held.contributor, grant)


def _is_named(nickname: str, grant: Grant) -> bool:
    return grant.nickname is not None and nickname == grant.nickname
