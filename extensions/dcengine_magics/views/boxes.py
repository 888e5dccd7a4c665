"""The boxes of a job browser: which jobs are meant, which page of them, which job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets

from dcengine.jobs import JobState
from dcengine.verbs import JobFilter

from . import browser_forms
from .browser import Browser
from .widgets import button, close, hear_anywhere, line_of

TYPED = (
    ("text", "Text"),
    ("project", "Project"),
    ("stage", "Stage"),
    ("submitter", "Brought by"),
    ("worker", "Worker"),
)
STATES = [("any", ""), *((state.text, state.text) for state in JobState)]


class Boxes:
    """What somebody sets in a front end, handed on to *browser*; `on_change` is told then."""

    def __init__(self, browser: Browser, on_change: Callable[[], None]) -> None:
        self._browser, self._on_change = browser, on_change
        self._writing: int | None = None  #: the thread that brings them up to date, which nobody has asked for
        self._typed = {name: _typed(label, getattr(browser.wanted, name)) for name, label in TYPED}
        self._state = ipywidgets.Dropdown(
            options=STATES, value=browser.wanted.state, description="State", layout=_layout("14em"), style=_NARROW
        )
        self._find, self._newer, self._older = button("Find"), button("Newer"), button("Older")
        self._job = ipywidgets.Dropdown(description="Job", layout=_layout("30em"), style=_NARROW)
        self.bring_up_to_date()
        for box in (*self._typed.values(), self._state):
            box.observe(self._search, "value")
        self._find.on_click(self._search)
        self._newer.on_click(lambda _: self._turn(browser.newer))
        self._older.on_click(lambda _: self._turn(browser.older))
        self._job.observe(self._choose, "value")
        self._parts = [*self._typed.values(), self._state, self._find, self._newer, self._older, self._job]
        filters = [*self._typed.values(), self._state, self._find]
        self.widgets = [line_of(filters), line_of([self._newer, self._older, self._job])]

    def bring_up_to_date(self) -> None:
        """Offer the jobs of the page that is shown, and the pages around it."""
        browser = self._browser
        self._newer.disabled, self._older.disabled = not browser.has_newer, not browser.has_older
        options = [("", None), *((browser_forms.choice_text(job), job.id) for job in browser.found)]
        if browser.chosen not in [id for _, id in options]:
            options.append((f"{browser.chosen}", browser.chosen))
        self._writing = threading.get_ident()
        try:
            if self._job.options != tuple(options):
                self._job.options = options
            self._job.value = browser.chosen
        finally:
            self._writing = None

    def hear_anywhere(self) -> None:
        """See `widgets.hear_anywhere`."""
        hear_anywhere(*self._parts)

    def close(self) -> None:
        """Let go of all widgets."""
        close(*self._parts, *self.widgets)

    def _search(self, change: Any) -> None:
        if self._writing != threading.get_ident():
            typed = {name: box.value.strip() for name, box in self._typed.items()}
            self._turn(lambda: self._browser.search(JobFilter(state=self._state.value or "", **typed)))

    def _choose(self, change: Any) -> None:
        if self._writing != threading.get_ident():
            self._turn(lambda: self._browser.choose(self._job.value))

    def _turn(self, how: Callable[[], None]) -> None:
        how()
        self._on_change()


_NARROW = {"description_width": "6em"}


def _layout(width: str) -> Any:
    return ipywidgets.Layout(width=width, margin="0 4px 4px 0")


def _typed(label: str, value: str) -> Any:
    # Told when somebody presses Enter or goes on to the next, not with each letter.
    return ipywidgets.Text(
        value=value, description=label, continuous_update=False, layout=_layout("16em"), style=_NARROW
    )
