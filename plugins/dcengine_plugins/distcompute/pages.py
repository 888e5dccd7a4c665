"""What people see in a browser: how far the project is, who works on it, who has done how much.

Whatever comes from outside is cleaned and escaped here; the pages need no scripts, and links work below any prefix.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from urllib.parse import quote

from aiohttp import web

from dcengine.jobs import Project, Stage
from dcengine.plain import clean
from dcengine.protocols import Visit
from dcengine.verbs import OutsideWorker, ProjectStatus

REFRESH_SECONDS = 30
WORKERS_SHOWN = 500  #: of one stage
CONTRIBUTORS_SHOWN = 1000
LENGTH = 80  #: characters of one text that are shown


async def index(visit: Visit) -> web.Response:
    """Show how far the project is, and the workers of each stage."""
    name = visit.project.name
    status, workers = await visit.verbs.project(name), await visit.verbs.outside_workers(name)
    share = status.done / status.total if status.total else 0.0
    parts = [
        f'<progress max="1" value="{share:.6f}"></progress>',
        f"<p>{share:.2%} complete: {status.done:,} of {status.total:,} jobs, {status.failed:,} of them failed. "
        f"ETA: {_eta(status, workers)}.{' The project is paused.' if status.is_paused else ''}</p>",
        '<p><a href="leaderboard">Leaderboard</a></p>',
    ]
    for stage in _lease_stages(visit.project):
        parts += _stage(stage, [worker for worker in workers if worker.stage == stage.name])
    return _page(name, "", parts)


async def to_index(visit: Visit) -> web.Response:
    """Lead from the project's name to its page: links on it begin there."""
    return web.Response(status=308, headers={"Location": f"{quote(visit.project.name, safe='')}/"})


async def leaderboard(visit: Visit) -> web.Response:
    """Show who has completed how many jobs, most first."""
    rows = await visit.verbs.leaderboard(visit.project.name, limit=CONTRIBUTORS_SHOWN)
    table = _table(("rank", "nickname", "jobs completed"), [(row.rank, row.nickname, row.tasks) for row in rows])
    return _page(visit.project.name, "Leaderboard", [table, '<p><a href="./">Progress</a></p>'])


async def worker(visit: Visit) -> web.Response:
    """Show one worker: the page whose address an old client prints."""
    of_stage, name = visit.parameters["stage"].lower(), visit.parameters["name"]
    stages = {stage.name: stage for stage in _lease_stages(visit.project)}
    for each in await visit.verbs.outside_workers(visit.project.name):
        stage = stages.get(each.stage)
        if each.name == name and stage is not None and of_stage in (_label(stage).lower(), stage.name.lower()):
            facts = [*_facts(each, stage)]
            return _page(visit.project.name, each.name, [_table((), facts), '<p><a href="../../">Progress</a></p>'])
    problem = f"there is no worker {name[:LENGTH]!a} at a stage {of_stage[:LENGTH]!a}: it has left, perhaps\n"
    return web.Response(text=problem, status=404)


async def style(visit: Visit) -> web.Response:
    """Give the pages their looks; styles of their own are forbidden to them."""
    return web.Response(text=resources.files(__package__).joinpath("style.css").read_text(), content_type="text/css")


def _stage(stage: Stage, workers: Sequence[OutsideWorker]) -> list[str]:
    columns = ("worker", "job", "progress", "jobs completed", "nickname", "last seen")
    address = quote(_label(stage).lower(), safe="")
    rows = [
        (
            Link(f"worker/{address}/{quote(each.name, safe='')}", each.name), _holding(each), each.progress,
            each.completed, each.nickname, f"{_span(time.time() - each.last_seen)} ago",
        )
        for each in sorted(workers, key=lambda each: -each.completed)[:WORKERS_SHOWN]
    ]  # fmt: skip
    heading = f"<h2>{_text(_label(stage))}: {len(workers):,} worker{'' if len(workers) == 1 else 's'}</h2>"
    return [heading, _table(columns, rows) if rows else "<p>None is connected.</p>"]


def _facts(each: OutsideWorker, stage: Stage) -> Iterable[tuple[object, object]]:
    yield "stage", _label(stage)
    yield "nickname", each.nickname
    yield "first seen", _moment(each.first_seen)
    yield "last seen", _moment(each.last_seen)
    yield "job", _holding(each)
    yield "progress", each.progress
    yield "jobs completed", each.completed
    yield "jobs per hour", f"{_rate(each) * 3600:.1f}"


def _holding(each: OutsideWorker) -> str:
    return ", ".join(f"#{number}" for number in each.holding[:5]) or "none"


def _rate(each: OutsideWorker) -> float:
    """Return how many jobs a worker completes in a second."""
    return each.completed / max(1.0, time.time() - each.first_seen)


def _eta(status: ProjectStatus, workers: Sequence[OutsideWorker]) -> str:
    """Return when the workers that are connected now will be done, if they go on as they have: the slowest stage."""
    longest = 0.0
    for stage in status.stages:
        left = status.open_until(stage.name)
        rate = sum(_rate(worker) for worker in workers if worker.stage == stage.name)
        if stage.kind != "lease" or not left:
            continue
        if not rate:
            return "unknown"
        longest = max(longest, left / rate)
    return "none: there is nothing to do" if not status.open else _span(longest)


# ---- HTML ----------------------------------------------------------------------------------


class Link(str):
    """A text that leads somewhere."""

    target: str

    def __new__(cls, target: str, text: str) -> Link:
        link = super().__new__(cls, text)
        link.target = target
        return link


def _page(project: str, title: str, parts: Sequence[str]) -> web.Response:
    heading = f"{_text(project)}{': ' if title else ''}{_text(title)}"
    # On a worker's page the style lies two folders up, and so on: the address says how many.
    root = "../../" if title and title != "Leaderboard" else ""
    text = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">',
            f'<link rel="stylesheet" href="{root}style.css">',
            f"<title>{heading}</title>",
            f"<h1>{heading}</h1>",
            *parts,
            "</html>\n",
        ]
    )
    return web.Response(text=text, content_type="text/html")


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = f"<tr>{''.join(f'<th>{_text(column)}</th>' for column in columns)}</tr>" if columns else ""
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table>\n{head}\n{body}\n</table>"


def _cell(value: object) -> str:
    if isinstance(value, Link):
        return f'<td><a href="{escape(value.target)}">{_text(value)}</a></td>'
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{_text(str(value))}</td>"


def _text(text: str) -> str:
    return escape(clean(text, LENGTH))


def _label(stage: Stage) -> str:
    return stage.title or stage.name


def _lease_stages(project: Project) -> list[Stage]:
    return [stage for stage in project.stages if stage.kind == "lease"]


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _span(seconds: float) -> str:
    """Return how long that is, roughly."""
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}s"
    return f"{max(0.0, seconds):.0f} seconds"
