"""Questions in front of a backlog: how a project stands, a page of its jobs, one's place among many contributors.

And what a reader who asks for page after page takes from the writer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from dcengine.events import Kind
from dcengine.jobs import Stage, State
from dcengine.store import Store, now
from dcengine.store.leasing import Holder, Lease
from dcengine.store.moving import Move
from dcengine.store.opening import open_for_writing
from dcengine.verbs import Span

from .backlog import SUBMITTER_ID
from .importing import PROJECT

PAGE = 50  #: jobs
CONTRIBUTORS = 100_000
ASKED = 60  #: times that each question is asked
PAUSE = 0.005  #: seconds between two: who asks for page after page has to wait
CALLERS = 32
READER_SECONDS, QUICK_READER_SECONDS = 2.0, 0.5
READER_ROUNDS = 3
SPANS: tuple[Span, ...] = ("all", "month", "week", "day")


def answer_ms(db: Path) -> dict[str, float]:
    """Return the median milliseconds of each question about the project in *db*."""
    return asyncio.run(_answer_ms(db))


async def _answer_ms(db: Path) -> dict[str, float]:
    store = Store(db)
    await store.start()
    try:
        reads = store.reads
        newest = (await reads.jobs(project=PROJECT, state=None, before=None, limit=1))[0].id
        place = random.Random(1)
        return {
            "counters": await _median_ms(lambda: reads.project(PROJECT)),
            "first page": await _median_ms(lambda: reads.jobs(project=PROJECT, state=None, before=None, limit=PAGE)),
            "any page": await _median_ms(
                lambda: reads.jobs(project=PROJECT, state=None, before=place.randrange(PAGE, newest), limit=PAGE)
            ),
            "any page of open": await _median_ms(
                lambda: reads.jobs(project=PROJECT, state="open", before=place.randrange(PAGE, newest), limit=PAGE)
            ),
        }
    finally:
        await store.close()


def standing_ms(db: Path) -> float:
    """Return the median milliseconds of a question for one's place, in a new file with very many contributors."""
    _fill_standings(db)
    return asyncio.run(_standing_ms(db))


def _fill_standings(db: Path) -> None:
    """Make contributors that have earned little or much, half of them something lately."""
    connection, chance = open_for_writing(db), random.Random(1)
    everybody = range(1, CONTRIBUTORS + 1)
    units = [int(chance.paretovariate(0.7)) for _ in everybody]
    lately = [chance.choice([0, each // 3]) for each in units]
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO project (id, name, created) VALUES (2, ?, 0)", (PROJECT,))
    connection.executemany("INSERT INTO contributor (id, nickname) VALUES (?, ?)", [(n, f"c{n}") for n in everybody])
    connection.executemany(
        "INSERT INTO standing (project, contributor, units, day, week, month) VALUES (2, ?1, ?2, ?3, ?3, ?3)",
        zip(everybody, units, lately, strict=True),
    )
    connection.execute("COMMIT")
    connection.close()


async def _standing_ms(db: Path) -> float:
    store, chance = Store(db), random.Random(2)
    await store.start()
    try:
        return await _median_ms(
            lambda: store.reads.standing(PROJECT, f"c{chance.randint(1, CONTRIBUTORS)}", span=chance.choice(SPANS))
        )
    finally:
        await store.close()


async def _median_ms(ask: Callable[[], Awaitable[object]]) -> float:
    waits = []
    for _ in range(ASKED):
        await asyncio.sleep(PAUSE)
        started = time.perf_counter()
        await ask()
        waits.append(time.perf_counter() - started)
    return round(1000 * median(waits), 3)


# ---- a busy reader -------------------------------------------------------------------------


def busy_reader(db: Path, *, quick: bool) -> dict[str, float]:
    """Return the transitions per second of a writer alone, and beside a reader who never stops; and its pages."""
    return asyncio.run(_busy_reader(db, QUICK_READER_SECONDS if quick else READER_SECONDS))


async def _busy_reader(db: Path, seconds: float) -> dict[str, float]:
    store = Store(db)
    await store.start()
    try:
        (project,) = await store.reads.stored_projects()
        rounds = []
        for _ in range(READER_ROUNDS):
            alone = await _transitions(store, project.stages[0], seconds)
            reader = asyncio.create_task(_read_on(store))
            both = await _transitions(store, project.stages[0], seconds)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            rounds.append((alone, both))
        return {
            "alone": round(median(alone for alone, _ in rounds)),
            "beside a reader": round(median(both for _, both in rounds)),
            "ratio": round(median(both / alone for alone, both in rounds), 3),
        }
    finally:
        await store.close()


async def _read_on(store: Store) -> None:
    while True:
        page = await store.reads.jobs(project=PROJECT, state=None, before=None, limit=PAGE)
        while page:
            page = await store.reads.jobs(project=PROJECT, state=None, before=page[-1].id, limit=PAGE)


async def _transitions(store: Store, stage: Stage, seconds: float) -> float:
    """Return how many tasks per second callers lease and complete, twice that many transitions."""
    started = time.perf_counter()
    done = await asyncio.gather(*(_work(store, stage, started + seconds) for _ in range(CALLERS)))
    return 2 * sum(done) / (time.perf_counter() - started)


async def _work(store: Store, stage: Stage, until: float) -> int:
    done = 0
    while time.perf_counter() < until:
        (task,) = await store.apply(Lease(stage.id, stage.need, SUBMITTER_ID, 1, Holder("w1"), now()))
        after = task.to(State.SUCCEEDED)
        await store.apply(Move(task, after, Kind.SUCCEEDED, now(), worker="w1", contributor="me", output=b"J1"))
        done += 1
    return done
