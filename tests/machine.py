"""A project in a real engine and the same in a model: whatever is done to one is done to the other, and compared."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dcengine.codec import is_json, json_text, pack, pack_function, pack_json, unpack
from dcengine.errors import InvalidTransition
from dcengine.store.checking import check_history
from dcengine.verbs import AddedJobs, ItemsSubmission, JobStatus, ProjectSpec, StageSpec
from tests.driven import Driven
from tests.model import BADLY, OPEN, SUCCEEDED, Job, Model, Stage, Task

FUNCTION = pack_function(len)
CLOSE_SECONDS = 0.5  #: no comparison so near to a moment when something is due
HOUR = 3600.0

places = st.integers(0, 99)  #: of the thing that a rule picks, counted round and round


class ProjectMachine(RuleBasedStateMachine):
    """What can be done to a project whatever its stages are, and how both sides are compared."""

    nicknames: Sequence[str] = ()  #: of the workers that slots belong to
    db: Path | None = None  #: a file on a copy of which all happens, beside what is in it; None for a new one
    project = "p"

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven(self.nicknames, self.db, judges=False)
        self.model: Model

    def begin(self, stages: Sequence[Stage]) -> None:
        """Declare the project, and let it run."""
        self.model = Model(stages)
        self.model.wall = self.driven.clock.time  # type: ignore[method-assign]
        self.declare()
        self.ask(self.engine.run_project(self.project))
        self.model.is_paused = False
        self.add(count=3, submitter="ann", keys=None, priority=0, delay=None, is_last=True, goes_on=False)

    @property
    def engine(self) -> Any:
        return self.driven.engine

    def ask(self, question: Any) -> Any:
        return self.driven.call(question)

    def declare(self) -> None:
        specs = [
            StageSpec(
                name=stage.name, kind=stage.kind, shape=stage.shape, votes=stage.votes, generations=stage.generations,
                retries=stage.retries, priority=stage.priority, credit=stage.credit, lease_seconds=stage.lease_seconds,
                timeout=stage.timeout, back_off=stage.back_off, back_off_limit=stage.back_off_limit,
                on_failed_part=stage.on_failed_part, function=FUNCTION if stage.kind == "function" else None,
            )
            for stage in self.model.stages
        ]  # fmt: skip
        self.ask(self.engine.declare_project(ProjectSpec(name=self.project, stages=specs)))

    def pick(self, place: int, states: Sequence[str]) -> Job | None:
        """Return one of the jobs in *states*."""
        jobs = [job for job in self.model.jobs.values() if job.state in states]
        return jobs[place % len(jobs)] if jobs else None

    # ---- what somebody asks for --------------------------------------------------------------

    @precondition(lambda self: len(self.model.jobs) < 12)
    @rule(
        count=st.integers(1, 3),
        submitter=st.sampled_from(["ann", "ben"]),
        keys=st.none() | st.lists(st.sampled_from("kmn"), min_size=3, max_size=3),
        priority=st.sampled_from([0, 0, 5]),
        delay=st.sampled_from([None, None, None, 30.0, -30.0]),
        is_last=st.sampled_from([True, True, False]),
        goes_on=st.booleans(),
    )
    def add(
        self,
        count: int,
        submitter: str,
        keys: list[str] | None,
        priority: int,
        delay: float | None,
        is_last: bool,
        goes_on: bool,
    ) -> None:
        values = [["item", len(self.model.jobs), n] for n in range(count)]
        due = None if delay is None else self.driven.clock.time() + delay
        roots = [job for job in self.model.jobs.values() if job.tasks[0].is_open]
        root = roots[-1] if roots and goes_on else None
        facts: dict[str, Any] = {"keys": keys[:count] if keys else None, "priority": priority, "is_last": is_last}
        if root is not None:
            facts["priority"] = root.priority
        submission = ItemsSubmission(
            project=self.project, blocks=[pack([packed(value) for value in values])], count=count, submitter=submitter,
            not_before=due, root=root and root.id, **facts,
        )  # fmt: skip
        added: AddedJobs = self.ask(self.engine.add_jobs(submission))
        if self.db is not None and not self.model.jobs:
            self.model.jobs_before = added.first_id - 1
        is_due = due is None or due <= self.driven.clock.time()
        jobs = self.model.add(values, submitter, due=None if is_due else due, root=root, **facts)

        assert (added.count, added.known) == (len(jobs), count - len(jobs))
        assert list(range(added.first_id, added.first_id + added.count)) == [job.id for job in jobs]
        if root is not None:
            assert added.root == root.id

    @rule(place=places, is_all=st.sampled_from([False] * 5 + [True]))
    def cancel(self, place: int, is_all: bool) -> None:
        job = self.pick(place, [OPEN])
        if is_all:
            n = len(self.model.open_jobs)
            assert self.ask(self.engine.cancel_project(self.project)) == n
            self.model.cancel_all()
        elif job is not None:
            self.ask(self.engine.cancel(job.id))
            self.model.cancel(job)

    @precondition(lambda self: self.pick(0, BADLY))
    @rule(place=places)
    def retry(self, place: int) -> None:
        job = self.pick(place, BADLY)
        if job is not None:
            again = self.ask(self.engine.retry([job.id]))
            assert again == self.model.retry(job)

    @precondition(lambda self: self.pick(0, BADLY))
    @rule(place=places, with_cancelled=st.booleans())
    def retry_project(self, place: int, with_cancelled: bool) -> None:
        stage = ([None, *(stage.name for stage in self.model.stages)])[place % (1 + len(self.model.stages))]
        jobs = [job for job in self.model.jobs.values() if job.state in BADLY[: 2 if with_cancelled else 1]]
        jobs = [job for job in jobs if stage in (None, job.task.stage)]
        again = self.ask(self.engine.retry_project(self.project, stage=stage, cancelled=with_cancelled))
        assert again == sum(self.model.retry(job) for job in jobs)

    @precondition(lambda self: self.pick(0, BADLY))
    @rule(place=places, is_open=st.booleans())
    def edit(self, place: int, is_open: bool) -> None:
        job = self.pick(place, [OPEN] if is_open else BADLY)
        if job is None:
            return
        value = ["edited", job.id, len(job.tasks)]
        accepted = self.model.edit(job, value)
        try:
            self.ask(self.engine.edit(job.id, packed(value)))
        except InvalidTransition:
            assert not accepted, f"job {job.id} could not be edited"
        else:
            assert accepted, f"job {job.id} could be edited, but is {job.task.state}"

    @rule(place=places, is_paused=st.sampled_from([True, False, False]))
    def hold(self, place: int, is_paused: bool) -> None:
        """Hold a stage back, or the whole project, or let it go on."""
        stage = ([None, *(stage.name for stage in self.model.stages)])[place % (1 + len(self.model.stages))]
        if stage is None:
            self.model.is_paused = is_paused
        else:
            (self.model.paused.add if is_paused else self.model.paused.discard)(stage)
        hold = self.engine.pause_project if is_paused else self.engine.run_project
        self.ask(hold(self.project, stage=stage))

    @rule(
        place=places,
        changes=st.fixed_dictionaries({
            "votes": st.integers(1, 3),
            "retries": st.integers(0, 2),
            "priority": st.sampled_from([0, 3]),
            "on_failed_part": st.sampled_from(["skip", "wait"]),
        }),
    )  # fmt: skip
    def declare_anew(self, place: int, changes: dict[str, Any]) -> None:
        stages = self.model.stages.copy()
        place %= len(stages)
        stages[place] = replace(stages[place], **changes)
        self.model.declare(stages)
        self.declare()

    @rule(place=places)
    def ask_why(self, place: int) -> None:
        job = self.pick(place, [OPEN])
        if job is not None:
            assert str(job.id - self.model.jobs_before) in self.ask(self.engine.why(job.id))

    # ---- time, and the end of the engine -----------------------------------------------------

    @rule(seconds=st.sampled_from([15.0, 40.0, 120.0]), clock=st.sampled_from([0.0, 0.0, HOUR, -HOUR]))
    def pass_by(self, seconds: float, clock: float) -> None:
        """Let time go by, or have somebody set the clock on the wall."""
        if clock:
            self.driven.clock.set_wall(clock)
            self.model.set_wall(clock)
            seconds = 2.0  # enough for the engine to look what is due
        self.driven.pass_by(seconds)
        self.keep_away()

    def keep_away(self) -> None:
        """Do what is due, and do not stop where something is just about to be."""
        clock = self.driven.clock
        while any(
            abs(moment - now) < CLOSE_SECONDS
            for task in self.model.tasks
            for moment, now in (
                (task.holder.until if task.holder is not None and task.holder.token else None, clock.monotonic()),
                (task.due, clock.time()),
            )
            if moment is not None
        ):
            self.driven.pass_by(2 * CLOSE_SECONDS)
        self.model.pass_by(clock.monotonic(), clock.time())

    @rule(was_killed=st.booleans())
    def begin_anew(self, was_killed: bool) -> None:
        """End the engine, by force or by a word, and go on with another one."""
        if was_killed:
            self.driven.crash()
        else:
            self.driven.reopen()
        self.model.take_over(self.driven.clock.monotonic(), was_killed=was_killed)
        self.driven.pass_by(2.0)
        self.keep_away()

    # ---- both sides compared -----------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        self.take_up_runs()
        jobs: list[JobStatus] = self.ask(self.engine.jobs(project=self.project, limit=1000))
        same("jobs", {job.id: seen(job) for job in jobs}, {job.id: told(job) for job in self.model.jobs.values()})
        status = self.ask(self.engine.project(self.project))
        states = Counter(job.state for job in self.model.jobs.values())
        ends = (status.open, status.succeeded, status.failed, status.cancelled)
        same("job counters", ends, tuple(states[state] for state in (OPEN, SUCCEEDED, *BADLY)))
        counts = {(stage.name, state): n for stage in status.stages for state, n in stage.counts.items()}
        same("counters", counts, self.model.counts())
        rows = self.ask(self.engine.leaderboard(self.project))
        same("leaderboard", {row.nickname: row.tasks for row in rows}, self.model.leaderboard())

    def take_up_runs(self) -> None:
        """Learn what the engine itself has set going."""

    def check_values(self) -> None:
        """Compare what each stage was given and gave, in every generation."""
        for job in self.model.jobs.values():
            entries = self.ask(self.engine.history(job.id))
            found = [(entry.stage, entry.generation, entry.state) for entry in entries]
            same("history", found, [(task.stage, task.generation, task.state) for task in job.tasks])
            for entry, task in zip(entries, job.tasks, strict=True):
                if task.parts is None:
                    same("input", unpacked(entry.input), task.value())
                if task.state == SUCCEEDED:
                    same("output", unpacked(entry.output), task.output)
                same("voters", sorted(flag.voter for flag in entry.flags), sorted(set(task.voters)))

    def teardown(self) -> None:
        has_failed = sys.exc_info()[0] is not None  # that is what is to be told
        try:
            if not has_failed:
                self.check_values()
                self.drain()
                self.check_values()
        finally:
            self.driven.close()
            violations = check_history(self.driven.db)
            self.driven.remove()
        assert has_failed or not violations, "\n".join(violations)

    def let_run(self) -> None:
        """Hold nothing back."""
        for stage in (None, *self.model.paused) if self.model.is_paused else self.model.paused.copy():
            self.ask(self.engine.run_project(self.project, stage=stage))
        self.model.is_paused = False
        self.model.paused.clear()

    def drain(self) -> None:
        """Let everything come to its end: nothing may be left that nobody can do."""
        self.let_run()
        for round in range(40):
            if not self.model.open_jobs:
                break
            if not self.work_off(round):
                self.end_adding()
                self.agree()
                self.retry_project(0, with_cancelled=True)  # what waits for lost parts goes on with them
                self.agree()
                self.driven.pass_by(2 * HOUR)
                self.keep_away()
            self.agree()
        else:
            raise AssertionError(f"open for ever: {[told(job) for job in self.model.open_jobs]}")

    def end_adding(self) -> None:
        """Say of every job that gathers what is added that this was all."""
        for job in [*self.model.jobs.values()]:
            if job.tasks[0].is_open:
                last = ItemsSubmission(project=self.project, blocks=[], count=0, root=job.id)
                self.ask(self.engine.add_jobs(last))
                self.model.add([], "", root=job)

    def work_off(self, round: int) -> bool:
        """Do some of what waits; return whether there was something."""
        raise NotImplementedError


def same(what: str, seen: Any, told: Any) -> None:
    """Refuse two sides that differ."""
    if isinstance(seen, dict) and seen != told:
        differs = {key for key in seen.keys() | told.keys() if seen.get(key) != told.get(key)}
        seen, told = ({key: side[key] for key in differs & side.keys()} for side in (seen, dict(told)))
    assert seen == told, f"{what}: the engine says {seen}, the model {told}"


def seen(status: JobStatus) -> tuple[object, ...]:
    """What an engine says of a job."""
    return (
        status.state, status.task_state, status.stage, status.generation, status.attempt, status.errors, status.flags,
        status.priority, status.parent,
    )  # fmt: skip


def told(job: Job) -> tuple[object, ...]:
    """What the model says of one."""
    task: Task = job.task
    return (
        job.state, task.state, task.stage, task.generation, task.attempt, task.errors, len(set(task.voters)),
        task.priority, job.parent and job.parent.id,
    )  # fmt: skip


def packed(value: Any) -> bytes:
    return pack_json(value, what="a value")


def unpacked(value: bytes) -> Any:
    assert is_json(value)
    return json.loads(bytes(json_text(value)))


def frame(value: bytes) -> list[Any]:
    """The values in a frame."""
    return [unpacked(each) for each in unpack(value)]
