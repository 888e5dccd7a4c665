"""Buttons for what can be done about something; what cannot be undone is asked once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from html import escape
from typing import Any

import ipywidgets

from dcengine.errors import DcengineError
from dcengine.handles import Link
from dcengine.plain import clean

from .sights import LOST, Act
from .widgets import button, close, hear_anywhere, html_of, line_of

logger = logging.getLogger(__name__)

DANGER = frozenset({"cancel", "cancel_project"})  #: verbs whose button says no by its colour too


class Acting:
    """A row of buttons, the question that one of them asks, and a line that says what came of it."""

    def __init__(self, link: Link, context: Context, hurry: Callable[[], None]) -> None:
        self._link, self._context, self._hurry = link, context, hurry
        self._acts: tuple[Act, ...] | None = ()  #: offered now; None: to be offered anew
        self._asked: Act | None = None  #: whose question is open
        self._lock = threading.RLock()  # the views' thread offers, and the kernel hears the front end
        self._row = line_of([])
        self._said = html_of("")
        self.widgets = [self._row, self._said]

    def offer(self, acts: Sequence[Act]) -> None:
        """Show a button for each of *acts*; a question that is open stays so while its act can be done."""
        with self._lock:
            if tuple(acts) != self._acts:
                self._acts = tuple(acts)
                same = (act for act in acts if self._asked is not None and act[:3] == self._asked[:3])
                self._asked = next(same, None)
                self._arrange()

    def say(self, text: str) -> None:
        """Say what came of it."""
        self._said.value = f'<div role="status">{escape(clean(text, 400))}</div>' if text else ""

    def close(self) -> None:
        """Let go of all widgets."""
        close(*self._row.children, *self.widgets)

    def _arrange(self) -> None:
        gone = self._row.children
        if self._asked is None:
            children = [self._button(act) for act in self._acts or ()]
        else:
            children = self._question(self._asked)
        self._row.children = children
        hear_anywhere(*children)
        close(*gone)

    def _button(self, act: Act) -> Any:
        made = button(act.label, tooltip=act.question)
        made.on_click(lambda _: self._press(act))
        return made

    def _question(self, act: Act) -> list[Any]:
        text = ipywidgets.Label(clean(act.question, 200))
        yes = button(f"Yes, {act.label.lower()}", style="danger" if act.verb in DANGER else "")
        no = button("No")
        yes.on_click(lambda _: self._answer(act))
        no.on_click(lambda _: self._answer(None))
        return [text, yes, no]

    def _press(self, act: Act) -> None:
        with self._lock:
            if act.question:
                self._asked = act
                self._arrange()
            else:
                self._begin(act)

    def _answer(self, act: Act | None) -> None:
        with self._lock:
            self._asked = None
            self._arrange()
            if act is not None:
                self._begin(act)

    def _begin(self, act: Act) -> None:
        for each in self._row.children:
            each.disabled = True  # until the next look offers what can be done then
        self._acts = None
        # An engine that does not answer must not hold up the kernel.
        threading.Thread(
            target=self._context.copy().run, args=(self._do, act), name="dcengine-act", daemon=True
        ).start()

    def _do(self, act: Act) -> None:
        try:
            answer = self._link.call(act.verb, *map(_plain, act.args), **dict(act.options))
            said = act.said.format(f"{answer:,}" if isinstance(answer, int) else "")
        except (DcengineError, *LOST) as error:
            said = f"{act.label}: {error}"
        except Exception as error:  # a notebook callback: there is nobody to raise it to
            logger.exception("%s failed", act.label)
            said = f"{act.label} failed: {type(error).__name__}"
        self.say(said)
        self._hurry()


def _plain(argument: Any) -> Any:
    """Return *argument* as a verb takes it: ids come as a tuple, so that acts can be compared."""
    return list(argument) if isinstance(argument, tuple) else argument
