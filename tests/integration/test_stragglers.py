"""What takes too long, on workers and a clock that the test drives: cut short, run a second time, set aside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from dcengine.codec import Failure, dumps, pack, pack_failure, pack_function, pack_json
from dcengine.jobs import Chunk
from dcengine.runner.units import Ending, Live
from dcengine.verbs import BatchStatus, BatchSubmission, ItemsSubmission, Options, ProjectSpec, StageSpec, Submission
from tests.driven import Driven

FUNCTION, OTHER = pack_function(len), pack_function(repr)
DONE = (Ending.SUCCEEDED, dumps("first"))
WON = (Ending.SUCCEEDED, dumps("second"))
BAD = (Ending.RAISED, pack_failure(Failure("OSError", "no disk")))
STOPPED = (Ending.INTERRUPTED, b"")
NOT_RUN = (Ending.NOT_RUN, b"")
SAFE = Options(speculative=True)


@pytest.fixture
def driven() -> Iterator[Driven]:
    driven = Driven(("ada", "bob"))
    driven.workers.usually_begun = 1
    yield driven
    driven.close()
    driven.remove()


def submit(driven: Driven, options: Options = SAFE, function: Any = FUNCTION) -> int:
    call = Submission(function=function, input=dumps((((),), {})), options=options)
    return driven.call(driven.engine.submit(call)).id


def map_items(driven: Driven, count: int, options: Options = SAFE) -> BatchStatus:
    inputs = pack([dumps(((n,), {})) for n in range(count)])
    submission = BatchSubmission(function=FUNCTION, blocks=[inputs], count=count, options=options)
    return driven.call(driven.engine.submit_batch(submission))


def learn_pace(driven: Driven, seconds: float = 0.001, calls: int = 100, function: Any = FUNCTION) -> None:
    """Let the engine know how long a call takes."""
    driven.engine._feed.pace(function.digest).learn(calls, calls * seconds)


def units(driven: Driven) -> dict[str, int]:
    """The unit that each busy slot has, the oldest of them."""
    found: dict[str, int] = {}
    for unit, (_, slot, _) in driven.workers.sent.items():
        found.setdefault(slot.worker.name, unit)
    return found


def count_of(driven: Driven, unit: int) -> int:
    return driven.workers.sent[unit][0].count


def wait_for_second(driven: Driven) -> tuple[int, int]:
    """Let time pass until what runs is run a second time; return the first unit and the second."""
    (first,) = driven.workers.sent
    for _ in range(20):
        driven.pass_by(0.5)
        if len(driven.workers.sent) == 2:
            return first, max(driven.workers.sent)
    raise AssertionError("no second run")


def job(driven: Driven, id: int) -> Any:
    return driven.call(driven.engine.job(id))


def result(driven: Driven, id: int) -> bytes:
    end = driven.call(driven.engine.result(id))
    assert end is not None
    return end.data


def credit(driven: Driven) -> dict[str, int]:
    return {row.nickname: row.tasks for row in driven.call(driven.engine.leaderboard())}


def said(driven: Driven, id: int) -> list[str]:
    return [line.text for line in driven.call(driven.engine.transcript(id)).lines]


# ---- cut short -----------------------------------------------------------------------------


def test_the_items_of_a_chunk_that_turns_out_long_go_to_idle_slots(driven: Driven) -> None:
    learn_pace(driven, calls=10_000)
    batch = map_items(driven, 16)
    while len(driven.workers.sent) > 1 or count_of(driven, min(driven.workers.sent)) == 1:
        driven.end(max(driven.workers.sent), [DONE] * count_of(driven, max(driven.workers.sent)), 0.001)
    (long,) = driven.workers.sent
    kept = count_of(driven, long)

    driven.pass_by(0.5)
    driven.pass_by(0.5)

    assert driven.workers.cut_units == {long: 1}
    assert sum(count_of(driven, unit) for unit in units(driven).values()) >= 2
    driven.end(long, [DONE] + [NOT_RUN] * (kept - 1), 5.0)
    while driven.workers.sent:
        unit = min(driven.workers.sent)
        driven.end(unit, [DONE] * count_of(driven, unit), 1.0)
    status = driven.call(driven.engine.batch(batch.id))
    assert (status.state, status.succeeded, sum(credit(driven).values())) == ("succeeded", 16, 16)


def test_what_a_cut_chunk_reports_beyond_what_it_kept_is_not_believed(driven: Driven) -> None:
    learn_pace(driven, calls=10_000)
    batch = map_items(driven, 64)
    long = units(driven)["slot-0"]
    kept = count_of(driven, long)
    assert kept > 2
    for _ in range(200):
        others = [unit for unit in driven.workers.sent if unit != long]
        if not others:
            break
        driven.end(others[0], [DONE] * count_of(driven, others[0]), 0.001)
    driven.workers.begun[long] = 2
    driven.pass_by(1.0)

    driven.end(long, [DONE] * kept, 3.0)
    while driven.workers.sent:
        unit = min(driven.workers.sent)
        driven.end(unit, [WON] * count_of(driven, unit), 0.1)

    status = driven.call(driven.engine.batch(batch.id))
    assert (status.state, status.succeeded, sum(credit(driven).values())) == ("succeeded", 64, 64)


def test_one_of_several_is_cancelled_and_the_call_that_runs_goes_on(driven: Driven) -> None:
    learn_pace(driven, calls=10_000)
    batch = map_items(driven, 64)
    long = units(driven)["slot-0"]
    kept = count_of(driven, long)
    first = driven.engine._running[long].job_of(0)

    driven.call(driven.engine.cancel(first + 2))

    assert driven.workers.cut_units == {long: 1}
    assert long not in driven.workers.unwanted
    assert job(driven, first + 2).state == "cancelled"
    driven.end(long, [DONE] + [NOT_RUN] * (kept - 1), 0.001)
    assert job(driven, first).state == "succeeded"
    assert driven.call(driven.engine.batch(batch.id)).cancelled == 1


def submit_bundle(driven: Driven) -> tuple[int, list[int]]:
    """Have short calls run together; return their unit and jobs."""
    blocker = [submit(driven, function=OTHER) for _ in range(2)]
    learn_pace(driven, calls=10_000)
    for _ in range(60):
        submit(driven, Options())
    for id in blocker:
        unit = next(unit for unit, run in driven.engine._running.items() if run.has(id))
        driven.end(unit, [DONE], 1.0)
    bundle = next(unit for unit in driven.workers.sent if count_of(driven, unit) > 2)
    return bundle, [task.job for task in driven.engine._running[bundle].tasks]


@pytest.mark.parametrize("verb", ["cancel", "interrupt", "kill"])
def test_a_call_among_others_is_stopped_alone_if_it_runs(driven: Driven, verb: str) -> None:
    bundle, jobs = submit_bundle(driven)
    driven.workers.begun[bundle] = 2
    driven.call(getattr(driven.engine, verb)(jobs[1]))

    assert bundle in driven.workers.unwanted
    driven.end(bundle, [DONE, STOPPED] + [NOT_RUN] * (len(jobs) - 2), 1.0)
    assert (job(driven, jobs[0]).state, job(driven, jobs[1]).state) == ("succeeded", "cancelled")


@pytest.mark.parametrize("verb", ["cancel", "interrupt", "kill"])
def test_a_call_among_others_is_cancelled_alone_if_it_waits(driven: Driven, verb: str) -> None:
    bundle, jobs = submit_bundle(driven)
    driven.call(getattr(driven.engine, verb)(jobs[2]))

    assert bundle not in driven.workers.unwanted
    driven.end(bundle, [DONE] + [NOT_RUN] * (len(jobs) - 1), 1.0)
    while driven.workers.sent:
        unit = min(driven.workers.sent)
        driven.end(unit, [DONE] * count_of(driven, unit), 0.001)
    states = [job(driven, id).state for id in jobs]
    assert states == ["succeeded", "succeeded", "cancelled"] + ["succeeded"] * (len(jobs) - 3)


def test_an_unknown_function_has_a_unit_of_its_own(driven: Driven) -> None:
    unknown = pack_function(str)
    blockers = [submit(driven, function=OTHER) for _ in range(2)]
    learn_pace(driven, calls=10_000)
    jobs = [submit(driven, Options(), function=unknown if n == 5 else FUNCTION) for n in range(80)]
    for id in blockers:
        unit = next(unit for unit, run in driven.engine._running.items() if run.has(id))
        driven.end(unit, [DONE], 1.0)
    for _ in range(200):
        if not driven.workers.sent:
            break
        unit = min(driven.workers.sent)
        tasks = driven.engine._running[unit].tasks
        assert len(tasks) == 1 or jobs[5] not in {task.job for task in tasks}
        driven.end(unit, [DONE] * count_of(driven, unit), 0.001)

    assert all(job(driven, id).state == "succeeded" for id in jobs)


# ---- a second run --------------------------------------------------------------------------


def test_the_first_result_counts_and_the_other_run_is_stopped_without_a_trace(driven: Driven) -> None:
    id = submit(driven)
    first, second = wait_for_second(driven)
    slow, quick = (driven.workers.sent[unit][1].worker.contributor for unit in (first, second))

    driven.end(second, [WON], 1.0)

    assert result(driven, id) == dumps("second")
    assert first in driven.workers.unwanted
    driven.end(first, [STOPPED], 60.0)
    status = job(driven, id)
    assert (status.state, status.errors, status.attempt) == ("succeeded", 0, 1)
    assert slow != quick
    assert credit(driven) == {quick: 1}
    assert driven.engine._held.total() == 0


def test_both_succeed_and_one_result_is_accepted(driven: Driven) -> None:
    id = submit(driven)
    first, second = wait_for_second(driven)
    driven.workers.report(first, [DONE], 9.0)
    driven.workers.report(second, [WON], 1.0)
    driven.settle()

    assert result(driven, id) == dumps("first")
    assert sum(credit(driven).values()) == 1


@pytest.mark.parametrize("ending", [BAD, (Ending.CRASHED, BAD[1]), (Ending.TIMED_OUT, BAD[1]), NOT_RUN])
def test_a_second_run_that_fails_changes_nothing(driven: Driven, ending: tuple[Ending, bytes]) -> None:
    id = submit(driven)
    first, second = wait_for_second(driven)
    driven.end(second, [ending], 1.0)

    assert (job(driven, id).state, job(driven, id).errors) == ("open", 0)
    assert first not in driven.workers.unwanted
    driven.pass_by(30.0)
    assert list(driven.workers.sent) == [first]
    driven.end(first, [DONE], 60.0)
    assert result(driven, id) == dumps("first")


def test_a_second_run_whose_worker_vanishes_changes_nothing(driven: Driven) -> None:
    id = submit(driven)
    first, second = wait_for_second(driven)
    driven.vanish(second)

    driven.end(first, [DONE], 60.0)

    assert result(driven, id) == dumps("first")


def test_when_the_first_worker_vanishes_the_second_run_decides(driven: Driven) -> None:
    id = submit(driven, Options(speculative=True, retries=0))
    first, second = wait_for_second(driven)
    driven.vanish(first)
    assert list(driven.workers.sent) == [second]

    driven.end(second, [BAD], 1.0)

    assert (job(driven, id).state, job(driven, id).errors) == ("failed", 1)


def test_the_first_run_decides_by_an_error_too(driven: Driven) -> None:
    id = submit(driven, Options(speculative=True, retries=0))
    first, second = wait_for_second(driven)
    driven.end(first, [BAD], 9.0)

    assert job(driven, id).state == "failed"
    assert second in driven.workers.unwanted
    driven.end(second, [WON], 9.0)
    assert job(driven, id).state == "failed"
    assert not credit(driven)


@pytest.mark.parametrize("verb", ["cancel", "interrupt", "kill"])
def test_who_stops_a_job_stops_both_runs(driven: Driven, verb: str) -> None:
    id = submit(driven)
    first, second = wait_for_second(driven)
    driven.call(getattr(driven.engine, verb)(id))

    assert driven.workers.unwanted == {first, second}
    driven.end(second, [STOPPED], 1.0)
    driven.end(first, [STOPPED], 1.0)
    assert job(driven, id).state == "cancelled"


def test_what_is_not_said_to_be_safe_is_run_once(driven: Driven) -> None:
    submit(driven, Options())
    for _ in range(60):
        driven.pass_by(1.0)

    assert len(driven.workers.sent) == 1


def test_a_quick_one_is_not_run_twice_and_none_more_than_twice(driven: Driven) -> None:
    learn_pace(driven, 5.0)
    submit(driven)
    for _ in range(18):
        driven.pass_by(0.5)
    assert len(driven.workers.sent) == 1

    driven.workers.join("slot-2")
    for _ in range(60):
        driven.pass_by(0.5)

    assert len(driven.workers.sent) == 2


def test_while_others_wait_nothing_is_run_a_second_time(driven: Driven) -> None:
    learn_pace(driven, 0.3)
    batch = map_items(driven, 3)
    driven.pass_by(5.0)
    assert [count_of(driven, unit) for unit in driven.workers.sent] == [1, 1]
    driven.end(units(driven)["slot-1"], [DONE], 0.3)
    driven.pass_by(5.0)
    assert len({driven.engine._running[unit].job_of(0) for unit in driven.workers.sent}) == 2

    driven.end(max(driven.workers.sent), [DONE], 0.3)
    first, second = wait_for_second(driven)
    driven.end(second, [WON], 0.3)
    driven.end(first, [STOPPED], 5.0)

    status = driven.call(driven.engine.batch(batch.id))
    assert (status.state, status.succeeded, status.running) == ("succeeded", 3, 0)
    assert sum(credit(driven).values()) == 3


def test_of_a_chunk_only_the_item_that_has_not_ended_is_run_again(driven: Driven) -> None:
    learn_pace(driven, calls=10_000)
    batch = map_items(driven, 64)
    long = units(driven)["slot-0"]
    kept, first_job = count_of(driven, long), driven.engine._running[long].job_of(0)
    driven.workers.begun[long] = 3
    for _ in range(300):
        others = [unit for unit in driven.workers.sent if unit != long]
        if not others:
            driven.pass_by(0.5)
        for unit in others:
            run = driven.engine._running[unit]
            if run.first is not None:
                assert (run.left, run.job_of(0)) == (1, first_job + 2)
                driven.end(unit, [WON], 0.001)
            elif unit in driven.workers.sent:
                driven.end(unit, [DONE] * count_of(driven, unit), 0.001)
        if long in driven.workers.unwanted:
            break
    assert result(driven, first_job + 2) == dumps("second")
    driven.end(long, [DONE, DONE, STOPPED] + [NOT_RUN] * (kept - 3), 60.0)

    status = driven.call(driven.engine.batch(batch.id))
    assert (status.state, status.succeeded, status.running) == ("succeeded", 64, 0)
    assert sum(credit(driven).values()) == 64


def test_the_rest_of_a_chunk_is_queued_again_when_its_worker_vanishes_after_the_race(driven: Driven) -> None:
    learn_pace(driven, calls=10_000)
    batch = map_items(driven, 64)
    long = units(driven)["slot-0"]
    driven.workers.begun[long] = 3
    for _ in range(300):
        others = [unit for unit in driven.workers.sent if unit != long]
        if any(driven.engine._running[unit].first for unit in others):
            break
        for unit in others:
            driven.end(unit, [DONE] * count_of(driven, unit), 0.001)
        driven.pass_by(0.5)
    driven.vanish(long)
    while driven.workers.sent:
        unit = max(driven.workers.sent)
        driven.end(unit, [WON] * count_of(driven, unit), 0.001)

    status = driven.call(driven.engine.batch(batch.id))
    assert (status.state, status.succeeded, status.running) == ("succeeded", 64, 0)
    assert sum(credit(driven).values()) == 64


def test_a_stage_may_be_said_to_be_safe(driven: Driven) -> None:
    spec = StageSpec(name="a", function=FUNCTION, speculative=True)
    driven.call(driven.engine.declare_project(ProjectSpec(name="p", stages=[spec])))
    driven.call(driven.engine.run_project("p"))
    items = pack([pack_json(1, what="an item")])
    added = driven.call(driven.engine.add_jobs(ItemsSubmission(project="p", blocks=[items], count=1)))
    first, second = wait_for_second(driven)
    driven.end(second, [(Ending.SUCCEEDED, pack_json(2, what="a result"))], 1.0)
    driven.end(first, [STOPPED], 1.0)

    assert job(driven, added.first_id).state == "succeeded"


def test_only_the_run_that_counts_is_heard(driven: Driven) -> None:
    id = submit(driven)
    first, second = wait_for_second(driven)

    def say(unit: int, number: int, text: str) -> None:
        driven.engine._on_live(Live(unit=unit, number=number, item=0, kind="stdout", data=text.encode()))
        driven.settle()

    say(first, 1, "hello from the first\n")
    say(second, 1, "hello from the second\n")
    assert not any("hello from the second" in line for line in said(driven, id))
    driven.end(second, [WON], 1.0)
    say(first, 2, "too late\n")

    lines = said(driven, id)
    assert "a second run was started on slot-1 because slot-0 was slow" in lines
    assert lines[-1] == "hello from the second\n"
    assert "hello from the first\n" in lines


def test_the_engine_closes_and_crashes_in_the_middle_of_a_race(driven: Driven) -> None:
    id = submit(driven)
    wait_for_second(driven)
    driven.reopen()
    wait_for_second(driven)
    driven.crash()
    first, second = wait_for_second(driven)
    driven.end(second, [WON], 1.0)
    driven.end(first, [DONE], 1.0)

    assert result(driven, id) == dumps("second")
    assert sum(credit(driven).values()) == 1


# ---- set aside -----------------------------------------------------------------------------


def fail_on(driven: Driven, bad: str, rounds: int = 50) -> dict[str, int]:
    """Let all that runs on worker *bad* fail, the rest succeed; return how many units each was given."""
    given: dict[str, int] = {}
    for _ in range(rounds):
        if not driven.workers.sent:
            break
        unit = min(driven.workers.sent)
        name = driven.workers.sent[unit][1].worker.name
        given[name] = given.get(name, 0) + 1
        driven.end(unit, [BAD if name == bad else DONE] * count_of(driven, unit), 1.0)
    return given


@pytest.mark.parametrize("way", ["batch", "calls", "project"])
def test_a_worker_that_fails_three_in_a_row_is_set_aside_with_the_reason(driven: Driven, way: str) -> None:
    learn_pace(driven, 1.0)
    if way == "batch":
        map_items(driven, 20, Options())
    elif way == "calls":
        for _ in range(20):
            submit(driven, Options())
    else:
        spec = StageSpec(name="a", function=FUNCTION)
        driven.call(driven.engine.declare_project(ProjectSpec(name="p", stages=[spec])))
        driven.call(driven.engine.run_project("p"))
        items = pack([pack_json(n, what="an item") for n in range(20)])
        driven.call(driven.engine.add_jobs(ItemsSubmission(project="p", blocks=[items], count=20)))
    done = (Ending.SUCCEEDED, pack_json(1, what="a result"))
    given: dict[str, int] = {"slot-0": 0, "slot-1": 0}
    for _ in range(40):
        if not driven.workers.sent:
            break
        unit = min(driven.workers.sent)
        name = driven.workers.sent[unit][1].worker.name
        given[name] += 1
        driven.end(unit, [BAD if name == "slot-0" else done], 1.0)

    assert given == {"slot-0": 3, "slot-1": 17}
    bad, good = driven.call(driven.engine.workers())
    assert good.set_aside == {}
    ((subject, reason),) = bad.set_aside.items()
    assert subject == ("p" if way == "project" else "len")
    assert "3 failures in a row" in reason
    assert "no disk" in reason


def test_who_is_set_aside_does_other_work(driven: Driven) -> None:
    learn_pace(driven, 1.0)
    map_items(driven, 20, Options())
    fail_on(driven, "slot-0", rounds=8)
    assert list(units(driven)) == ["slot-1"]

    submit(driven, function=OTHER)

    assert "slot-0" in units(driven)


def test_why_tells_of_the_worker_that_is_set_aside(driven: Driven) -> None:
    learn_pace(driven, 1.0)
    batch = map_items(driven, 20, Options())
    fail_on(driven, "slot-0", rounds=8)
    last = driven.engine._feed.batches[batch.id].info.first_job + 19

    why = driven.call(driven.engine.why(last))

    assert "slot-0 is set aside for it: 3 failures in a row" in why
    assert "slot-1" in why


def test_a_trial_is_a_single_item(driven: Driven) -> None:
    learn_pace(driven, 1.0)
    map_items(driven, 400, Options())
    fail_on(driven, "slot-0", rounds=8)
    learn_pace(driven, calls=10_000)
    for _ in range(40):
        learn_pace(driven, calls=10_000)
    driven.pass_by(61.0)
    driven.end(units(driven)["slot-1"], [DONE] * count_of(driven, units(driven)["slot-1"]), 0.001)

    (trial,) = [unit for unit, (_, slot, _) in driven.workers.sent.items() if slot.worker.name == "slot-0"]
    assert count_of(driven, trial) == 1
    driven.end(trial, [DONE], 0.001)
    assert not any(worker.set_aside for worker in driven.call(driven.engine.workers()))


def test_where_all_workers_fail_nobody_is_set_aside(driven: Driven) -> None:
    learn_pace(driven, 1.0)
    batch = map_items(driven, 20, Options())
    while driven.workers.sent:
        driven.end(min(driven.workers.sent), [BAD], 1.0)

    assert driven.call(driven.engine.batch(batch.id)).failed == 20
    assert not any(worker.set_aside for worker in driven.call(driven.engine.workers()))


def test_who_is_set_aside_is_let_in_when_the_others_leave(driven: Driven) -> None:
    learn_pace(driven, 1.0)
    batch = map_items(driven, 20, Options())
    fail_on(driven, "slot-0", rounds=8)
    (other,) = [slot for slot in driven.workers.slots if slot.worker.name == "slot-1"]
    driven.workers.leave(other)
    driven.look_around()

    fail_on(driven, "", rounds=50)

    assert driven.call(driven.engine.batch(batch.id)).state == "failed"
    assert not driven.workers.sent


def test_an_interrupted_or_cancelled_call_is_not_blamed_on_the_worker(driven: Driven) -> None:
    learn_pace(driven, 1.0)
    for _ in range(4):
        id = submit(driven, Options())
        unit = next(iter(driven.workers.sent))
        driven.call(driven.engine.interrupt(id))
        driven.end(unit, [BAD], 1.0)

    assert not any(worker.set_aside for worker in driven.call(driven.engine.workers()))


# ---- late and slow workers -----------------------------------------------------------------


class Simulated:
    """Workers that need so long for each call, on the clock that the test drives."""

    def __init__(self, driven: Driven, seconds: dict[str, float]) -> None:
        self.driven, self.seconds = driven, seconds
        self.done: dict[str, int] = {}
        self.chunks: list[tuple[int, int]] = []  #: (items left before it was given, its size)
        self._ends: dict[int, float] = {}
        self._free: dict[str, float] = {}

    def run_until(self, moment: float = float("inf")) -> None:
        """Let the workers work until nothing is left, or until *moment*."""
        clock, sent = self.driven.clock, self.driven.workers.sent
        while sent:
            for unit, (what, slot, _) in sent.items():
                if unit not in self._ends:
                    name = slot.worker.name
                    begin = max(clock.monotonic(), self._free.get(name, 0.0))
                    self._ends[unit] = self._free[name] = begin + what.count * self.seconds[name]
            unit = min(sent, key=self._ends.__getitem__)
            if self._ends[unit] > moment:
                self.driven.pass_by(max(0.0, moment - clock.monotonic()))
                return
            self.driven.pass_by(max(0.0, self._ends[unit] - clock.monotonic()))
            if unit in sent:
                what, slot, _ = sent[unit]
                self.done[slot.worker.name] = self.done.get(slot.worker.name, 0) + what.count
                self.driven.end(unit, [DONE] * what.count, what.count * self.seconds[slot.worker.name])


def test_a_slow_worker_gets_less(driven: Driven) -> None:
    map_items(driven, 4000, Options())
    simulated = Simulated(driven, {"slot-0": 0.001, "slot-1": 0.01})
    simulated.run_until()

    assert sum(simulated.done.values()) == 4000
    assert simulated.done["slot-1"] == pytest.approx(4000 / 11, rel=0.25)


def test_a_slow_worker_does_not_hold_up_the_end(driven: Driven) -> None:
    map_items(driven, 4000, Options())
    began = driven.clock.monotonic()
    Simulated(driven, {"slot-0": 0.001, "slot-1": 0.01}).run_until()

    assert driven.clock.monotonic() - began < 1.1 * 4000 / 1100


def test_who_joins_in_the_middle_of_a_map_gets_work_at_once(driven: Driven) -> None:
    map_items(driven, 4000, Options())
    simulated = Simulated(driven, {"slot-0": 0.001, "slot-1": 0.001, "late": 0.001})
    simulated.run_until(driven.clock.monotonic() + 0.5)
    driven.workers.join("late")
    driven.look_around()

    assert "late" in units(driven)
    simulated.run_until()
    assert simulated.done["late"] == pytest.approx(1000, rel=0.25)


def test_no_chunk_has_more_than_its_share_of_what_is_left(driven: Driven) -> None:
    batch = map_items(driven, 4000, Options())
    open_batch = driven.engine._feed.batches[batch.id]
    take, sizes = open_batch.take, list[tuple[int, int]]()

    def taken(*arguments: Any, **options: Any) -> Any:
        left = open_batch.waiting
        chunk = take(*arguments, **options)
        sizes.append((left, chunk.count if chunk else 0))
        return chunk

    open_batch.take = taken  # type: ignore[method-assign]
    Simulated(driven, {"slot-0": 0.0001, "slot-1": 0.001}).run_until()

    assert all(size <= max(1, left / (4 * 2)) for left, size in sizes)
    assert max(size for _, size in sizes) > 100


# ---- whatever happens ----------------------------------------------------------------------


class Chaos:
    """Slots that do anything at any time, as real ones may; each call that succeeds does so with a value of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.driven = Driven(("ada", "bob", "cyd"))
        for _ in range(3):
            learn_pace(self.driven, self.random.choice([0.0001, 0.01, 1.0]), calls=1000)
        options = Options(speculative=True, retries=self.random.choice([0, 2]), crash_retries=2)
        self.count = self.random.choice([2, 10, 60])
        self.batch = map_items(self.driven, self.count, Options(speculative=True, retries=1))
        self.jobs = [submit(self.driven, options) for _ in range(self.random.choice([1, 5, 30]))]

    def step(self) -> None:
        """Let something happen."""
        driven, workers = self.driven, self.driven.workers
        what = self.random.choice([*["end"] * 4, *["pass"] * 4, "vanish", "stop", "leave", "close"])
        running = list(workers.sent)
        if what == "pass" or not running:
            driven.pass_by(self.random.choice([0.1, 0.5, 3.0]))
        elif what == "end":
            self.end(self.random.choice(running))
        elif what == "vanish" and self.random.random() < 0.3:
            driven.vanish(self.random.choice(running))
        elif what == "stop" and self.random.random() < 0.5:
            verb = self.random.choice(["cancel", "interrupt", "kill"])
            job = self.random.choice([*self.jobs, self.batch.first_job + self.random.randrange(self.count)])
            driven.call(getattr(driven.engine, verb)(job))
        elif what == "leave" and len(workers.slots) > 1 and self.random.random() < 0.1:
            workers.leave(self.random.choice(workers.slots))
            driven.look_around()
        elif what == "close" and self.random.random() < 0.1:
            self.random.choice([driven.reopen, driven.crash])()
        for unit in workers.sent:
            workers.begun.setdefault(unit, self.random.randint(0, count_of(driven, unit)))

    def end(self, unit: int) -> None:
        """Have *unit* end somehow: as far as it was cut, if it was."""
        workers = self.driven.workers
        count = count_of(self.driven, unit)
        begun = workers.cut_units.get(unit, 0) or count
        if unit in workers.unwanted:
            done = self.random.randrange(begun)
            ends = [DONE] * done + [STOPPED] + [NOT_RUN] * (count - done - 1)
        else:
            ends = [self.random.choice([DONE, DONE, DONE, BAD]) for _ in range(begun)] + [NOT_RUN] * (count - begun)
            if self.random.random() < 0.1:
                ends[0] = NOT_RUN if count == 1 else ends[0]
        self.driven.end(unit, ends, 0.01 * begun)

    def check_running(self) -> None:
        """What a batch says is running is what slots have of it."""
        engine = self.driven.engine
        chunks = [run for run in engine._running.values() if isinstance(run.work, Chunk) and run.first is None]
        for id, batch in engine._feed.batches.items():
            assert batch.running == sum(run.left for run in chunks if run.work.batch == id)  # type: ignore[union-attr]

    def finish(self) -> None:
        """Have all that is left succeed."""
        for _ in range(2000):
            if self.driven.workers.sent:
                unit = next(iter(self.driven.workers.sent))
                stopped = unit in self.driven.workers.unwanted
                self.driven.end(unit, [STOPPED if stopped else DONE] * count_of(self.driven, unit), 0.01)
            else:
                self.driven.pass_by(1.0)
            if not self.driven.call(self.driven.engine.unfinished()):
                return
        raise AssertionError("something is stuck")


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_each_call_ends_once_and_earns_once(seed: int) -> None:
    chaos = Chaos(seed)
    driven = chaos.driven
    try:
        for _ in range(60):
            chaos.step()
            chaos.check_running()
        chaos.finish()

        batch = driven.call(driven.engine.batch(chaos.batch.id))
        states = [job(driven, id).state for id in chaos.jobs]
        assert batch.succeeded + batch.failed + batch.cancelled == chaos.count
        assert batch.running == 0
        assert sum(credit(driven).values()) == batch.succeeded + states.count("succeeded")
        assert set(states) <= {"succeeded", "failed", "cancelled"}
        while driven.workers.sent:
            driven.end(next(iter(driven.workers.sent)), [STOPPED], 0.01)
        assert not driven.engine._held.total()
        assert not driven.engine._running
        assert not any(driven.engine._on.values())
    finally:
        driven.close()
        driven.remove()
