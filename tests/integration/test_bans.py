"""Contributors that are banned: what becomes of their work, wherever its jobs are. A real engine over a real file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from dcengine.codec import pack, pack_function, pack_json, unpack
from dcengine.engine import bans
from dcengine.errors import ContributorBanned, NotFound
from dcengine.runner.units import Ending
from dcengine.verbs import (
    BatchSubmission,
    Function,
    Heartbeat,
    Options,
    Submission,
    TaskFailure,
    TaskFlag,
    TokenSpec,
)
from tests.tracker import PROJECT, Tracker, checked, expanding, run_function, split

HOUR = 3600.0


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with checked(Tracker(6)) as tracker:
        yield tracker


# ---- where the job is ----------------------------------------------------------------------


def test_work_that_nobody_has_gone_on_with_is_done_again(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 4)
    tracker.do("a", "alice", 2)

    done = tracker.ban("mallory")

    assert (done.voided, done.requeued, done.leases, done.tokens) == (4, 4, 0, 0)
    assert tracker.board() == tracker.board("day") == {"alice": 2}
    assert tracker.counts("queued") == {"a": 4, "b": 2}
    assert tracker.history(1) == [("a", 0, "returned", "mallory"), ("b", 0, "returned", None), ("a", 1, "queued", None)]
    (task,) = tracker.lease("a", "alice")
    assert (task.job, task.generation, bytes(task.input)) == (1, 1, b'["item",0]')


def test_a_job_of_which_a_later_stage_is_being_done_goes_back_and_its_holder_is_told(tracker: Tracker) -> None:
    tracker.do("a", "mallory")
    (held,) = tracker.lease("b", "bob")

    tracker.ban("mallory")

    (beaten,) = tracker.ask(tracker.engine.heartbeat([Heartbeat(token=held.token)]))
    assert (beaten.is_accepted, beaten.cancel) == (False, True)
    assert tracker.complete([held]) == [False]
    assert tracker.counts("queued", "leased") == {"a": 6}


def test_a_finished_job_goes_on_again_and_others_keep_their_credit(tracker: Tracker) -> None:
    tracker.do("a", "mallory")
    tracker.do("b", "bob")
    tracker.do("c", "carol")
    assert tracker.ask(tracker.engine.job(1)).state == "succeeded"

    tracker.ban("mallory")

    assert tracker.ask(tracker.engine.job(1)).state == "open"
    assert tracker.ask(tracker.engine.result(1)) is None
    assert tracker.board() == {"bob": 1, "carol": 1}
    tracker.work_off()
    assert tracker.ask(tracker.engine.result(1)).data.endswith(b'"eve\'s"')
    assert tracker.board() == {"bob": 1, "carol": 1, "eve": 18}


def test_what_was_done_well_before_it_stays(tracker: Tracker) -> None:
    tracker.do("a", "alice", 6)
    tracker.do("b", "mallory", 3)
    tracker.do("c", "carol", 2)

    tracker.ban("mallory")

    assert tracker.board() == {"alice": 6, "carol": 2}
    assert tracker.counts("queued") == {"b": 6}
    (task,) = tracker.lease("b", "bob")
    assert bytes(task.input) == b'"alice\'s"'


def test_who_did_several_stages_of_a_job_loses_all_of_them_and_the_first_is_done_again(tracker: Tracker) -> None:
    for stage in "abc":
        tracker.do(stage, "mallory", 2)

    done = tracker.ban("mallory")

    assert (done.voided, done.requeued) == (6, 6)
    assert tracker.counts("queued") == {"a": 6}
    assert tracker.board() == {}


def test_a_failed_job_goes_back_and_a_cancelled_one_stays_cancelled_but_would_begin_there(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 2)
    (task,) = tracker.lease("b", "bob")
    tracker.ask(tracker.engine.fail([TaskFailure(token=task.token, reason="cannot read it")]))
    tracker.ask(tracker.engine.cancel(2))

    done = tracker.ban("mallory")

    assert (done.voided, done.requeued) == (2, 1)
    assert [tracker.ask(tracker.engine.job(id)).state for id in (1, 2)] == ["open", "cancelled"]
    assert tracker.history(1)[-1] == ("a", 1, "queued", None)
    tracker.ask(tracker.engine.retry([2]))
    assert tracker.history(2)[-1] == ("a", 1, "queued", None)
    tracker.work_off()
    assert tracker.ask(tracker.engine.project(PROJECT)).succeeded == 6


def test_work_that_nothing_was_made_of_in_the_end_is_not_done_again(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 2)
    tracker.ask(tracker.engine.edit(1, pack_json("another", what="an input")))  # b goes on without what a gave
    for who in ("bob", "carol"):
        while (task := tracker.lease("b", who)[0]).job != 2:
            pass
        tracker.ask(tracker.engine.flag([TaskFlag(token=task.token)]))  # the second sends it back
        tracker.driven.pass_by(601)

    done = tracker.ban("mallory")

    assert (done.voided, done.requeued) == (1, 0)
    assert tracker.history(1)[-1][0] == "b"
    assert tracker.history(2)[-1] == ("a", 1, "queued", None)


# ---- whom and since when -------------------------------------------------------------------


def test_only_what_was_done_since_then_is_voided(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 2)
    tracker.driven.pass_by(3 * HOUR)
    since = tracker.driven.clock.time()
    tracker.do("a", "mallory", 3)
    tracker.do("b", "mallory", 2)  # of what it did before

    done = tracker.ban("mallory", since=since)

    assert (done.voided, done.requeued, done.since) == (5, 5, since)
    assert tracker.board() == tracker.board("day") == {"mallory": 2}
    assert tracker.counts("queued") == {"a": 4, "b": 2}
    assert tracker.ban("mallory").voided == 2
    assert tracker.board() == {}


def test_two_contributors_are_banned_one_after_the_other(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 2)
    tracker.do("a", "mike", 2)
    tracker.do("b", "mike", 2)
    tracker.do("c", "alice", 1)

    assert tracker.ban("mallory").voided == 2
    assert tracker.board() == {"mike": 4, "alice": 1}
    assert tracker.ban("mike").voided == 4

    assert tracker.board() == {"alice": 1}
    assert tracker.counts("queued") == {"a": 6}
    banned = tracker.ask(tracker.engine.banned_contributors())
    assert sorted(each.nickname for each in banned) == ["mallory", "mike"]


def test_a_second_ban_finds_nothing_to_do(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 2)
    tracker.ban("mallory")
    before = tracker.counts("queued")

    done = tracker.ban("mallory")

    assert (done.voided, done.requeued, done.leases, done.tokens) == (0, 0, 0, 0)
    assert tracker.counts("queued") == before


def test_a_nickname_that_was_never_met_is_refused(tracker: Tracker) -> None:
    with pytest.raises(NotFound, match="'malory'"):
        tracker.ban("malory")
    assert tracker.ask(tracker.engine.banned_contributors()) == []
    tracker.do("a", "malory")  # it is no less welcome than before


# ---- what it may do from then on -------------------------------------------------------------


def test_it_is_handed_nothing_what_it_holds_is_taken_back_and_nothing_is_taken_from_it(tracker: Tracker) -> None:
    held = tracker.lease("a", "mallory", 4)
    assert tracker.complete(held[:1]) == [True]

    done = tracker.ban("mallory")

    assert done.leases == 3
    assert tracker.complete(held) == [False] * 4  # what it had done is not even known any more
    with pytest.raises(ContributorBanned, match=r"'mallory' is banned.*unban"):
        tracker.lease("a", "mallory")
    assert len(tracker.lease("a", "alice", 10)) == 6
    tracker.driven.reopen()
    with pytest.raises(ContributorBanned):
        tracker.lease("a", "mallory")


def test_who_is_welcome_again_begins_anew(tracker: Tracker) -> None:
    tracker.do("a", "mallory", 2)
    tracker.ban("mallory")

    status = tracker.ask(tracker.engine.unban_contributor("mallory"))

    assert (status.nickname, status.banned) == ("mallory", None)
    assert tracker.ask(tracker.engine.banned_contributors()) == []
    tracker.do("a", "mallory")
    assert tracker.board() == {"mallory": 1}
    with pytest.raises(NotFound):
        tracker.ask(tracker.engine.unban_contributor("nobody"))


def test_its_tokens_are_revoked_and_those_of_others_are_not(tracker: Tracker) -> None:
    def new(nickname: str | None) -> str:
        spec = TokenSpec(role="worker", project=PROJECT, nickname=nickname)
        return str(tracker.ask(tracker.engine.create_token(spec)).token)

    own, other, nobodys = new("mallory"), new("alice"), new(None)

    assert tracker.ban("mallory").tokens == 1
    assert [tracker.engine.grant_of(token) is None for token in (own, other, nobodys)] == [True, False, False]
    tracker.driven.reopen()
    assert tracker.engine.grant_of(own) is None


# ---- votes ---------------------------------------------------------------------------------


def test_its_votes_count_no_more() -> None:
    with checked(Tracker(1)) as tracker:
        tracker.do("a", "alice")
        tracker.flag("b", "mallory")

        tracker.ban("mallory")

        tracker.flag("b", "bob")  # it would have been the second
        assert tracker.history(1)[-1] == ("b", 0, "queued", "bob")
        tracker.flag("b", "carol")
        assert tracker.history(1)[-1] == ("a", 1, "queued", None)


def test_votes_from_before_the_time_count_on() -> None:
    with checked(Tracker(1)) as tracker:
        tracker.do("a", "alice")
        tracker.flag("b", "mallory")
        tracker.driven.pass_by(60)

        tracker.ban("mallory", since=tracker.driven.clock.time() - 30)

        tracker.flag("b", "bob")
        assert tracker.history(1)[-1] == ("a", 1, "queued", None)


def test_a_vote_on_what_somebody_else_holds_counts_no_more_either() -> None:
    with checked(Tracker(1)) as tracker:
        tracker.do("a", "alice")
        tracker.flag("b", "mallory")
        (held,) = tracker.lease("b", "bob")

        tracker.ban("mallory")
        tracker.ask(tracker.engine.release([held.token]))

        assert tracker.ask(tracker.engine.job(1)).flags == 0
        assert len(tracker.lease("b", "carol")) == 1


def test_a_job_that_failed_for_its_vote_is_tried_again() -> None:
    with checked(Tracker(1)) as tracker:
        tracker.flag("a", "mallory")
        tracker.flag("a", "bob")
        assert tracker.ask(tracker.engine.job(1)).state == "failed"

        tracker.ban("mallory")

        assert tracker.ask(tracker.engine.job(1)).state == "open"
        tracker.work_off()
        assert tracker.ask(tracker.engine.job(1)).state == "succeeded"


# ---- in slices -----------------------------------------------------------------------------


def test_a_ban_that_is_killed_between_two_slices_goes_on_in_the_next_engine(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.do("a", "mallory", 5)
    tracker.do("b", "bob", 2)
    monkeypatch.setattr(bans, "SLICE", 2)
    monkeypatch.setattr(bans, "SLICE_PAUSE_SECONDS", 1e9)
    ban = tracker.driven._loop.create_task(tracker.engine.ban_contributor("mallory"))
    tracker.driven._loop.run_until_complete(until(lambda: credit_of(tracker) == 3))
    ban.cancel()

    monkeypatch.setattr(bans, "SLICE_PAUSE_SECONDS", 0.0)
    tracker.driven.crash()
    tracker.driven.settle()

    assert tracker.board() == {"bob": 2}
    assert tracker.counts("queued") == {"a": 6}
    with pytest.raises(ContributorBanned):
        tracker.lease("a", "mallory")
    with closing(sqlite3.connect(tracker.driven.db)) as file:
        assert file.execute("SELECT count(*) FROM meta WHERE key GLOB 'ban:*'").fetchone() == (0,)


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def credit_of(tracker: Tracker) -> int:
    with closing(sqlite3.connect(f"file:{tracker.driven.db}?mode=ro", uri=True)) as file:
        (units,) = file.execute("SELECT sum(units) FROM credit WHERE void = 0 AND contributor = 1").fetchone()
    return int(units or 0)


def test_slices_leave_nothing_out(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "SLICE", 1)
    for stage in "abc":
        tracker.do(stage, "mallory", 4)
    tracker.do("a", "alice", 2)

    assert tracker.ban("mallory").voided == 12

    assert tracker.counts("queued") == {"a": 4, "b": 2}


# ---- parts, and calls without a project ------------------------------------------------------


def test_a_part_that_a_gather_waits_for_is_done_again() -> None:
    with checked(expanding()) as tracker:
        tracker.do("a", "alice")
        split(tracker)
        tracker.do("b", "mallory")

        done = tracker.ban("mallory")
        assert (done.voided, done.requeued) == (1, 1)
        assert tracker.counts("queued", "blocked") == {"b": 2, "join": 1}

        tracker.do("b", "bob", 2)
        run_function(tracker, pack_json("both", what="a value"))
        tracker.do("c", "carol")
        assert tracker.ask(tracker.engine.job(1)).state == "succeeded"


def test_what_was_taken_apart_or_gathered_stays_and_only_the_credit_goes() -> None:
    with checked(expanding()) as tracker:
        tracker.do("a", "mallory")
        split(tracker)
        tracker.do("b", "mallory", 2)
        run_function(tracker, pack_json("both", what="a value"))

        done = tracker.ban("mallory")

        assert (done.voided, done.requeued) == (3, 0)
        assert tracker.board() == {"dan@host": 2}
        assert tracker.counts("queued") == {"c": 1}


def test_parts_that_travel_by_themselves_are_not_made_twice() -> None:
    with checked(expanding(is_gathered=False)) as tracker:
        tracker.do("a", "mallory")
        split(tracker)

        done = tracker.ban("mallory")

        assert (done.voided, done.requeued) == (1, 0)
        assert tracker.ask(tracker.engine.job(1)).state == "succeeded"
        assert tracker.ban("dan@host").requeued == 0
        assert tracker.counts("queued") == {"b": 2}


def test_a_gather_is_done_again_with_the_same_parts() -> None:
    with checked(expanding()) as tracker:
        tracker.do("a", "alice")
        split(tracker)
        tracker.do("b", "bob", 2)
        run_function(tracker, pack_json("both", what="a value"))
        tracker.do("c", "carol")

        assert tracker.ban("dan@host").requeued == 1

        (unit,) = tracker.driven.running
        (parts,) = unpack(tracker.driven.workers.items(unit))
        assert unpack(parts) == [b'J"bob\'s"'] * 2
        run_function(tracker, pack_json("both again", what="a value"))
        (task,) = tracker.lease("c", "carol")
        assert bytes(task.input) == b'"both again"'


def test_calls_without_a_project_lose_their_credit_and_are_not_run_again() -> None:
    with checked(Tracker(1)) as tracker:
        function = Function(b"d" * 32, "len", pack_function(len).code)
        tracker.ask(tracker.engine.submit(Submission(function=function, input=b"", options=Options())))
        run_function(tracker, b"Pvalue")
        block = pack([b"Pone", b"Ptwo", b"Pthree"])
        batch = BatchSubmission(function=function, blocks=[block], count=3, options=Options())
        tracker.ask(tracker.engine.submit_batch(batch))
        while tracker.driven.running:
            unit = next(iter(tracker.driven.running))
            count = tracker.driven.workers.sent[unit][0].count
            tracker.driven.end(unit, [(Ending.SUCCEEDED, b"Pvalue")] * count, 0.1)

        done = tracker.ban("dan@host")

        assert (done.voided, done.requeued) == (4, 0)
        assert tracker.ask(tracker.engine.leaderboard("functions")) == []
        assert not tracker.driven.running
