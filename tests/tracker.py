"""A project of lease stages in an engine that a test drives, and what people say to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from dcengine.codec import pack, pack_function, pack_json
from dcengine.runner.units import Ending
from dcengine.store.checking import check_history
from dcengine.verbs import (
    BanDone,
    Completion,
    ItemsSubmission,
    LeasedTask,
    LeaseRequest,
    ProjectSpec,
    StageSpec,
    TaskFlag,
)
from tests.driven import Driven

PROJECT = "laion"


class Tracker:
    """A project of lease stages, and what people say to it."""

    def __init__(self, items: int, stages: str = "abc", **options: Any) -> None:
        self.driven = Driven(["dan@host"])
        specs = [StageSpec(name=name, kind="lease", **{"votes": 2, **options}) for name in stages]
        self.begin(specs, items)

    def begin(self, specs: list[StageSpec], items: int) -> None:
        self.ask(self.engine.declare_project(ProjectSpec(name=PROJECT, stages=specs)))
        self.ask(self.engine.run_project(PROJECT))
        self.add(items)

    @property
    def engine(self) -> Any:
        return self.driven.engine

    def ask(self, question: Any) -> Any:
        return self.driven.call(question)

    def add(self, items: int) -> None:
        block = pack([pack_json(["item", n], what="an item") for n in range(items)])
        self.ask(self.engine.add_jobs(ItemsSubmission(project=PROJECT, blocks=[block], count=items)))

    def lease(self, stage: str, who: str, n: int = 1, **more: Any) -> list[LeasedTask]:
        wish = LeaseRequest(project=PROJECT, stage=stage, worker=f"pc of {who}", nickname=who, n=n, **more)
        found: list[LeasedTask] = self.ask(self.engine.lease(wish))
        return found

    def complete(self, tasks: list[LeasedTask], output: str = "done") -> list[bool]:
        said = [Completion(token=task.token, output=msgspec.Raw(msgspec.json.encode(output))) for task in tasks]
        return [answer.is_accepted for answer in self.ask(self.engine.complete(said))]

    def do(self, stage: str, who: str, n: int = 1) -> None:
        tasks = self.lease(stage, who, n)
        assert self.complete(tasks, f"{who}'s") == [True] * n

    def flag(self, stage: str, who: str) -> None:
        (task,) = self.lease(stage, who)
        self.ask(self.engine.flag([TaskFlag(token=task.token, reason="404")]))

    def ban(self, who: str, since: float | None = None) -> BanDone:
        done: BanDone = self.ask(self.engine.ban_contributor(who, since=since))
        return done

    def board(self, span: str = "all") -> dict[str, int]:
        return {row.nickname: row.tasks for row in self.ask(self.engine.leaderboard(PROJECT, span=span))}

    def counts(self, *states: str) -> dict[str, int]:
        """How many tasks of each stage are in one of *states*."""
        status = self.ask(self.engine.project(PROJECT))
        found = {stage.name: sum(stage.counts.get(state, 0) for state in states) for stage in status.stages}
        return {name: n for name, n in found.items() if n}

    def work_off(self, who: str = "eve") -> None:
        """Have somebody do all that is left."""
        for stage in self.ask(self.engine.project(PROJECT)).stages:
            while tasks := self.lease(stage.name, who, 100):
                assert all(self.complete(tasks, f"{who}'s"))

    def history(self, job: int) -> list[tuple[str, int, str, str | None]]:
        entries = self.ask(self.engine.history(job))
        return [(each.stage, each.generation, each.state, each.contributor) for each in entries]

    def check(self) -> None:
        assert check_history(self.driven.db) == []


@contextmanager
def checked(tracker: Tracker) -> Iterator[Tracker]:
    """The *tracker*, whose file has to be right in the end."""
    try:
        yield tracker
    finally:
        tracker.driven.close()
    tracker.check()
    tracker.driven.remove()


def expanding(*, is_gathered: bool = True) -> Tracker:
    """A lease stage, an expand into two parts, a lease stage of theirs; a gather, a lease stage."""
    tracker = Tracker.__new__(Tracker)
    tracker.driven = Driven(["dan@host"])
    function = pack_function(len)
    stages = [
        StageSpec(name="a", kind="lease"), StageSpec(name="split", shape="expand", function=function),
        StageSpec(name="b", kind="lease"), StageSpec(name="join", shape="gather", function=function),
        StageSpec(name="c", kind="lease"),
    ]  # fmt: skip
    tracker.begin(stages if is_gathered else stages[:3], 1)
    return tracker


def run_function(tracker: Tracker, output: bytes) -> None:
    """Have the one function that a worker has been given return *output*."""
    (unit,) = tracker.driven.running
    tracker.driven.end(unit, [(Ending.SUCCEEDED, output)], 0.1)


def split(tracker: Tracker) -> None:
    run_function(tracker, pack([pack_json(part, what="a part") for part in "xy"]))
