"""The engine as a whole: start, resume, stop.

It is built in layers, each a module: `questions` (what can be asked), `dispatch` (from what waits to the
slots), `stragglers` (what takes too long), `aftermath` (what follows from a move), `tasks` (the life of a task: read
`Tasks.run` first), `batches` (many calls under one handle), `projects` (jobs that travel through stages), `leases`
(tasks in the hands of outside workers), `outsiders` (these workers as such), `tokens` (who may do what), `upkeep`
(what is to be put away), `webhooks` (who else is told).
"""

from __future__ import annotations

import asyncio

from ..cluster import Launched
from ..events import Kind
from ..jobs import State, Task
from ..store import now
from ..store.depending import SettleBlocked
from ..store.moving import Move
from .measuring import Measuring
from .outcomes import Outcome, after_vanishing, released

ANSWER_SECONDS = 2.0  #: that an engine which closes gives to what was asked before


class Engine(Measuring):
    """A job engine over one file, in one asyncio loop; implements `verbs.Verbs`."""

    async def start(self, launched: Launched | None = None) -> int:
        """Open the file, start the cluster, take up what is unfinished; return how many jobs that are.

        What was *launched* already is the beginning of the cluster, and ends with it.

        Raises errors of the `StoreError` and `ClusterError` families; nothing is left running then.
        """
        await self._store.start()
        try:
            await self._values.start()
            await self._cluster.start(launched)
            left = await self._recover()
        except BaseException:
            await self._cluster.close()
            await self._store.close()
            raise
        self._own(self._feed_forever())
        self._own(self._look_after_things())
        self._own(self._look_after_leases())
        self._own(self._look_after_outsiders())
        self._own(self._keep_up())
        self._own(self._look_after_sessions())
        self._own(self._measure_lag())
        self._own(self._deliver())
        return left

    async def _recover(self) -> int:
        """Queue what an ended engine had leased, and learn what waits."""
        await self._load_projects()
        await self._recall_flows()
        await self._load_tokens()
        await self._take_up_leases()
        for task in await self._store.reads.tasks(State.LEASED):
            if task.token:
                continue  # an outside worker has it: it may not even have noticed
            outcome = self._after_restart(task)
            move = Move(task, outcome.task, Kind.RECOVERED, now(), output=outcome.output, reason=outcome.reason)
            await self._store.apply(move)
            self._transcripts.note(task.job, f"{outcome.reason}; it runs again")
        await self._lose_all()
        self._feed.count(await self._store.reads.queued())
        await self._reopen_batches()
        self._take_note(await self._store.apply(SettleBlocked(now())))
        for gather in await self._store.reads.cut_gathers():
            self._own(self._cut(gather))
        await self._load_bans()
        self._hungry.set()
        return await self.unfinished()

    def _after_restart(self, task: Task) -> Outcome:
        """Return what becomes of a *task* that an ended engine had given to a slot.

        Its code counts as what may have ended the engine only where it ran in the engine's own process.
        """
        engine = "the engine before this one"
        return released(task, f"{engine} vanished") if self._settings.processes else after_vanishing(task, engine)

    async def close(self) -> int:
        """Stop and wait for nothing: what runs goes back to the queue. Return how many jobs are unfinished."""
        self.end_waits()
        running = [held.work for held in self._running.values() if held.first is None]
        for chore in list(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._answer_the_last()
        await self._cluster.close()
        for work in running:
            await self._break_off(work, "the engine was closed")
        await self._values.close()
        await self._transcripts.save()
        await self._save_outsiders()
        left = await self.unfinished()
        await self._store.close()
        return left

    async def _answer_the_last(self) -> None:
        """Let what callers have asked for come to its end, but for what the disk has no room for."""
        if self._asked:
            _, late = await asyncio.wait(self._asked, timeout=ANSWER_SECONDS)
            for question in late:
                question.cancel()

    async def cancel_unfinished(self) -> int:
        """Cancel every open job and batch; return how many jobs were unfinished."""
        left = await self.unfinished()
        for batch in list(self._feed.batches):
            await self.cancel_batch(batch)
        while jobs := [job for job in await self._store.reads.open_jobs() if not self._is_cancelling(job)]:
            await asyncio.gather(*map(self.cancel, jobs))
        return left
