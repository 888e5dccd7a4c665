"""What `dcengine top` shows, drawn from answers of the engine. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..plain import clean
from ..verbs import EngineStatus, JobStatus, OutsiderPage, ProjectStatus, WorkerStatus
from .showing import ago, duration

Listed = Literal["running", "failed", "open"]
LISTS: tuple[Listed, ...] = ("running", "failed", "open")
KEYS = "↑↓ choose · tab other jobs · c cancel · r requeue · p pause or run the project · q leave"
BAR = 24  #: columns
WIDEST = 30  #: columns of a cell, where others may need the room
NARROW, LOW = 80, 24  #: columns and lines below which something is left out
MOST = 6  #: projects, and workers, where there is room
AROUND, AROUND_LOW = 15, 12  #: lines that are neither project nor worker nor job: titles, headings, space


class Answers(NamedTuple):
    """What the engine has said of itself."""

    status: EngineStatus
    projects: list[ProjectStatus]
    workers: list[WorkerStatus]
    outsiders: OutsiderPage  #: those that have most to do
    listed: Listed
    jobs: list[JobStatus]  #: those of the list


@dataclass
class Screen:
    """What somebody looks at: which list, which line of it, and what was said last."""

    answers: Answers
    listed: Listed = "running"
    chosen: int | None = None  #: the job, so that it stays chosen when others come and go
    said: str = ""
    question: str = ""  #: waits for y or n
    trouble: str = ""  #: why what is shown is old
    _jobs: list[JobStatus] | None = field(default_factory=list)  #: None: they are being asked for

    def __post_init__(self) -> None:
        self.take(self.answers)

    def take(self, answers: Answers) -> None:
        """Show newer *answers*; jobs of a list that was left meanwhile are of no interest."""
        self.answers, self.trouble = answers, ""
        if answers.listed != self.listed:
            return
        self._jobs = answers.jobs
        if self.job is None:
            self.chosen = answers.jobs[0].id if answers.jobs else None
            self.question = ""  # whoever says yes now, may mean another one

    @property
    def job(self) -> JobStatus | None:
        """The job that is chosen, as it was told last."""
        return next((job for job in self._jobs or () if job.id == self.chosen), None)

    def move(self, lines: int) -> None:
        """Choose the job so many *lines* below."""
        ids = [job.id for job in self._jobs or ()]
        if ids:
            place = ids.index(self.chosen) if self.chosen in ids else 0
            self.chosen = ids[max(0, min(len(ids) - 1, place + lines))]

    def turn(self) -> None:
        """Go on to the next list."""
        self.listed = LISTS[(LISTS.index(self.listed) + 1) % len(LISTS)]
        self.chosen = self._jobs = None

    # ---- drawn -----------------------------------------------------------------------------

    def drawn(self, columns: int, lines: int | None = None) -> RenderableType:
        """Return what is shown in so much room; without *lines* as much as there is."""
        answers, is_narrow, is_low = self.answers, columns < NARROW, lines is not None and lines < LOW
        few, room = MOST, len(self._jobs or ())
        if lines is not None:
            few = max(1, min(MOST, (lines - AROUND) // 4))
            workers = 1 if is_low else min(few + 1, len(answers.workers) + answers.outsiders.found)
            taken = (AROUND_LOW if is_low else AROUND) + min(few + 1, len(answers.projects)) + workers
            room = max(1, lines - taken)
        body = Group(
            _head(answers.status),
            Text(),
            _projects(answers.projects, few, is_narrow=is_narrow),
            Text(),
            _workers_line(answers) if is_low else _workers(answers, few, is_narrow=is_narrow),
            Text(),
            self._list(room, is_narrow=is_narrow),
        )
        return body if lines is None else Framed(body, self._foot(), lines)

    def _foot(self) -> Text:
        if self.trouble:
            return Text(clean(f"what is shown is old: {self.trouble}", 1000), style="bold red")
        if self.question:
            return Text(clean(self.question, 1000), style="bold yellow")
        return Text(clean(self.said or KEYS, 1000), style="" if self.said else "dim")

    def _list(self, room: int, *, is_narrow: bool) -> RenderableType:
        titles = [Text(f" {name} ", style="reverse" if name == self.listed else "dim") for name in LISTS]
        if not self._jobs:
            return Group(Text.assemble(*titles), Text("  ..." if self._jobs is None else "  none", style="dim"))
        names = ("", "job", "what", "stage", "worker", "since", "progress")
        left_out = ("worker", "stage") if is_narrow else ()
        table = _table(*(name for name in names if name not in left_out), widest="progress")
        for job in self._shown(self._jobs, room):
            is_chosen = job.id == self.chosen
            row = dict(zip(names, ("›" if is_chosen else " ", name_of(job), *_facts(job)), strict=True))
            cells = (Text(clean(cell)) for name, cell in row.items() if name not in left_out)
            table.add_row(*cells, style="bold" if is_chosen else "")
        return Group(Text.assemble(*titles), table)

    def _shown(self, jobs: list[JobStatus], room: int) -> list[JobStatus]:
        """Return the lines around the one that is chosen."""
        ids = [job.id for job in jobs]
        place = ids.index(self.chosen) if self.chosen in ids else 0
        begin = max(0, min(place - room // 2, len(jobs) - room))
        return jobs[begin : begin + room]


class Framed:
    """A body that is cut to the screen, above a foot that is always seen."""

    def __init__(self, body: RenderableType, foot: Text, lines: int) -> None:
        self._body, self._foot, self._lines = body, foot, lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        free = options.update(height=None)
        foot = console.render_lines(self._foot, free, pad=False)[: max(1, self._lines // 3)]
        body = console.render_lines(self._body, free, pad=False)[: max(0, self._lines - len(foot))]
        blank: list[list[Segment]] = [[]] * (self._lines - len(body) - len(foot))
        for number, line in enumerate([*body, *blank, *foot]):
            if number:
                yield Segment.line()
            yield from line


def name_of(job: JobStatus) -> str:
    """Return what people call *job*."""
    return str(job.id) if job.project == "functions" else f"{job.project}/{job.number}"


def _facts(job: JobStatus) -> tuple[str, str, str, str, str]:
    what = job.name.rpartition(".")[2] or job.stage
    return what, job.stage, job.worker or "", ago(job.finished or job.created), _progress_of(job)


def _progress_of(job: JobStatus) -> str:
    if job.reason or job.warning:
        return job.reason or job.warning or ""
    said = job.progress
    if said is None:
        return "" if job.task_state == "leased" else job.task_state
    share = f"{said.done / said.total:.0%} " if said.total else ""
    return share + said.text


def _table(*columns: str, widest: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True, header_style="dim")
    for name in columns:
        ratio = 1 if name == widest else None
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio, max_width=None if ratio else WIDEST)
    return table


def _head(status: EngineStatus) -> RenderableType:
    counts = ", ".join(f"{n:,} {'running' if state == 'leased' else state}" for state, n in status.counts.items() if n)
    line = f"dcengine {status.version}  {status.db}  up {duration(time.time() - status.started)}"
    return Group(_line(clean(line), "bold"), _line(counts or "no tasks yet"))


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _projects(projects: Iterable[ProjectStatus], few: int, *, is_narrow: bool) -> RenderableType:
    """Return a line for each of a *few* projects, those first in which something goes on."""
    order = sorted(projects, key=_how_still)
    if not order:
        return Text("no projects yet")
    left_out = {"failed", "rate"} if is_narrow else set()
    names = ("project", "", "jobs", "failed", "rate", "left")
    table = _table(*(name for name in names if name not in left_out), widest="project")
    for project in order[:few]:
        cells = dict(zip(names, _project(project, BAR // 2 if is_narrow else BAR), strict=True))
        table.add_row(*(cell for name, cell in cells.items() if name not in left_out))
    return _with_rest(table, len(order) - few)


def _how_still(project: ProjectStatus) -> tuple[bool, bool, bool]:
    is_running = any(stage.counts.get("leased") for stage in project.stages)
    return (not is_running and not project.rate, not project.open, project.is_paused)


def _project(project: ProjectStatus, bar: int) -> tuple[Text, ...]:
    return (
        Text(clean(project.name) + (" (paused)" if project.is_paused else "")),
        _bar(project, bar),
        Text(f"{project.done:,} of {project.total:,}"),
        Text(f"{project.failed:,}", style="red" if project.failed else ""),
        Text(f"{project.rate:.1f}/s" if project.rate else ""),
        Text(duration(project.eta) if project.eta is not None else ""),
    )


def _bar(project: ProjectStatus, columns: int) -> Text:
    total = max(1, project.total)
    parts = [("green", project.succeeded), ("red", project.failed), ("yellow", project.cancelled)]
    bar, left = Text(), columns
    for style, n in parts:
        # What there is of it is seen, however little it is.
        width = min(left, max(1, round(columns * n / total))) if n else 0
        bar.append("█" * width, style)
        left -= width
    return bar.append("░" * left, "dim")


def _workers(answers: Answers, few: int, *, is_narrow: bool) -> RenderableType:
    own = sorted(answers.workers, key=lambda worker: -worker.busy)
    rows = [
        (worker.name, f"{worker.busy} of {worker.slots}", worker.state, ", ".join(map(str, worker.running[:5])))
        for worker in own[:few]
    ] + [
        (worker.name, f"{len(worker.holding)} task(s)", f"{worker.project}.{worker.stage}", worker.progress)
        for worker in answers.outsiders.workers
    ]
    if not rows:
        return Text("no workers; `dcengine join` brings one", style="yellow")
    names = ("worker", "busy", "where", "does")
    table = _table(*(name for name in names if not (is_narrow and name == "where")), widest="does")
    for row in rows[:few]:
        table.add_row(*(Text(clean(cell)) for n, cell in enumerate(row) if not (is_narrow and n == 2)))
    return _with_rest(table, len(own) + answers.outsiders.found - few)


def _workers_line(answers: Answers) -> RenderableType:
    own, outside = answers.workers, answers.outsiders.found
    busy = sum(worker.busy for worker in own)
    return _line(f"{len(own):,} workers with {busy:,} busy slots, {outside:,} outside")


def _with_rest(table: Table, rest: int) -> Table:
    if rest > 0:
        table.add_row(Text(f"and {rest:,} more", style="dim"))
    return table
