"""Progress bars on stderr, for those who sit there."""

from __future__ import annotations

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..plain import clean
from ..verbs import ProjectStatus, StageStatus
from .showing import duration


class Bar:
    """How far something has come, for as long as it goes on; nothing at all where stderr is no terminal."""

    def __init__(self, title: str, total: int | None) -> None:
        columns = [TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[told]}")]
        self._progress = Progress(
            *columns,
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._progress.add_task(Text(clean(title, 40)).plain, total=total, told="")
        self._began = time.monotonic()
        self._before: int | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, done: int, items: int, total: int | None = None) -> None:
        """Show *done* of the total, and *items* with how many a second there were since the first call."""
        if total is not None:
            self._progress.update(self._task, total=total)
        if self._before is None:
            self._before, self._began = items, time.monotonic()
        rate = (items - self._before) / max(0.001, time.monotonic() - self._began)
        self._progress.update(self._task, completed=done, told=f"{items:,} items, {rate:,.0f}/s")


class StageBars:
    """How far a project has come, a bar for each stage; nothing at all where stderr is no terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._live = Live(console=Console(file=sys.stderr), transient=True, auto_refresh=False)
        self._is_seen = sys.stderr.isatty()

    def __enter__(self) -> StageBars:
        if self._is_seen:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, status: ProjectStatus) -> None:
        """Show how *status* stands."""
        if not self._is_seen:
            return
        table = Table.grid(padding=(0, 1))
        for stage in status.stages:
            done, total = stage.counts.get("succeeded", 0), sum(stage.counts.values())
            table.add_row(
                Text(clean(stage.title or stage.name, 40)),
                ProgressBar(total=total or 1, completed=done, width=40),
                Text(f"{done:,} of {total:,}"),
                Text(_told(stage), style="dim"),
            )
        rest = "" if status.eta is None else f", about {duration(status.eta)} left"
        self._live.update(Group(Text(f"{clean(self._name, 80)}{rest}"), table), refresh=True)


def _told(stage: StageStatus) -> str:
    """Return what a bar does not show."""
    words = {"leased": "running", "failed": "failed", "cancelled": "cancelled"}
    return ", ".join(f"{stage.counts[state]:,} {word}" for state, word in words.items() if stage.counts.get(state))
