"""Credit over time: spans that are always what the ledger says, and ranks that are found from the nearer end."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dcengine.errors import NotFound
from dcengine.store.names import Names
from dcengine.store.opening import migrations, open_for_writing
from dcengine.store.standing_reads import StandingReads
from dcengine.store.standings import HOUR, HOURS, RollHours, add_credit, void_credit
from dcengine.verbs import LeaderboardRow, Span, Standing

NOW = 500_000  #: an hour in 2027
SPANS: tuple[Span, ...] = ("all", "month", "week", "day")


def a_file(db: Path | str = ":memory:") -> sqlite3.Connection:
    """A file with two projects beside the built-in one, and five contributors."""
    connection = sqlite3.connect(":memory:", isolation_level=None) if db == ":memory:" else open_for_writing(Path(db))
    if db == ":memory:":
        for _, script in migrations():
            connection.executescript(script)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'hour'", (NOW,))
    connection.executemany("INSERT INTO project (id, name, created) VALUES (?, ?, 0)", [(2, "photos"), (3, "laion")])
    for nickname in ("alice", "bob", "carol", "dave", "eve"):
        connection.execute("INSERT INTO contributor (nickname) VALUES (?)", (nickname,))
    return connection


def earn(connection: sqlite3.Connection, entries: dict[tuple[int, int], int], at: int) -> None:
    """Enter credit as the ledger does."""
    at = add_credit(connection, entries, at)
    connection.executemany(
        "INSERT INTO credit (project, contributor, units, at) VALUES (?, ?, ?, ?)",
        [(*key, units, at) for key, units in entries.items()],
    )


def roll(connection: sqlite3.Connection, hour: int) -> bool:
    (is_new,) = RollHours.apply(connection, Names(), [RollHours(hour * HOUR)])
    return bool(is_new)


def current(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT value FROM meta WHERE key = 'hour'").fetchone()[0])


class Years(RuleBasedStateMachine):
    """Credit comes, is taken back, time passes, and now and then the clock is set back."""

    @initialize()
    def begin(self) -> None:
        self.connection = a_file()
        self.clock = NOW * HOUR

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    @rule(
        entries=st.dictionaries(
            st.tuples(st.integers(2, 3), st.integers(1, 5)), st.integers(0, 9), min_size=1, max_size=4
        )
    )
    def credit_comes(self, entries: dict[tuple[int, int], int]) -> None:
        earn(self.connection, entries, self.clock)

    @rule(which=st.randoms(use_true_random=False))
    def credit_is_taken_back(self, which: random.Random) -> None:
        rows = self.connection.execute("SELECT id, project, contributor, units, at FROM credit WHERE void = 0")
        if entries := rows.fetchall():
            id, *entry = which.choice(entries)
            self.connection.execute("UPDATE credit SET void = 1 WHERE id = ?", (id,))
            void_credit(self.connection, *entry)

    @rule(
        minutes=st.one_of(st.integers(1, 90), st.sampled_from([60 * n for n in (23, 24, 167, 168, 719, 720, 30_000)]))
    )
    def time_passes(self, minutes: int) -> None:
        self.clock += minutes * HOUR // 60

    @rule(hours=st.integers(1, 900))
    def the_clock_is_set_back(self, hours: int) -> None:
        self.clock -= hours * HOUR

    @rule()
    def an_engine_looks_after_it(self) -> None:
        before = current(self.connection)
        assert roll(self.connection, self.clock // HOUR) is (self.clock // HOUR > before)
        assert current(self.connection) == max(before, self.clock // HOUR)

    @invariant()
    def every_sum_is_what_the_entries_say(self) -> None:
        if not hasattr(self, "connection"):
            return
        now, expected = current(self.connection), Counter[tuple[int, int, str]]()
        credits = self.connection.execute("SELECT project, contributor, units, at FROM credit WHERE void = 0")
        for project, contributor, units, at in credits.fetchall():
            expected[project, contributor, "units"] += units
            for span, hours in HOURS.items():
                if at // HOUR > now - hours:
                    expected[project, contributor, span] += units
        columns = ("units", "day", "week", "month")
        stored = self.connection.execute(
            "SELECT project, contributor, units, day, week, month FROM standing"
        ).fetchall()
        sums = {(row[0], row[1], column): n for row in stored for column, n in zip(columns, row[2:], strict=True)}
        assert {key: n for key, n in sums.items() if n} == {key: n for key, n in expected.items() if n}
        for project, *totals in self.connection.execute(
            "SELECT project, units, day, week, month, units_contributors, day_contributors, week_contributors,"
            " month_contributors FROM standing_total"
        ):
            of_project = [[n for key, n in expected.items() if key[0] == project and key[2] == c] for c in columns]
            assert totals == [*map(sum, of_project), *(sum(n > 0 for n in some) for some in of_project)]

    @invariant()
    def hours_that_no_span_holds_are_not_kept(self) -> None:
        if hasattr(self, "connection"):
            (oldest,) = self.connection.execute("SELECT min(hour) FROM earning").fetchone()
            assert oldest is None or oldest > current(self.connection) - HOURS["month"]


TestYears = Years.TestCase
TestYears.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    ("hours", "left"), [(0, (5, 5, 5)), (23, (5, 5, 5)), (24, (0, 5, 5)), (168, (0, 0, 5)), (720, (0, 0, 0))]
)
def test_a_span_is_the_current_hour_and_so_many_before_it(hours: int, left: tuple[int, int, int]) -> None:
    connection = a_file()
    earn(connection, {(2, 1): 5}, NOW * HOUR + HOUR // 2)

    roll(connection, NOW + hours)
    assert connection.execute("SELECT day, week, month FROM standing").fetchone() == left

    void_credit(connection, 2, 1, 5, NOW * HOUR + HOUR // 2)
    assert connection.execute("SELECT units, day, week, month FROM standing").fetchone() == (0, 0, 0, 0)


def test_credit_of_an_old_file_is_sorted_into_spans(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    first, second, third, *_ = (script for _, script in migrations())
    connection.executescript(first + second)
    connection.execute("INSERT INTO contributor (nickname) VALUES ('alice')")
    connection.execute("INSERT INTO standing (project, contributor, units) VALUES (1, 1, 7)")
    now = int(connection.execute("SELECT strftime('%s', 'now')").fetchone()[0]) * 1_000_000
    connection.executemany(
        "INSERT INTO credit (project, contributor, task, units, at) VALUES (1, 1, ?, ?, ?)",
        [(1, 1, now), (2, 2, now - 100 * HOUR), (3, 4, now - 9000 * HOUR)],
    )

    connection.executescript(third)

    assert connection.execute("SELECT units, day, week, month FROM standing").fetchone() == (7, 1, 3, 3)
    assert connection.execute("SELECT units, month, month_contributors FROM standing_total").fetchone() == (7, 3, 1)


# ---- places --------------------------------------------------------------------------------


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = a_file(tmp_path / "work.db")
    yield connection
    connection.close()


@pytest.fixture
async def reads(connection: sqlite3.Connection, tmp_path: Path) -> AsyncIterator[StandingReads]:
    reads = StandingReads(tmp_path / "work.db")
    await reads.start()
    yield reads
    await reads.close()


def crowd(connection: sqlite3.Connection, units: list[int], *, project: int = 2) -> list[str]:
    """Give each of many contributors units; return their nicknames."""
    nicknames = [f"c{n:05}" for n in range(len(units))]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO contributor (id, nickname) VALUES (?, ?)", enumerate(nicknames, 100))
    add_credit(connection, {(project, 100 + n): each for n, each in enumerate(units)}, NOW * HOUR)
    connection.execute("COMMIT")
    return nicknames


async def test_a_leaderboard_has_the_most_first_with_shares_and_shared_ranks(
    connection: sqlite3.Connection, reads: StandingReads
) -> None:
    earn(connection, {(2, 1): 2, (2, 2): 5, (2, 3): 2, (2, 4): 1, (3, 5): 100}, NOW * HOUR)

    assert await reads.leaderboard("photos") == [
        LeaderboardRow("bob", 5, 0.5, 1),
        LeaderboardRow("alice", 2, 0.2, 2),
        LeaderboardRow("carol", 2, 0.2, 2),
        LeaderboardRow("dave", 1, 0.1, 4),
    ]
    assert [row.nickname for row in await reads.leaderboard("photos", limit=2)] == ["bob", "alice"]
    assert [row.share for row in await reads.leaderboard("photos", limit=1)] == [0.5]
    assert await reads.leaderboard("functions") == []


async def test_a_leaderboard_of_a_span_has_only_those_who_earned_something_in_it(
    connection: sqlite3.Connection, reads: StandingReads
) -> None:
    earn(connection, {(2, 1): 9}, NOW * HOUR)
    roll(connection, NOW + 100)
    earn(connection, {(2, 2): 1}, (NOW + 100) * HOUR)

    assert [row.nickname for row in await reads.leaderboard("photos", span="day")] == ["bob"]
    assert [row.nickname for row in await reads.leaderboard("photos", span="week")] == ["alice", "bob"]
    assert await reads.standing("photos", "alice", span="day") == Standing("alice", 2, 0, 1)
    assert await reads.standing("photos", "alice", span="week") == Standing("alice", 1, 9, 2)


async def test_who_has_no_credit_has_no_place(connection: sqlite3.Connection, reads: StandingReads) -> None:
    earn(connection, {(2, 1): 3, (3, 2): 1}, NOW * HOUR)
    void_credit(connection, 2, 1, 3, NOW * HOUR)

    for nickname in ("alice", "bob", "nobody"):
        with pytest.raises(NotFound, match=nickname):
            await reads.standing("photos", nickname)
    with pytest.raises(NotFound, match="no project"):
        await reads.standing("nothing", "alice")
    with pytest.raises(NotFound, match="no project"):
        await reads.leaderboard("nothing")
    assert await reads.leaderboard("photos") == []


@pytest.mark.parametrize("seed", range(4))
async def test_every_place_is_one_more_than_those_with_more(
    connection: sqlite3.Connection, reads: StandingReads, seed: int
) -> None:
    chance = random.Random(seed)
    most = (3, 50, 10**6, 1)[seed]
    units = [chance.randint(1, most) for _ in range(500)]
    nicknames = crowd(connection, units)
    roll(connection, NOW + 24)
    today = {n: chance.randint(1, most) for n in chance.sample(range(500), 200)}
    add_credit(connection, {(2, 100 + n): each for n, each in today.items()}, (NOW + 24) * HOUR)

    for n, nickname in enumerate(nicknames):
        mine, everybody = today.get(n, 0), list(today.values())
        place = 1 + sum(other > mine for other in everybody)
        assert await reads.standing("photos", nickname, span="day") == Standing(nickname, place, mine, 200)
        sums = [each + today.get(m, 0) for m, each in enumerate(units)]
        place = 1 + sum(other > sums[n] for other in sums)
        assert await reads.standing("photos", nickname) == Standing(nickname, place, sums[n], 500)


async def test_a_place_is_counted_from_the_nearer_end(connection: sqlite3.Connection, reads: StandingReads) -> None:
    nicknames = crowd(connection, [n + 1 for n in range(20_000)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    await reads._connection.set_progress_handler(count, 100)
    effort = []
    for nickname in (nicknames[0], nicknames[100], nicknames[-1]):
        steps = 0
        await reads.standing("photos", nickname)
        effort.append(steps)

    print(effort)
    assert max(effort) < 10_000  # steps of SQLite's machine, of which a row takes several
