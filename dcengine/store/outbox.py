"""What webhooks are to be told, written in the transaction in which it happens, so that no crash loses it."""

from __future__ import annotations

import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import msgspec

from ..events import Kind
from ..jobs import JobState, State
from .rows import execute_rows

INSERT_DELIVERIES = """
INSERT INTO delivery (webhook, name, event, body, created, due)
VALUES (?, ?, ?, ?, ?, ?)
"""
SELECT_HOOKS = "SELECT id, project, events FROM webhook WHERE off IS NULL"
SELECT_JOB = """
SELECT project.name, job.number, job.state, stage.name
FROM job
JOIN project ON project.id = job.project
LEFT JOIN stage ON stage.id = ?
WHERE job.id = ?
"""
SELECT_FIGURES = "SELECT state, n FROM job_counter WHERE project = ?"
SELECT_STAGES = """
SELECT stage.id, stage.name, counter.state, counter.n
FROM stage
JOIN counter ON counter.stage = stage.id
WHERE stage.project = ? AND stage.position >= 0
ORDER BY stage.position
"""
UNFINISHED = (State.QUEUED, State.WAITING, State.BLOCKED, State.LEASED)
DETAIL_LIMIT = 1000  #: characters of a reason
#: What of a job is told: at which event, if the job is then in which state.
OF_JOBS = {
    int(Kind.SUCCEEDED): ("job_succeeded", JobState.SUCCEEDED),
    int(Kind.RETRIED): ("job_retried", JobState.OPEN),
    int(Kind.FAILED): ("job_failed", JobState.FAILED),
    int(Kind.CANCELLED): ("job_cancelled", JobState.CANCELLED),
}


class Hook(NamedTuple):
    """A webhook that is told something."""

    id: int
    events: frozenset[str]


Hooks = Mapping[int, list[Hook]]  #: by project
Moves = Counter[tuple[int, "int | None", int]]  #: how many went from state to state: (of what, before, after)


class Message(msgspec.Struct, frozen=True):
    """The body of what a webhook is sent."""

    type: str  #: one of `verbs.webhooks.WebhookEvent`, or `test`
    timestamp: str  #: when it happened, in UTC, as ISO 8601 has it
    data: dict[str, Any]


class Happened(NamedTuple):
    """An event of a job, as it is told."""

    kind: int
    job: int
    stage: int
    attempt: int | None
    worker: str | None
    detail: str | None


def active_hooks(connection: sqlite3.Connection) -> dict[int, list[Hook]]:
    """Return who is told something, by project."""
    found: dict[int, list[Hook]] = {}
    for id, project, events in connection.execute(SELECT_HOOKS):
        found.setdefault(project, []).append(Hook(id, frozenset(events.split())))
    return found


def post(connection: sqlite3.Connection, hooks: Iterable[Hook], event: str, data: dict[str, Any], at: int) -> int:
    """Write down that those of *hooks* who want it are to be told of *event*; return how many those are."""
    meant = [hook.id for hook in hooks if event in hook.events]
    if meant:
        body = body_of(event, data, at)
        rows = [(hook, f"msg_{secrets.token_hex(16)}", event, body, at, at) for hook in meant]
        execute_rows(connection, INSERT_DELIVERIES, rows)
    return len(meant)


def body_of(event: str, data: dict[str, Any], at: int) -> bytes:
    """Return the message that *event* happened."""
    moment = datetime.fromtimestamp(at / 1e6, timezone.utc).isoformat(timespec="milliseconds")
    return msgspec.json.encode(Message(event, moment.replace("+00:00", "Z"), data))


def forget_deliveries(connection: sqlite3.Connection, project: int) -> None:
    """Remove what the webhooks of *project* were told, or are to be told."""
    connection.execute("DELETE FROM delivery WHERE webhook IN (SELECT id FROM webhook WHERE project = ?)", (project,))


# ---- what a group of operations has changed ------------------------------------------------


def post_jobs(connection: sqlite3.Connection, hooks: list[Hook], events: Iterable[Happened], at: int) -> None:
    """Tell of jobs what was noted of them, those that have ended only once they have."""
    for event in events:
        name, needed = OF_JOBS[event.kind]
        if not any(name in hook.events for hook in hooks):
            continue
        project, number, state, stage = connection.execute(SELECT_JOB, (event.stage, event.job)).fetchone()
        if state == needed:
            data = {"project": project, "job": event.job, "number": number, "stage": stage}
            more = {"attempt": event.attempt, "worker": event.worker, "reason": (event.detail or "")[:DETAIL_LIMIT]}
            post(connection, hooks, name, data | {key: value for key, value in more.items() if value}, at)


def post_project(connection: sqlite3.Connection, hooks: list[Hook], project: int, moves: Moves, at: int) -> None:
    """Tell that no job of *project* is open any more, if *moves* have brought that about."""
    if not any("project_done" in hook.events for hook in hooks):
        return
    figures = dict(connection.execute(SELECT_FIGURES, (project,)))
    left = figures.get(JobState.OPEN, 0)
    if left == 0 and _gained(moves, project, (JobState.OPEN,)) < 0:
        (name,) = connection.execute("SELECT name FROM project WHERE id = ?", (project,)).fetchone()
        ended = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
        data = {"project": name, "jobs": sum(figures.values())}
        post(connection, hooks, "project_done", data | {state.text: figures.get(state, 0) for state in ended}, at)


def post_stages(connection: sqlite3.Connection, hooks: list[Hook], project: int, moves: Moves, at: int) -> None:
    """Tell which stages of *project* have nothing left to do, if *moves* have brought that about."""
    if not any("stage_done" in hook.events for hook in hooks):
        return
    (name,) = connection.execute("SELECT name FROM project WHERE id = ?", (project,)).fetchone()
    left = before = 0
    for id, stage, counts in _stages(connection, project):
        here = sum(counts.get(state, 0) for state in UNFINISHED)
        left, before = left + here, before + here - _gained(moves, id, UNFINISHED)
        if left:
            return  # nor are those after it
        if before and any(counts.values()):
            ended = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
            data = {"project": name, "stage": stage} | {state.name.lower(): counts.get(state, 0) for state in ended}
            post(connection, hooks, "stage_done", data, at)


def _stages(connection: sqlite3.Connection, project: int) -> Iterator[tuple[int, str, dict[int, int]]]:
    """Yield the stages of *project* in order, each with how many of its tasks are in which state."""
    found: dict[int, tuple[str, dict[int, int]]] = {}
    for id, name, state, n in connection.execute(SELECT_STAGES, (project,)):
        found.setdefault(id, (name, {}))[1][state] = n
    return ((id, name, counts) for id, (name, counts) in found.items())


def _gained(moves: Moves, of: int, states: Iterable[int]) -> int:
    """Return how many more are in one of *states* than before *moves*."""
    wanted = frozenset(map(int, states))
    return sum(n * ((after in wanted) - (before in wanted)) for (each, before, after), n in moves.items() if each == of)
