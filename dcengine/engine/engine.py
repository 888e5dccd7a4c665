"""The engine as a whole: start, resume, stop.

It is built in layers, each a module: `questions` (what can be asked), `dispatch` (from what waits to the
slots), `tasks` (the life of a task: read `Tasks.run` first), `batches` (many calls under one handle), `projects`
(jobs that travel through stages).
"""

from __future__ import annotations

import asyncio

from ..events import Kind
from ..jobs import State, Task
from ..store import now
from ..store.moving import Move
from .outcomes import Outcome, after_vanishing
from .projects import Projects


class Engine(Projects):
    """A job engine over one file, in one asyncio loop; implements `verbs.Verbs`."""

    async def start(self) -> int:
        """Open the file, start the cluster, take up what is unfinished; return how many jobs that are.

        Raises errors of the `StoreError` and `ClusterError` families; nothing is left running then.
        """
        await self._store.start()
        try:
            await self._cluster.start()
            left = await self._recover()
        except BaseException:
            await self._cluster.close()
            await self._store.close()
            raise
        self._own(self._feed_forever())
        self._own(self._look_after_things())
        return left

    async def _recover(self) -> int:
        """Queue what an ended engine had leased, and learn what waits."""
        await self._load_projects()
        for task in await self._store.reads.tasks(State.LEASED):
            outcome = after_vanishing(task, "the engine before this one")
            move = Move(task, outcome.task, Kind.RECOVERED, now(), output=outcome.output, reason=outcome.reason)
            await self._store.apply(move)
            self._transcripts.note(task.job, f"{outcome.reason}; it runs again")
        for stage, need, expression, priority, n in await self._store.reads.queued():
            self._feed.tasks(stage, need, expression).add(priority, n)
        await self._reopen_batches()
        self._hungry.set()
        return await self.unfinished()

    async def close(self) -> int:
        """Stop and wait for nothing: what runs goes back to the queue. Return how many jobs are unfinished."""
        self.end_waits()
        running = [held.work for held in self._running.values()]
        for chore in list(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._cluster.close()
        for task in running:
            if isinstance(task, Task):
                await self._move(task, Outcome(task.to(State.QUEUED), Kind.RELEASED, reason="the engine was closed"))
        await self._transcripts.save()
        left = await self.unfinished()
        await self._store.close()
        return left

    async def cancel_unfinished(self) -> int:
        """Cancel every open job and batch; return how many jobs were unfinished."""
        left = await self.unfinished()
        for batch in list(self._feed.batches):
            await self.cancel_batch(batch)
        while jobs := [job for job in await self._store.reads.open_jobs() if not self._is_cancelling(job)]:
            await asyncio.gather(*map(self.cancel, jobs))
        return left
