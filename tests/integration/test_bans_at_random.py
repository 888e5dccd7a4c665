"""Bans in the middle of whatever people do: the file is right afterwards, and so is what everybody has earned."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from dcengine.codec import pack, pack_json
from dcengine.engine import bans
from dcengine.errors import ContributorBanned, NotFound
from dcengine.runner.units import Ending
from dcengine.verbs import LeasedTask, TaskFailure, TaskFlag
from tests.tracker import PROJECT, Tracker, checked, expanding


@pytest.mark.parametrize("seed", range(8))
def test_whatever_was_done_before_the_file_is_right_after_a_ban(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(bans, "SLICE", chance.choice([1, 3, 500]))
    people = ["mallory", "mike", "alice", "bob"]
    with checked(expanding() if seed % 2 else Tracker(5)) as tracker:
        held: list[LeasedTask] = []
        for _ in range(60):
            stage, who = chance.choice(["a", "b", "c"]), chance.choice(people)
            what = chance.choice(
                ["lease"] * 4 + ["say"] * 5 + ["add", "ban", "unban", "retry", "cancel", "reopen", "run"]
            )
            with suppress(ContributorBanned, NotFound):
                step(tracker, chance, what, stage, who, held)
        tracker.check()
        for who in ("mallory", "mike"):
            with_credit = tracker.board()
            if who in with_credit:
                assert tracker.ban(who).voided == with_credit[who]
            assert who not in tracker.board()
        tracker.check()


def step(tracker: Tracker, chance: random.Random, what: str, stage: str, who: str, held: list[LeasedTask]) -> None:
    """Do something that somebody may do at any time."""
    if what == "lease":
        held += tracker.lease(stage, who, chance.choice([1, 3]))
    elif what == "say" and held:
        task = held.pop(chance.randrange(len(held)))
        verb = chance.choice(["complete"] * 5 + ["flag", "fail", "release"])
        if verb == "complete":
            tracker.complete([task])
        elif verb == "flag":
            tracker.ask(tracker.engine.flag([TaskFlag(token=task.token)]))
        elif verb == "fail":
            tracker.ask(tracker.engine.fail([TaskFailure(token=task.token, reason="no")]))
        else:
            tracker.ask(tracker.engine.release([task.token]))
    elif what == "add":
        tracker.add(2)
    elif what == "ban":
        since = chance.choice([None, tracker.driven.clock.time() - chance.choice([5.0, 50.0])])
        tracker.ban(who, since)
    elif what == "unban":
        tracker.ask(tracker.engine.unban_contributor(who))
    elif what == "retry":
        tracker.ask(tracker.engine.retry_project(PROJECT, cancelled=chance.choice([True, False])))
    elif what == "cancel":
        jobs = [job.id for job in tracker.ask(tracker.engine.jobs(project=PROJECT, state="open"))]
        if jobs:
            tracker.ask(tracker.engine.cancel(chance.choice(jobs)))
    elif what == "reopen":
        chance.choice([tracker.driven.reopen, tracker.driven.crash])()
    else:
        tracker.driven.pass_by(10)
        for unit, (tasks, _) in list(tracker.driven.running.items()):
            stage_name = tracker.engine._stages.get(tasks[0].stage).name
            value = pack([pack_json(part, what="a part") for part in "xy"]) if stage_name == "split" else b"J1"
            tracker.driven.end(unit, [(Ending.SUCCEEDED, value)] * len(tasks), 0.1)
