"""How many tasks one may hold: volunteers few at first, those with a token many, nobody without end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dcengine.errors import LeaseLimitReached
from dcengine.verbs import LeaseRequest
from tests.tracker import PROJECT, Tracker, checked


def test_a_volunteer_may_hold_more_the_more_it_has_brought() -> None:
    with checked(Tracker(40)) as tracker:
        held = tracker.lease("a", "vera", 10, is_volunteer=True)
        assert len(held) == 4
        with pytest.raises(LeaseLimitReached, match=r"'vera' holds 4 task\(s\) and may hold 4.*complete or release"):
            tracker.lease("a", "vera", is_volunteer=True)
        assert len(tracker.lease("a", "victor", 10, is_volunteer=True)) == 4

        assert all(tracker.complete(held))

        assert len(tracker.lease("a", "vera", 10, is_volunteer=True)) == 8
        tracker.driven.pass_by(601)  # they are late
        assert len(tracker.lease("a", "vera", 20, is_volunteer=True)) == 8


def test_asking_at_the_same_time_brings_a_volunteer_no_more() -> None:
    with checked(Tracker(40)) as tracker:
        wishes = [
            LeaseRequest(project=PROJECT, stage="a", worker=f"w{n}", nickname="vera", n=3, is_volunteer=True)
            for n in range(5)
        ]
        brought = tracker.ask(at_once(tracker.engine, wishes))

        assert sum(len(tasks) for tasks in brought if isinstance(tasks, list)) == 4
        assert len(tracker.lease("a", "victor", 4, is_volunteer=True)) == 4


async def at_once(engine: Any, wishes: list[LeaseRequest]) -> list[Any]:
    return await asyncio.gather(*map(engine.lease, wishes), return_exceptions=True)


def test_anonymous_volunteers_do_not_share_what_one_may_hold() -> None:
    with checked(Tracker(40)) as tracker:
        for n in range(3):
            wish = LeaseRequest(
                project=PROJECT, stage="a", worker=f"w{n}", nickname="anonymous", n=9, is_volunteer=True
            )
            assert len(tracker.ask(tracker.engine.lease(wish))) == 4


def test_a_token_is_good_for_a_bounded_number_of_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine.engine.leases.HOLDER_LIMIT", 10)
    with checked(Tracker(40)) as tracker:
        assert len(tracker.lease("a", "alice", 8, grant=7)) == 8
        assert len(tracker.lease("a", "also alice", 8, grant=7)) == 2
        with pytest.raises(LeaseLimitReached):
            tracker.lease("a", "alice", grant=7)
        assert len(tracker.lease("a", "bob", 8, grant=8)) == 8
