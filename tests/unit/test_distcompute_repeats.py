"""What a worker says again because the answer was lost, and what it says on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dcengine_plugins.distcompute.repeats import MOST_TIMES, Word, is_end_repeated, is_new_job_repeated

FIRST = Word("newJob", ("10.0.0.1", 4000), 100.0)
DONE = Word("completeJob", ("10.0.0.1", 4000), 100.0, digest=b"x")


@dataclass
class Case:
    connection: tuple[str, int]
    after: float
    is_repeated: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(("10.0.0.1", 4001), 2.5, True),
        Case(("10.0.0.1", 4000), 2.5, False),
        Case(("10.0.0.1", 4001), 0.1, False),
        Case(("10.0.0.1", 4001), 90.0, False),
    ],
    ids=["elsewhere and later", "on the same connection", "at once", "when idle connections were closed"],
)
def test_who_asks_for_a_job_elsewhere_and_a_moment_later_has_lost_the_answer(case: Case) -> None:
    assert is_new_job_repeated(Word("newJob", case.connection, 100.0 + case.after), FIRST) is case.is_repeated


def test_whoever_has_said_something_else_since_has_had_the_answer() -> None:
    said = Word("updateProgress", ("10.0.0.1", 4000), 101.0)

    assert not is_new_job_repeated(Word("newJob", ("10.0.0.1", 4001), 110.0), said)


def test_the_same_job_is_handed_out_five_times_more_and_then_put_back() -> None:
    again = [
        is_new_job_repeated(
            Word("newJob", ("10.0.0.1", 4001), 102.5), Word("newJob", ("10.0.0.1", 4000), 100.0, times=times)
        )
        for times in range(1, 8)
    ]

    assert again == [True] * MOST_TIMES + [False] * 2


def test_whoever_spoke_to_an_engine_that_has_ended_is_given_the_benefit_of_the_doubt() -> None:
    assert is_new_job_repeated(FIRST, None)
    assert is_end_repeated(DONE, None)


def test_the_same_data_elsewhere_or_later_are_said_again_and_others_never() -> None:
    elsewhere = Word("completeJob", ("10.0.0.1", 4001), 100.1, digest=b"x")
    later = Word("completeJob", ("10.0.0.1", 4000), 5000.0, digest=b"x")
    at_once = Word("completeJob", ("10.0.0.1", 4000), 100.1, digest=b"x")
    others = Word("completeJob", ("10.0.0.1", 4001), 103.0, digest=b"y")

    assert [is_end_repeated(word, DONE) for word in (elsewhere, later, at_once, others)] == [True, True, False, False]


def test_a_refusal_is_not_repeated() -> None:
    refused = Word("completeJob", ("10.0.0.1", 4000), 100.0, status=403, digest=b"x")

    assert not is_end_repeated(Word("completeJob", ("10.0.0.1", 4001), 103.0, digest=b"x"), refused)
