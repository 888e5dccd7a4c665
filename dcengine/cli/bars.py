"""A progress bar on stderr, for those who sit there."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..plain import clean


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

    def show(self, done: int, items: int) -> None:
        """Show *done* of the total, and *items* with how many a second there were since the first call."""
        if self._before is None:
            self._before, self._began = items, time.monotonic()
        rate = (items - self._before) / max(0.001, time.monotonic() - self._began)
        self._progress.update(self._task, completed=done, told=f"{items:,} items, {rate:,.0f}/s")
