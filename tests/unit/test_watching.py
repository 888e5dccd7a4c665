"""Many who wait for jobs share few questions to the engine, and none of them is forgotten or told too much."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from dcengine.errors import EngineClosed
from dcengine.verbs import JobResult
from dcengine.watching import LANES, MERGING, Told, Watch, watch_of

END = JobResult("succeeded", b"")


class Way:
    """A link on which a test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], Future[Any]]] = []
        self.is_closed = False

    def start(self, verb: str, ids: list[int], *, wait: float) -> Future[Any]:
        if self.is_closed:
            raise EngineClosed("x.db")
        assert verb == "ends"
        self.asked.append((ids, Future()))
        return self.asked[-1][1]

    def open(self) -> list[list[int]]:
        """Return what is asked now."""
        return [ids for ids, answer in self.asked if not answer.done()]

    def answer(self, *ends: int) -> None:
        """Answer the open question about the first of *ends* with all of them."""
        (answer,) = [answer for ids, answer in self.asked if ends[0] in ids and not answer.done()]
        answer.set_result(dict.fromkeys(ends, END))


class Ear:
    """Listens, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: dict[int, Told] = {}

    def __call__(self, job: int, end: Told) -> None:
        assert job not in self.told
        self.told[job] = end


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def watch(way: Way) -> Watch:
    return Watch(way)


def test_one_question_asks_for_all_and_again_for_those_that_are_left(way: Way, watch: Watch) -> None:
    ear = Ear()
    watch.add([1, 2, 3], ear)
    assert way.open() == [[1, 2, 3]]

    way.answer(2)

    assert ear.told == {2: END}
    assert way.open() == [[1, 3]]
    way.answer(1, 3)
    assert ear.told.keys() == {1, 2, 3}
    assert way.open() == []


def test_many_who_listen_share_few_questions(way: Way, watch: Watch) -> None:
    ears = [Ear() for _ in range(100)]
    for job, ear in enumerate(ears):
        watch.add([job], ear)

    assert len(way.open()) <= LANES
    while way.open():
        way.answer(*way.open()[0])
    assert [ear.told for ear in ears] == [{job: END} for job in range(100)]
    assert len(way.asked) <= 3 * LANES


def test_a_job_that_comes_while_all_lanes_wait_is_asked_for_at_once(
    way: Way, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("dcengine.watching.time.monotonic", lambda: now)
    for job in range(LANES):
        watch.add([job], Ear())
        now += 10 * MERGING
    ear = Ear()

    watch.add([99], ear)

    (asked,) = way.open()
    assert sorted(asked) == [*range(LANES), 99]
    way.answer(99)
    assert ear.told == {99: END}


def test_two_who_listen_for_one_job_are_both_told(way: Way, watch: Watch) -> None:
    first, second = Ear(), Ear()
    watch.add([1], first)
    watch.add([1], second)
    assert way.open() == [[1]]

    way.answer(1)

    assert first.told == second.told == {1: END}


def test_who_listens_no_more_is_told_nothing_and_the_question_is_taken_back(way: Way, watch: Watch) -> None:
    gone, stays = Ear(), Ear()
    watch.add([1], gone)
    watch.add([2], stays)

    watch.remove([1], gone)

    assert way.open() == [[2]]
    way.answer(2)
    assert (gone.told, stays.told) == ({}, {2: END})


def test_an_error_of_the_engine_is_told_to_all_who_asked(way: Way, watch: Watch) -> None:
    ear = Ear()
    watch.add([1, 2], ear)
    way.is_closed = True

    way.asked[0][1].cancel()  # with its loop

    assert [type(told) for told in ear.told.values()] == [EngineClosed, EngineClosed]


def test_a_link_has_one_watch_and_takes_it_along() -> None:
    way = Way()
    watch = watch_of(way)

    assert watch_of(way) is watch
    assert watch_of(Way()) is not watch
