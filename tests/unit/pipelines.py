"""Projects in a store whose tasks a test moves by hand, by the engine's own rules."""

from __future__ import annotations

import sqlite3
from typing import Any

from dcengine.codec import Failure, pack_failure, pack_function
from dcengine.engine.outcomes import Outcome, after_error, after_flag, released, succeeded
from dcengine.engine.stages import Stages
from dcengine.jobs import Shape, Stage, Task, Vote
from dcengine.store import Store, now
from dcengine.store.adding import AddProjectJobs, Brought
from dcengine.store.handing import Consequences
from dcengine.store.leasing import Holder, Lease
from dcengine.store.moving import Move
from dcengine.store.projects import DeclareProject
from dcengine.verbs import AddedJobs, ItemsSubmission, ProjectSpec, StageSpec

FUNCTION = pack_function(abs)


def a_stage(name: str, shape: Shape = "map", **options: Any) -> StageSpec:
    return StageSpec(name=name, shape=shape, function=FUNCTION, **options)


class Pipeline:
    """One project."""

    def __init__(self, store: Store, name: str = "photos") -> None:
        self._store, self._name, self._stages = store, name, Stages()

    async def declare(self, *stages: StageSpec) -> None:
        declared = await self._store.apply(DeclareProject(ProjectSpec(name=self._name, stages=list(stages)), now()))
        self._stages.learn(declared.project)

    async def add(self, *values: bytes, **options: Any) -> AddedJobs:
        """Add a job for each of *values*; where a gather waits for all of them, as parts of one."""
        submission = ItemsSubmission(project=self._name, blocks=[], count=len(values), submitter="me", **options)
        brought: Brought = await self._store.apply(AddProjectJobs(submission, list(values), now()))
        return brought.added

    async def lease(self, name: str, n: int = 1, *, worker: str = "w1") -> list[Task]:
        stage = self._stage(name)
        submitters = [id for (id,) in rows(self._store, "SELECT id FROM submitter WHERE name = 'me'")]
        tasks: list[Task] = await self._store.apply(
            Lease(stage.id, stage.need, submitters[0], n, Holder(worker), now())
        )
        return tasks

    async def succeed(self, task: Task, output: bytes = b"out", **move: Any) -> Consequences:
        stage = self._stages.get(task.stage)
        return await self._move(
            task, succeeded(task, output, stage=stage, following=self._stages.after(task.stage)), **move
        )

    async def run(self, name: str, n: int = 1, output: bytes = b"out") -> None:
        """Take *n* jobs through the stage called *name*."""
        for task in await self.lease(name, n):
            await self.succeed(task, output)

    async def fail(self, task: Task, reason: str, **move: Any) -> Consequences:
        failure = pack_failure(Failure("ValueError", reason))
        return await self._move(task, after_error(task, failure, stage=self._stages.get(task.stage)), **move)

    async def flag(self, task: Task, voter: str, reason: str) -> Consequences:
        stage = self._stages.get(task.stage)
        assert stage is not None
        earlier = [flag.voter for flag in await self._store.reads.votes(task.id)]
        return await self._move(task, after_flag(task, stage, Vote(voter, reason), earlier, []))

    async def release(self, task: Task, reason: str) -> Consequences:
        return await self._move(task, released(task, reason))

    async def _move(self, task: Task, outcome: Outcome, **move: Any) -> Consequences:
        opens, gather = outcome.following
        consequences: Consequences = await self._store.apply(
            Move(
                task, outcome.task, outcome.kind, now(), worker="w1", contributor="alice", output=outcome.output,
                reason=outcome.reason, opens=opens, gather=gather, parts=outcome.parts, vote=outcome.vote, **move,
            )
        )  # fmt: skip
        return consequences

    def _stage(self, name: str) -> Stage:
        stage = self._stages.named(self._name, name)
        assert stage is not None
        return stage


def rows(store: Store, sql: str, *parameters: object) -> list[Any]:
    """Return what *sql* finds in the file."""
    connection = sqlite3.connect(store.db)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def change(store: Store, sql: str, *parameters: object) -> None:
    """Change the file behind the store's back."""
    connection = sqlite3.connect(store.db)
    try:
        with connection:
            connection.execute(sql, parameters)
    finally:
        connection.close()
