"""What became of tasks whose workers were lost: credit for each, and how long silent workers were waited for."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dcengine.codec import JSON
from dcengine.events import Kind
from dcengine.jobs import State
from tests.faults.crowd import Told
from tests.faults.report import Record


@dataclass
class Loss:
    """From when until when a worker could not be heard."""

    worker: str
    what: str  #: that happened to it
    at: float
    until: float = float("inf")


@dataclass(frozen=True)
class Absence:
    """From when until when the server could not hear anybody."""

    at: float
    until: float
    is_end: bool  #: it had ended, and what it was about to answer is lost


def take_stock(record: Record, db: Path, told: list[Told]) -> int:
    """Compare what workers were told with the file, and credits with tasks; return how often somebody was refused."""
    connection = sqlite3.connect(db)
    rows = connection.execute(
        "SELECT stage.name, job.number, task.attempt, CAST(substr(payload.output, ?) AS TEXT), contributor.nickname,"
        " (SELECT count(*) FROM credit WHERE credit.task = task.id AND void = 0),"
        " (SELECT count(*) FROM event WHERE event.task = task.id AND kind = ?)"
        " FROM task JOIN job ON job.id = task.job JOIN stage ON stage.id = task.stage"
        " JOIN payload ON payload.task = task.id JOIN contributor ON contributor.id = task.contributor"
        " WHERE task.state = ?",
        (len(JSON) + 1, int(Kind.SUCCEEDED), int(State.SUCCEEDED)),
    ).fetchall()
    standing = dict(
        connection.execute(
            "SELECT nickname, sum(units) FROM standing JOIN contributor ON contributor.id = contributor GROUP BY 1"
        ).fetchall()
    )
    connection.close()
    stored = {(stage, number): (attempt, output.strip('"'), who) for stage, number, attempt, output, who, *_ in rows}
    accepted = [each for each in told if each.what == "accepted"]
    refused = [each for each in told if each.what == "refused"]
    record.acknowledged = len(accepted)
    record.lost = sum(
        stored.get((each.stage, each.number)) != (each.attempt, each.output, each.nickname) for each in accepted
    )
    record.double = sum(credits != 1 or ends != 1 for *_, credits, ends in rows)
    record.double += sum(stored[each.stage, each.number][0] == each.attempt for each in refused)
    print(f"{len(rows):,} tasks done, of {sum(each.what == 'began' for each in told):,} begun, {len(refused)} refused")
    assert standing == Counter(who for _, _, who in stored.values())
    return len(refused)


@dataclass
class Reclaims:
    """How long what silent workers held was kept for them, and how much was taken from others without cause."""

    waits: list[float]  #: seconds, the shortest first
    unexplained: int
    leases: int

    def within(self, share: float) -> float:
        """Return the seconds within which this *share* of them was free again."""
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]


def reclaims(db: Path, lease: float, losses: list[Loss], away: list[Absence]) -> Reclaims:
    """Return what the events of *db* tell of the leases of lost workers.

    A wait counts from the moment when the worker could no longer be heard, or the engine could hear again.
    """
    connection = sqlite3.connect(db)
    events = connection.execute(
        "SELECT at / 1e6, kind, task, attempt, worker, detail FROM event WHERE task IS NOT NULL ORDER BY seq"
    ).fetchall()
    connection.close()
    leases: dict[tuple[int, int], tuple[float, str]] = {}
    found = Reclaims([], 0, 0)
    for at, kind, task, attempt, worker, detail in events:
        if kind == Kind.LEASED:
            leases[task, attempt] = at, worker
            found.leases += 1
        elif (task, attempt) in leases:
            since, holder = leases.pop((task, attempt))
            absences = [absence for absence in away if absence.at <= at and since <= absence.until]
            here = [loss for loss in losses if loss.worker == holder and loss.at <= at and since <= loss.until]
            heard = max([since, *(absence.until for absence in absences)])
            kept = max([0.0, *(min(at, until) - max(begin, heard) for begin, until in together(here))])
            if here and (kind == Kind.RELEASED or kept > lease):  # else it said itself what became of it, in time
                found.waits.append(kept)
                if kept > lease + 1:
                    print(f"{holder} kept task {task} for {kept:.2f} s ({Kind(kind).name}, {detail}): {here}")
            elif not here and kind == Kind.RELEASED and not any(absence.is_end for absence in absences):
                found.unexplained += "vanished" in (detail or "")
    assert found.waits, "nobody was lost"
    found.waits.sort()
    return found


def together(losses: Iterable[Loss]) -> list[tuple[float, float]]:
    """Return from when until when one worker was silent, for several reasons at once perhaps."""
    spans: list[tuple[float, float]] = []
    for loss in sorted(losses, key=lambda loss: loss.at):
        if spans and loss.at <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], loss.until)
        else:
            spans.append((loss.at, loss.until))
    return spans
