"""How handles, projects and lists show themselves in IPython.

Registered by name: nothing of ours is imported before the first of them is shown.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .desk import Desk
    from .panel import Ending, Panel
    from .refreshing import Refresher, View
    from .sights import Sight, Subject

KINDS = (
    ("dcengine.batches", "BatchHandle"),
    ("dcengine.handles", "JobHandle"),
    ("dcengine.projects", "Project"),
    ("dcengine.workloads", "Run"),
    ("dcengine.lists", "Leaderboard"),
    ("dcengine.lists", "WorkerList"),
    ("dcengine.lists", "Explained"),
    ("dcengine.lists", "JobList"),
    ("dcengine.lists", "Sentence"),
    ("dcengine_magics.views.past", "JobPast"),
)


def register(ip: Any) -> None:
    """Have *ip* show what the engine gives back: live where there is a kernel, else as it stands."""
    views = Views(ip)
    for module, name in KINDS:
        ip.display_formatter.mimebundle_formatter.for_type_by_name(module, name, views.bundle)
        if getattr(ip, "kernel", None) is not None:
            ip.display_formatter.ipython_display_formatter.for_type_by_name(module, name, views.show)


KEPT = 20  #: outputs whose widgets are kept after the end


class Shown(NamedTuple):
    """A view that is not known to be over."""

    turn: int  #: how many cells had ended before the one that showed it
    cell: str  #: the id of that one
    view: View


class Views:
    """The views of one shell, which is the only one of its process."""

    def __init__(self, ip: Any) -> None:
        self._ip = ip
        self._turn = 0  #: counts the cells that have ended
        self._shown: list[Shown] = []
        self._desks: deque[Shown] = deque(maxlen=KEPT)  #: those that may go on once they are over
        self._refresher: Refresher | None = None  #: made for the first view
        self._ended: deque[Ending] = deque()  #: those whose widgets are kept, for pages that are loaded again

    def bundle(self, thing: Any) -> dict[str, Any]:
        """Return *thing* as it stands, as HTML and as text."""
        _, sight, note = first_look(thing)
        return sight.bundle(note)

    def show(self, thing: Any) -> None:
        """Publish *thing*; one that is not over stays up to date, and one that can be acted on has its buttons."""
        subject, sight, note = first_look(thing)
        if not note and has_widgets() and (self._is_for_a_desk(subject, sight) or not sight.is_over):
            self._keep_up(subject, sight)
        else:
            self._ip.display_pub.publish(sight.bundle(note), {})

    def _is_for_a_desk(self, subject: Subject, sight: Sight) -> bool:
        from .browser import Browser

        return bool(sight.acts or isinstance(subject, Browser)) and is_attended(self._ip)

    def _keep_up(self, subject: Subject, sight: Sight) -> None:
        from .desk import Desk
        from .refreshing import Refresher, View

        if self._refresher is None:
            self._refresher = Refresher()
            self._ip.events.register("pre_run_cell", self.leave)
            self._ip.events.register("post_run_cell", self.settle)
        screen = self._screen(subject, sight)
        view = View(subject, screen, sight)
        screen.on_act = partial(self._refresher.wake, view)
        screen.open()
        shown = Shown(self._turn, cell_of(self._ip), view)
        if isinstance(screen, Desk):
            self._desks.append(shown)
        if sight.is_over:
            view.is_live = False  # until somebody does something
        else:
            self._refresher.watch(view)
            self._shown.append(shown)

    def _screen(self, subject: Subject, sight: Sight) -> Panel | Desk:
        from .browser import Browser
        from .desk import Desk
        from .panel import Panel

        if not self._is_for_a_desk(subject, sight):
            return Panel(self._ip.display_pub, sight, subject.cancel, self._ended)
        desk = Desk(self._ip.display_pub, subject.link, sight, self._ended)  # type: ignore[attr-defined]
        if isinstance(subject, Browser):
            desk.add_boxes(subject)
        return desk

    def leave(self, info: object = None) -> None:
        """End the views of the cell that begins: its outputs go, and nobody sees them."""
        cell = cell_of(self._ip)
        for shown in {*self._shown, *self._desks}:
            if cell and shown.cell == cell:
                shown.view.leave()
                self._shown = [each for each in self._shown if each is not shown]
                if shown in self._desks:
                    self._desks.remove(shown)

    def settle(self, result: object = None) -> None:
        """Bring views to their end where the end has come while a cell ran.

        Then what is saved or exported after the last cell is what there was at its end.
        """
        remaining = []
        for shown in self._shown:
            if shown.view.is_live and not shown.view.is_lost:
                shown.view.refresh(patience=0.5)
            if shown.view.is_live:
                remaining.append(shown)
            elif shown.turn != self._turn:
                shown.view.repeat()
        self._shown = remaining
        self._turn += 1


def first_look(thing: Any) -> tuple[Subject, Sight, str]:
    """Return *thing* as something to look at, how it stands, and what there is to remark about that.

    Without an engine to ask it is over as soon as it is shown: that much is known by heart.
    """
    from dcengine.errors import DcengineError

    from .markup import plain_html
    from .sights import LOST, PATIENCE, Sight
    from .subjects import subject_of

    subject = subject_of(thing)
    try:
        return subject, subject.look(PATIENCE), ""
    except LOST:
        note = "the engine is not reachable"
    except DcengineError as error:
        note = str(error)
    if isinstance(thing, list):  # it holds what it has to say; a copy does not ask
        return subject, subject_of(copy(thing)).look(0.0), ""
    text = repr(thing)
    return subject, Sight(plain_html(text), text, is_over=True), note


def has_widgets() -> bool:
    """Tell whether ipywidgets is installed."""
    return find_spec("ipywidgets") is not None


def is_attended(ip: Any) -> bool:
    """Tell whether somebody may press a button: who runs a notebook as a program says that nobody can be asked."""
    return bool(_request(ip).get("content", {}).get("allow_stdin"))


def cell_of(ip: Any) -> str:
    """Return the id of the cell that runs, as front ends tell it; empty from one that does not."""
    return str(_request(ip).get("metadata", {}).get("cellId", ""))


def _request(ip: Any) -> dict[str, Any]:
    kernel = getattr(ip, "kernel", None)
    return {} if kernel is None else kernel.get_parent() or {}
