"""Whatever is done to a project, in whatever order: a real engine and a model of it agree, and its history is true.

Each example is a project, up to fifty things done to it, and then the way to the end of all its jobs. The examples are
the same in each run; `make machine` tries many more, by the seed that it prints. A failure tells the steps to it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from dcengine.codec import Failure, json_text, pack, pack_failure, unpack
from dcengine.engine.conduct import Conduct
from dcengine.runner.units import Ending
from dcengine.verbs import Completion, Heartbeat, LeasedTask, LeaseRequest, TaskAnswer, TaskFailure, TaskFlag
from tests.machine import ProjectMachine, frame, packed, places, unpacked
from tests.model import QUEUED, Holder, Stage, Task

LONG = os.environ.get("DCENGINE_MACHINE", "")
EXAMPLES = int(LONG) if LONG else 100
SETTINGS = settings(
    max_examples=EXAMPLES, stateful_step_count=50 if LONG else 30, deadline=None, derandomize=not LONG,
    print_blob=True, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)  # fmt: skip

pytestmark = pytest.mark.timeout(0 if LONG else 900)  # reducing a failure takes its time

options = st.fixed_dictionaries({
    "votes": st.sampled_from([1, 1, 2, 3]),
    "generations": st.sampled_from([2, 1, 0]),
    "retries": st.integers(0, 2),
    "priority": st.sampled_from([0, 0, 2]),
    "credit": st.sampled_from(["task", "unit"]),
    "back_off": st.sampled_from([3.0, 20.0]),
})  # fmt: skip


WORDS = ["beat", "complete", "fail", "flag", "release"]
NICKNAMES = ["", "anonymous", "ada", "bob", "cem"]
words = st.lists(st.sampled_from(["complete"] * 5 + WORDS), min_size=1, max_size=3)
units = st.sampled_from([None, 7, 1, 0])


class Leasing(ProjectMachine):
    """What outside workers can do."""

    @property
    def lease_stages(self) -> list[Stage]:
        return [stage for stage in self.model.stages if stage.kind == "lease"]

    @rule(
        place=places,
        n=st.sampled_from([1, 1, 2, 5]),
        worker=st.sampled_from(["w1", "w2", "w3"]),
        nickname=st.sampled_from(NICKNAMES),
    )
    def lease(self, place: int, n: int, worker: str, nickname: str) -> None:
        voter = worker if nickname in ("", "anonymous") else nickname
        stages = [stage for stage in self.lease_stages if self.model.ready(stage.name, voter)] or self.lease_stages
        if not stages:
            return
        stage = stages[-1 - place % len(stages)]
        ready = self.model.ready(stage.name, voter)
        request = LeaseRequest(project=self.project, stage=stage.name, worker=worker, nickname=nickname, n=n)
        leased: list[LeasedTask] = self.ask(self.engine.lease(request))
        tasks = [self.model.jobs[each.job].task for each in leased]

        assert len(tasks) == len({*map(id, tasks)}) == min(n, len(ready))
        assert all(any(task is each for each in ready) for task in tasks)
        self.check_order(ready, tasks)
        for each, task in zip(leased, tasks, strict=True):
            self.hand(task, Holder(worker, nickname or worker, voter, stage, each.token))
            assert unpacked(b"J" + bytes(each.input)) == task.value()
            assert (each.generation, each.attempt) == (task.generation, task.attempt)

    def hand(self, task: Task, holder: Holder) -> None:
        holder.since = self.driven.clock.monotonic()
        holder.renew(holder.since)
        self.model.hand(task, holder)

    def check_order(self, ready: list[Task], tasks: list[Task]) -> None:
        """Of each submitter the highest priority comes first, then the oldest; what is flagged has turns of its own."""
        unflagged = [task for task in ready if not task.voters]
        for submitter in {task.job.submitter for task in tasks}:
            of_submitter = [task for task in unflagged if task.job.submitter == submitter]
            mine = [task for task in tasks if task.job.submitter == submitter and not task.voters]
            least = min((task.priority for task in mine), default=1 << 30)
            early = [task.job.id for task in of_submitter if task.priority > least and task not in mine]
            assert not early, f"{early} of {submitter} should come before {[task.job.id for task in mine]}"

    def token(self, place: int) -> str:
        """Pick a token: mostly of a lease that is held, also of one that has ended, or of none."""
        tokens = [*self.model.leased()] * 4 + self.model.tokens[-12:] + ["7-1-abc", "nonsense"]
        return tokens[place % len(tokens)]

    @rule(place=places, word=st.sampled_from(WORDS), units=units)
    def say(self, place: int, word: str, units: int | None) -> None:
        self.say_under(self.token(place), word, units)

    @rule(shifts=st.lists(st.tuples(places, st.sampled_from(NICKNAMES), words, units), min_size=1, max_size=4))
    def work(self, shifts: list[tuple[int, str, list[str], int | None]]) -> None:
        """Have people take some tasks each, and say something of each."""
        for place, nickname, said, units in shifts:
            self.lease(place, len(said), "w4", nickname)
            held = [token for token, task in self.model.leased().items() if task.holder and task.holder.worker == "w4"]
            for token, word in zip(held, said, strict=False):
                self.say_under(token, word, units)

    @rule(place=places, people=st.integers(1, 3), word=st.sampled_from(["flag", "flag", "fail"]))
    def complain(self, place: int, people: int, word: str) -> None:
        """Have some people take all that a stage has, and be content with none of it."""
        for nickname in NICKNAMES[-people:]:
            self.work([(place, nickname, [word] * 3, None)])

    @rule(place=places, rounds=st.integers(1, 3), units=units)
    def flow(self, place: int, rounds: int, units: int | None) -> None:
        """Hold nothing back, and have some of what waits be done, then some of what waits behind it."""
        self.let_run()
        for round in range(rounds):
            self.work([(place + round, "dan", ["complete"] * 2, units)])

    def say_under(self, token: str, word: str, units: int | None = None) -> None:
        """Say *word* of what is held under *token*, to the engine and to the model."""
        held = self.model.leased().get(token)
        (answer,) = self.ask(self.question(token, word, units))
        self.check(answer, held, word)
        self.take_in(held, word, units)

    def question(self, token: str, word: str, units: int | None) -> Coroutine[Any, Any, list[TaskAnswer]]:
        """Return *word*, said of what is held under *token*."""
        if word == "beat":
            return self.engine.heartbeat([Heartbeat(token=token, done=1.0, text="on it")])
        if word == "fail":
            return self.engine.fail([TaskFailure(token=token, reason="no luck")])
        if word == "flag":
            return self.engine.flag([TaskFlag(token=token, reason="it is bad")])
        if word == "release":
            return self.engine.release([token])
        output = msgspec.Raw(json_text(packed(self.output(self.model.leased().get(token)))))
        return self.engine.complete([Completion(token=token, output=output, units=units)])

    def output(self, task: Task | None) -> Any:
        """What comes of *task*."""
        return None if task is None else ["output", task.job.id, task.stage, task.attempt]

    def take_in(self, task: Task | None, word: str, units: int | None) -> None:
        """Have the model take in *word* of *task*, if somebody held it."""
        if task is None or task.holder is None:
            return
        if word == "beat":
            task.holder.renew(self.driven.clock.monotonic())
        elif word == "complete":
            self.model.succeed(task, self.output(task), 1 if units is None else units)
        elif word == "release":
            self.model.put_back(task, word=word)
        elif word == "fail":
            self.model.err(task)
        else:
            self.model.flag(task)

    def check(self, answer: TaskAnswer, held: Task | None, word: str) -> None:
        """Check what a worker is answered to *word* of the task that it has *held*."""
        said = [task.said for task in self.model.tasks if task.said is not None]
        if held is not None or (answer.token, word) in said:  # the same word said twice is answered alike
            assert answer.is_accepted, answer
        elif word == "beat" or answer.token not in self.model.words:
            assert not answer.is_accepted, f"{answer}, but nobody holds it"
        assert answer.cancel == (word == "beat" and held is None)

    @rule(place=places, times=st.sampled_from([1, 10]))
    def vanish_with(self, place: int, times: int) -> None:
        """Have worker after worker take a task and never be heard of again."""
        for n in range(times):
            self.lease(place, 1, f"lost{n}", "")
            self.pass_by(200.0, 0.0)

    @precondition(lambda self: self.model.leased())
    @rule(place=places, times=st.integers(2, 3))
    def complete_at_once(self, place: int, times: int) -> None:
        """The same word several times in one request: it counts once."""
        held = self.model.leased()
        token, task = [*held.items()][place % len(held)]
        answers = self.ask(self.engine.complete([Completion(token=token)] * times))
        assert all(answer.is_accepted for answer in answers)
        self.model.succeed(task, None)

    def work_off(self, round: int) -> bool:
        before = len(self.model.leased())
        for _ in self.lease_stages:
            self.lease(0, 5, f"late{round}", f"late{round}")
        tokens = [*self.model.leased()]
        for token in tokens:
            self.say_under(token, "complete")
            self.agree()
        return bool(before or tokens)


async def together(questions: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Ask all *questions* in one moment."""
    return await asyncio.gather(*questions)


class LeaseStages(Leasing):
    """A project that outside workers do from the first stage to the last; many of them speak at once."""

    @initialize(stages=st.lists(options, min_size=2, max_size=4), timeout=st.sampled_from([None, 130.0]))
    def declare_project(self, stages: list[dict[str, Any]], timeout: float | None) -> None:
        self.begin([Stage(name, timeout=timeout, **given) for name, given in zip("abcd", stages, strict=False)])

    @precondition(lambda self: len(self.model.leased()) > 1)
    @rule(place=places, words=st.lists(st.sampled_from(WORDS[1:]), min_size=2, max_size=6))
    def say_at_once(self, place: int, words: list[str]) -> None:
        """Each says something else of what it holds, all in one moment."""
        tokens = [*self.model.leased()]
        tokens = tokens[place % len(tokens) :] + tokens[: place % len(tokens)]
        said = list(zip(tokens, words, strict=False))
        held = self.model.leased()
        answers = self.ask(together(self.question(token, word, None) for token, word in said))
        for (token, word), (answer,) in zip(said, answers, strict=True):
            self.check(answer, held[token], word)
            self.take_in(held[token], word, None)

    @rule(place=places, ns=st.lists(st.integers(1, 4), min_size=2, max_size=4))
    def lease_at_once(self, place: int, ns: list[int]) -> None:
        """Several ask for the same tasks: each task goes to one of them."""
        stage = self.lease_stages[place % len(self.lease_stages)]
        ready = [self.model.ready(stage.name, f"late{n}") for n in range(len(ns))]
        leases = self.ask(together(
            self.engine.lease(
                LeaseRequest(
                    project=self.project, stage=stage.name, worker=f"late{place}", nickname=f"late{place}", n=n
                )
            )
            for place, n in enumerate(ns)
        ))  # fmt: skip
        tasks = [self.model.jobs[each.job].task for leased in leases for each in leased]
        everybody = {id(task) for some in ready for task in some}
        assert len({*map(id, tasks)}) == len(tasks) <= min(sum(ns), len(everybody))
        if all(len(some) == len(everybody) for some in ready):  # nobody has flagged any of them
            assert len(tasks) == min(sum(ns), len(everybody))
        for place, leased in enumerate(leases):
            for each in leased:
                task = self.model.jobs[each.job].task
                assert task in ready[place]
                self.hand(task, Holder(f"late{place}", f"late{place}", f"late{place}", stage, each.token))


#: Rows of stages: a function for each (one), some or all (of the values), a lease stage where outside workers do it.
PIPELINES = [
    "some one all one",
    "one all one",
    "some one all one",
    "one all one",
    "one some one all one",
    "some some one all all",
    "some some one all one",
    "some one all some one all",
    "some lease all lease",
    "lease all lease",
    "some one",
]
SHAPES: dict[str, Any] = {"one": "map", "lease": "map", "some": "expand", "all": "gather"}


class Parts(Leasing):
    """A project whose jobs are taken apart and put together, by functions and by outside workers."""

    nicknames = ("slot ada", "slot bob")

    @initialize(
        pipeline=st.sampled_from(PIPELINES),
        stages=st.lists(options, min_size=6, max_size=6),
        policy=st.sampled_from(["fail", "skip", "wait"]),
    )
    def declare_project(self, pipeline: str, stages: list[dict[str, Any]], policy: Any) -> None:
        self.begin([
            Stage(name, "lease" if word == "lease" else "function", SHAPES[word], on_failed_part=policy, **given)
            for name, word, given in zip("abcdef", pipeline.split(), stages, strict=False)
        ])  # fmt: skip

    def take_up_runs(self) -> None:
        """Learn what the engine has sent to slots, which it alone decides; check that it could, and had to."""
        for task in self.model.tasks:
            if task.holder is not None and task.holder.unit in self.driven.workers.recalled:
                self.model.put_back(task)
        self.driven.workers.recalled.clear()
        known = {task.holder.unit for task in self.model.tasks if task.holder is not None}
        for unit, (reals, worker) in self.driven.running.items():
            if unit not in known:
                tasks = [self.model.jobs[real.job].task for real in reals]
                self.check_inputs(unit, tasks)
                for task in tasks:
                    stage, nickname = self.model.stage(task.stage), worker.contributor
                    holder = Holder(worker.name, nickname, nickname, stage, unit=unit)
                    if unit not in self.driven.workers.unwanted or not self.model.hand_too_late(task, holder):
                        assert task in self.model.ready(task.stage, nickname), f"{task.stage} of {task.job.id} runs"
                        self.model.hand(task, holder)
        busy = {worker.name for _, worker in self.driven.running.values()}
        for name, worker in self.driven.workers.workers.items():
            for stage in self.model.stages if name not in busy else ():
                if stage.kind == "function":
                    assert not self.model.ready(stage.name, worker.contributor), f"{name} does nothing for {stage.name}"

    def check_inputs(self, unit: int, tasks: list[Task]) -> None:
        for task, value in zip(tasks, unpack(self.driven.workers.items(unit)), strict=True):
            given = frame(value) if task.parts is not None else unpacked(value)
            assert given == task.value(), f"{task.stage} of {task.job.id} is given {given}, not {task.value()}"

    def run_at(self, place: int) -> tuple[int, list[Task]] | None:
        """Pick something that runs."""
        self.take_up_runs()
        runs = [*self.driven.running.items()]
        if not runs:
            return None
        unit, (reals, _) = runs[place % len(runs)]
        return unit, [self.model.jobs[real.job].task for real in reals]

    @precondition(lambda self: self.driven.running)
    @rule(
        place=places,
        ending=st.sampled_from([Ending.FLAGGED, Ending.SUCCEEDED, Ending.RAISED, Ending.CRASHED, Ending.NOT_RUN]),
        every=st.integers(1, 3),
        n=st.sampled_from([1, 2, 3, 12]),
        seconds=st.sampled_from([0.001, 10.0]),
    )
    def end(self, place: int, ending: Ending, every: int, n: int, seconds: float) -> None:
        """Have some runs end: *every* so many of the calls with *ending*, the others well."""
        for run in range(every):
            if picked := self.run_at(place + run):
                endings = [ending if (run + call) % every == 0 else Ending.SUCCEEDED for call in range(len(picked[1]))]
                self.end_run(*picked, endings, n, seconds)

    def end_run(self, unit: int, tasks: list[Task], endings: list[Ending], n: int, seconds: float) -> None:
        """Have the calls of *unit* end so; an expand makes *n* parts."""
        calls = list(zip(tasks, endings, strict=False))
        self.driven.end(unit, [(ending, self.value_of(task, ending, n)) for task, ending in calls], seconds)
        for task, ending in calls:
            if ending is Ending.SUCCEEDED:
                self.model.succeed(task, *self.output_of(task, n))
            elif ending is Ending.CRASHED:
                self.model.crash(task)
            elif ending is Ending.FLAGGED:
                self.model.flag(task)
            elif ending in (Ending.NOT_RUN, Ending.INTERRUPTED):
                self.model.put_back(task)
            else:
                self.model.err(task)

    def output_of(self, task: Task, n: int) -> tuple[Any, int, list[Any] | None]:
        """Return what *task* gives: its output, units of credit, parts."""
        output = self.output(task)
        if self.model.stage(task.stage).shape != "expand":
            return output, 1, None
        n = n if len(self.model.jobs) < 40 else 1
        return n, 1, [[*output, number] for number in range(n)]

    def value_of(self, task: Task, ending: Ending, n: int) -> bytes:
        """Return what a runner reports for it."""
        if ending is Ending.SUCCEEDED:
            output, _, parts = self.output_of(task, n)
            return packed(output) if parts is None else pack([packed(part) for part in parts])
        return b"" if ending in (Ending.NOT_RUN, Ending.INTERRUPTED) else pack_failure(Failure("Oh", "no luck"))

    @rule(n=st.integers(1, 3), rounds=st.integers(5, 15))
    def go_on(self, n: int, rounds: int) -> None:
        """Hold nothing back, and have what runs end well, and what runs then."""
        self.let_run()
        for _ in range(rounds):
            if picked := self.run_at(0):
                self.end_run(*picked, [Ending.SUCCEEDED] * len(picked[1]), n, 10.0)

    @precondition(lambda self: self.driven.running)
    @rule(place=places)
    def flag_made(self, place: int) -> None:
        """Have all that runs on what another stage has made say that it is bad."""
        for run in range(len(self.driven.running)):
            picked = self.run_at(place + run)
            if picked and all(task.origin is not None for task in picked[1]):
                self.end_run(*picked, [Ending.FLAGGED] * len(picked[1]), 1, 10.0)

    @precondition(lambda self: self.driven.running)
    @rule()
    def end_at_once(self) -> None:
        """Have all end in one moment, but for those that make parts: the order would tell whose come first."""
        self.take_up_runs()
        runs = [
            (unit, [self.model.jobs[real.job].task for real in reals])
            for unit, (reals, _) in self.driven.running.items()
        ]
        runs = [(unit, tasks) for unit, tasks in runs if self.model.stage(tasks[0].stage).shape != "expand"]
        for unit, tasks in runs:
            calls = [(Ending.SUCCEEDED, self.value_of(task, Ending.SUCCEEDED, 1)) for task in tasks]
            self.driven.workers.report(unit, calls, 0.001)
        self.driven.settle()
        for _, tasks in runs:
            for task in tasks:
                self.model.succeed(task, self.output(task))

    @precondition(lambda self: self.driven.running)
    @rule(place=places)
    def fail_and_retry(self, place: int) -> None:
        """Have a run fail, and ask for another try before anybody else has heard of it."""
        if picked := self.run_at(place):
            self.end_run(*picked, [Ending.RAISED] * len(picked[1]), 1, 10.0)
            self.retry_project(0, with_cancelled=True)

    @precondition(lambda self: self.driven.running)
    @rule(place=places)
    def cancel_run(self, place: int) -> None:
        """Cancel a job that a slot is working on."""
        if picked := self.run_at(place):
            job = picked[1][0].job
            self.ask(self.engine.cancel(job.id))
            self.model.cancel(job)

    @precondition(lambda self: self.driven.workers.unwanted)
    @rule()
    def stop(self) -> None:
        """Have workers do what they were asked for: stop what is not wanted any more."""
        self.take_up_runs()
        for unit in [*self.driven.workers.unwanted]:
            tasks = [self.model.jobs[real.job].task for real in self.driven.running[unit][0]]
            self.end_run(unit, tasks, [Ending.INTERRUPTED] * len(tasks), 1, 10.0)
            self.take_up_runs()

    @precondition(lambda self: self.driven.running)
    @rule(place=places, times=st.sampled_from([1, 10]))
    def vanish(self, place: int, times: int) -> None:
        """Have the worker that runs something disappear, so many times."""
        for _ in range(times):
            if picked := self.run_at(place):
                unit, tasks = picked
                self.driven.vanish(unit)
                for task in tasks:
                    if len(tasks) == 1:
                        self.model.lose(task)
                    else:  # nobody knows which of them it was
                        self.model.put_back(task)

    def work_off(self, round: int) -> bool:
        was_busy = super().work_off(round)
        for _ in range(20):
            picked = self.run_at(0)
            if picked is None:
                break
            was_busy = True
            self.end_run(*picked, [Ending.SUCCEEDED] * len(picked[1]), 1, 10.0)
            self.agree()
        for job in self.model.open_jobs:  # who does not want it has to ask for other workers; nobody has any here
            if job.task.state == QUEUED and {*self.nicknames} <= {*job.task.voters}:
                self.ask(self.engine.cancel(job.id))
                self.model.cancel(job)
        return was_busy


@pytest.fixture(autouse=True)
def nobody_leaves_anything_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a slot take whatever is ready: on whom something failed before is none of the model's business."""
    monkeypatch.setattr(Conduct, "leaves_to_others", lambda *about: False)


def test_outside_workers_do_a_project_as_the_model_says() -> None:
    run_state_machine_as_test(LeaseStages, settings=SETTINGS)  # type: ignore[no-untyped-call]


def test_jobs_are_taken_apart_and_put_together_as_the_model_says() -> None:
    run_state_machine_as_test(Parts, settings=SETTINGS)  # type: ignore[no-untyped-call]
