"""Whose turn it is, and how many tiny calls make one chunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine.engine import feeding
from dcengine.engine.feeding import EMPTY_KNOWN, FLAGGED_TURN, USAGE_HALF_LIFE, Feed, Usage, explained, fits
from dcengine.engine.paces import CHUNKS_LEFT, GROWTH, TARGET_SECONDS, Pace
from dcengine.engine.waiting import FlaggedSource, OpenBatch, TaskSource
from dcengine.jobs import BatchInfo, State, Worker


def a_worker(name: str = "w1", unfit: str | None = None, **tags: str | None) -> Worker:
    return Worker(name=name, address="", contributor="me", tags=dict(tags), slots=1, unfit=unfit)


def a_batch(count: int, *, priority: int = 0, blocks: list[int] | None = None, pace: Pace | None = None) -> OpenBatch:
    info = BatchInfo(
        id=1, stage=1, need=1, tags="", first_job=101, count=count, priority=priority, retries=0, timeout=None,
        function=b"f", name="f",
    )  # fmt: skip
    batch = OpenBatch(info, blocks or [0], pace or Pace())
    batch.put(0, count)
    return batch


# ---- chunks --------------------------------------------------------------------------------


def test_the_first_chunk_is_a_single_call() -> None:
    assert Pace().chunk(10_000, 2) == 1


def test_chunks_of_quick_calls_grow_step_by_step() -> None:
    pace = Pace()
    pace.learn(1, 1e-6)
    assert pace.chunk(10**9, 2) == GROWTH
    pace.learn(GROWTH, GROWTH * 1e-6)
    assert pace.chunk(10**9, 2) == GROWTH**2


def test_chunks_of_slow_calls_stay_single() -> None:
    pace = Pace()
    pace.learn(1, 10 * TARGET_SECONDS)

    assert pace.chunk(10**6, 2) == 1


@given(st.integers(1, 10**6), st.integers(1, 64), st.floats(1e-7, 10))
def test_a_chunk_never_takes_more_than_its_share_of_what_remains(remaining: int, slots: int, seconds: float) -> None:
    pace = Pace()
    pace.learn(10**5, seconds * 10**5)

    size = pace.chunk(remaining, slots)

    assert 1 <= size <= max(1, remaining / (CHUNKS_LEFT * slots))


def test_chunks_are_smaller_where_calls_take_longer() -> None:
    pace = Pace()
    for _ in range(3):
        pace.learn(1000, 1.0, "fast")
        pace.learn(1000, 10.0, "slow")

    assert pace.chunk(10**6, 2, "fast") == 100
    assert pace.chunk(10**6, 2, "slow") == 10


def test_what_is_usual_is_not_what_a_straggler_takes() -> None:
    pace = Pace()
    for seconds in (0.1, 0.1, 30.0, 0.1):
        pace.learn(1, seconds)

    assert pace.usual == pytest.approx(0.1)


def test_a_call_that_is_late_already_counts_as_slow() -> None:
    pace = Pace()
    pace.learn(1000, 1.0, "w1")
    pace.take_at_least(2.0, "w1")

    assert pace.chunk(10**6, 2, "w1") == 1


def test_what_the_first_call_had_to_load_is_forgotten_at_the_second() -> None:
    pace = Pace()
    pace.learn(1, 1.2, "w1")
    pace.learn(1, 0.005, "w1")

    assert pace.seconds_on("w1") == pytest.approx(0.005)
    pace.learn(1, 0.004, "w1")
    assert pace.seconds_on("w1") == pytest.approx(0.0045)


# ---- calls that run together ---------------------------------------------------------------


def short_ahead(functions: list[bytes | None], seconds: dict[bytes, float]) -> int:
    """How many of these calls, in this order, run together on the only slot."""
    feed = Feed()
    source = feed.tasks(1, 1, "", 1)
    for function in functions:
        source.add(0, function=function)
    for function, each in seconds.items():
        feed.pace(function).learn(100, 100 * each)
    return feed.short_ahead(source, 1, "w1")


def test_short_calls_run_together() -> None:
    assert short_ahead([b"f"] * 100, {b"f": 0.001}) == 25
    assert short_ahead([b"f", b"g"] * 50, {b"f": 0.001, b"g": 0.001}) == 25


@pytest.mark.parametrize("other", [b"slow", b"unknown", None])
def test_what_is_not_known_to_be_short_ends_the_row(other: bytes | None) -> None:
    seconds = {b"f": 0.001, b"slow": 10.0}

    assert short_ahead([b"f"] * 5 + [other] + [b"f"] * 100, seconds) == 5
    assert short_ahead([other] + [b"f"] * 100, seconds) == 1


def test_calls_that_run_together_take_no_longer_than_a_chunk() -> None:
    assert short_ahead([b"f", b"g"] * 500, {b"f": 0.01, b"g": 0.03}) == 5


def test_few_calls_run_one_by_one() -> None:
    assert short_ahead([b"f"] * 7, {b"f": 0.001}) == 1


def test_a_source_knows_what_its_tasks_call_in_the_order_of_their_priorities() -> None:
    source = Feed().tasks(1, 1, "", 1)
    source.add(0, 2, function=b"f")
    source.add(0, function=b"g")
    source.add(5, function=b"h")
    source.add(0, function=b"f", is_next=True)

    assert list(source.functions()) == [(b"h", 1), (b"f", 3), (b"g", 1)]
    assert source.take(3) == 3
    assert list(source.functions()) == [(b"f", 1), (b"g", 1)]
    assert source.next_function == b"f"


def test_who_shuns_a_source_is_not_told_of_it_for_a_while() -> None:
    source = Feed().tasks(1, 1, "", 1)
    source.be_shunned_by("w1", 60.0)

    assert source.is_shunned_by("w1")
    assert not source.is_shunned_by("w2")


@given(st.integers(1, 500), st.lists(st.integers(1, 499), max_size=5), st.integers(1, 8))
def test_chunks_cover_every_item_once_and_stay_within_blocks(count: int, cuts: list[int], slots: int) -> None:
    blocks = sorted({0, *(cut for cut in cuts if cut < count)})
    pace = Pace()
    pace.learn(100, 1e-4)
    batch = a_batch(count, blocks=blocks, pace=pace)

    seen: list[int] = []
    while chunk := batch.take(slots):
        assert not any(chunk.first < start < chunk.first + chunk.count for start in blocks)
        assert chunk.first_job == 101 + chunk.first
        seen.extend(chunk.indexes)

    assert seen == list(range(count))


def test_what_is_put_back_comes_next() -> None:
    batch = a_batch(10)
    batch.take(1)
    batch.put(0, 1)

    chunk = batch.take(1)

    assert chunk is not None
    assert (chunk.first, chunk.count) == (0, 1)


@given(st.integers(1, 60), st.sets(st.integers(0, 59)))
def test_dropped_items_are_not_taken(count: int, unwanted: set[int]) -> None:
    batch = a_batch(count)
    dropped = {index for index in sorted(unwanted) if batch.drop(index)}

    taken = {index for first, size in batch.take_all() for index in range(first, first + size)}

    assert dropped == {index for index in unwanted if index < count}
    assert taken == set(range(count)) - dropped


def test_a_batch_is_done_when_all_its_items_have_ended() -> None:
    batch = a_batch(5)
    batch.end(State.SUCCEEDED, 3)
    batch.end(State.FAILED, 1)
    assert not batch.is_done
    batch.end(State.CANCELLED, 1)
    assert batch.is_done


# ---- turns ---------------------------------------------------------------------------------


def test_the_highest_priority_goes_first() -> None:
    feed = Feed()
    feed.tasks(1, 1, "", 1).add(0)
    feed.tasks(1, 2, "cpu", 1).add(7)

    chosen = feed.choose(a_worker(cpu=None))

    assert chosen is feed.tasks(1, 2, "cpu", 1)


def test_sources_of_one_priority_take_turns() -> None:
    feed = Feed()
    feed.batches[1] = batch = a_batch(1000)
    singles = feed.tasks(1, 1, "", 1)
    singles.add(0, 1000)

    turns = [feed.choose(a_worker()) for _ in range(6)]

    assert turns.count(batch) == turns.count(singles) == 3


def test_a_worker_is_fed_only_what_it_fits() -> None:
    feed = Feed()
    feed.tasks(1, 1, "gpu", 1).add(0)

    assert feed.choose(a_worker()) is None
    assert feed.choose(a_worker(gpu=None)) is feed.tasks(1, 1, "gpu", 1)
    assert feed.choose(a_worker(gpu=None, unfit="it has no dcengine")) is None


def test_an_empty_source_has_no_turn() -> None:
    feed = Feed()
    source = feed.tasks(1, 1, "", 1)
    source.add(0, 2)
    assert source.take(5) == 2

    assert feed.choose(a_worker()) is None


def test_sources_in_which_nothing_waits_are_forgotten_once_there_are_many() -> None:
    feed = Feed()
    waiting = feed.tasks(1, 1, "waits", 1)
    waiting.add(0)
    for number in range(10 * EMPTY_KNOWN):
        source = feed.tasks(1, 2 + number, f"session.s{number}", 1)
        source.add(0)
        source.take(1)

    known = sum(feed.known(1, f"session.s{number}", 1) is not None for number in range(10 * EMPTY_KNOWN))
    assert known <= 3 * EMPTY_KNOWN
    assert feed.sources() == [waiting]


def test_taking_uses_the_highest_priority_first() -> None:
    source = Feed().tasks(1, 1, "", 1)
    source.add(0, 2)
    source.add(5)

    assert source.priority == 5
    source.take(1)
    assert source.priority == 0


def test_who_is_unfit_is_said_with_the_reason() -> None:
    assert not fits("", a_worker(unfit="no dcengine"))
    assert "w1 cannot be used: no dcengine" in explained("gpu", [a_worker(unfit="no dcengine")]).sentence


# ---- fair turns ----------------------------------------------------------------------------


def served(feed: Feed, turns: int, seconds: float) -> list[int]:
    """Who is served in so many turns of *seconds* each."""
    order = []
    for _ in range(turns):
        source = feed.choose(a_worker())
        assert isinstance(source, TaskSource)
        source.take(1)
        order.append(source.submitter)
        feed.usage.charge(source.submitter, seconds)
    return order


def test_who_has_had_little_goes_before_who_has_had_much() -> None:
    feed = Feed()
    feed.tasks(1, 1, "", 1).add(0, 1_000_000)
    served(feed, 50, seconds=1.0)

    feed.tasks(1, 1, "", 2).add(0, 10)

    assert served(feed, 12, seconds=1.0) == [2] * 10 + [1] * 2


def test_ten_jobs_beside_a_million_end_within_twice_their_own_time() -> None:
    feed = Feed()
    feed.tasks(1, 1, "", 1).add(0, 1_000_000)
    feed.tasks(1, 1, "", 2).add(0, 10)

    order = served(feed, 25, seconds=0.1)

    assert order[:20].count(2) == 10


def test_a_higher_priority_goes_first_whoever_asks() -> None:
    feed = Feed()
    feed.usage.charge(1, 1000.0)
    feed.tasks(1, 1, "", 1).add(5)
    feed.tasks(1, 1, "", 2).add(0)

    assert served(feed, 2, seconds=0.1) == [1, 2]


def test_what_somebody_has_had_is_forgotten_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(feeding.time, "monotonic", lambda: now)
    usage = Usage()
    usage.charge(1, 8.0)

    now += 3 * USAGE_HALF_LIFE

    assert usage.of(1) == pytest.approx(1.0)


# ---- flagged tasks -------------------------------------------------------------------------


def test_flagged_tasks_come_after_all_others() -> None:
    feed = Feed()
    feed.flagged(1, 1, "").add()
    feed.tasks(1, 1, "", 1).add(-5)

    first = feed.choose(a_worker())
    assert isinstance(first, TaskSource)
    first.take(1)

    assert isinstance(feed.choose(a_worker()), FlaggedSource)


def test_flagged_tasks_do_not_wait_for_the_end_of_all_others() -> None:
    feed = Feed()
    feed.flagged(1, 1, "").add()
    feed.tasks(1, 1, "", 1).add(9, 1_000_000)

    assert any(isinstance(feed.choose(a_worker()), FlaggedSource) for _ in range(FLAGGED_TURN))


def test_who_has_flagged_all_of_them_is_not_asked_until_there_is_another() -> None:
    feed = Feed()
    source = feed.flagged(1, 1, "")
    source.add()
    source.spent.add(a_worker().contributor)
    assert feed.choose(a_worker()) is None

    source.add()

    assert feed.choose(a_worker()) is source


def test_stages_of_outside_workers_are_not_fed_to_dask() -> None:
    feed = Feed()
    feed.outside.add(1)
    feed.tasks(1, 1, "", 1).add(0)
    feed.flagged(1, 1, "").add()

    assert feed.choose(a_worker()) is None
    assert feed.sources() == []
    assert feed.choose_at(1) is feed.known(1, "", 1)


def test_a_source_forgets_what_the_store_has_not_but_nothing_that_came_meanwhile() -> None:
    source = TaskSource(1, 1, "", 1)
    source.add(0, 5)
    looked_at = source.added
    source.add(3)
    source.has_none(looked_at)
    assert source.size == 6

    source.has_none(source.added)
    assert source.size == 0


def test_a_voter_is_shown_a_flagged_task_that_came_while_another_was_taken() -> None:
    source = FlaggedSource(1, 1, "")
    source.add()
    looked_at = source.added
    source.take(1)
    source.add()
    source.has_none_for("ada", looked_at)

    assert source.is_for("ada")
