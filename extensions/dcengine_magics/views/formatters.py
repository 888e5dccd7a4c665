"""How handles, projects and lists show themselves in IPython.

Registered by name: nothing of ours is imported before the first of them is shown.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .panel import Panel
    from .refreshing import Refresher, View
    from .subjects import Sight, Subject

KINDS = (
    ("dcengine.batches", "BatchHandle"),
    ("dcengine.handles", "JobHandle"),
    ("dcengine.projects", "Project"),
    ("dcengine.lists", "Leaderboard"),
    ("dcengine.lists", "WorkerList"),
    ("dcengine.lists", "Explained"),
    ("dcengine.lists", "JobList"),
    ("dcengine.lists", "Sentence"),
)


def register(ip: Any) -> None:
    """Have *ip* show what the engine gives back: live where there is a kernel, else as it stands."""
    views = Views(ip)
    for module, name in KINDS:
        ip.display_formatter.mimebundle_formatter.for_type_by_name(module, name, views.bundle)
        if getattr(ip, "kernel", None) is not None:
            ip.display_formatter.ipython_display_formatter.for_type_by_name(module, name, views.show)


class Views:
    """The views of one shell, which is the only one of its process."""

    def __init__(self, ip: Any) -> None:
        self._ip = ip
        self._cell = 0  #: counts the cells that have ended
        self._shown: list[tuple[int, View]] = []  #: views not known to be over, with the cell that showed them
        self._refresher: Refresher | None = None  #: made for the first view
        self._ended: deque[Panel] = deque()  #: those whose widgets are kept, for pages that are loaded again

    def bundle(self, thing: Any) -> dict[str, Any]:
        """Return *thing* as it stands, as HTML and as text."""
        _, sight, note = first_look(thing)
        return sight.bundle(note)

    def show(self, thing: Any) -> None:
        """Publish *thing*; one that is not over stays up to date."""
        subject, sight, note = first_look(thing)
        if sight.is_over or not has_widgets():
            self._ip.display_pub.publish(sight.bundle(note), {})
        else:
            self._keep_up(subject, sight)

    def _keep_up(self, subject: Subject, sight: Sight) -> None:
        from .panel import Panel
        from .refreshing import Refresher, View

        if self._refresher is None:
            self._refresher = Refresher()
            self._ip.events.register("post_run_cell", self.settle)
        panel = Panel(self._ip.display_pub, sight, subject.cancel, self._ended)
        view = View(subject, panel, sight)
        panel.on_cancel = partial(self._refresher.hurry, view)
        panel.open()
        self._refresher.watch(view)
        self._shown.append((self._cell, view))

    def settle(self, result: object = None) -> None:
        """Bring views to their end where the end has come while a cell ran.

        Then what is saved or exported after the last cell is what there was at its end.
        """
        remaining = []
        for cell, view in self._shown:
            if view.is_live and not view.is_lost:
                view.refresh(patience=0.5)
            if view.is_live:
                remaining.append((cell, view))
            elif cell != self._cell:
                view.repeat()
        self._shown = remaining
        self._cell += 1


def first_look(thing: Any) -> tuple[Subject, Sight, str]:
    """Return *thing* as something to look at, how it stands, and what there is to remark about that.

    Without an engine to ask it is over as soon as it is shown: that much is known by heart.
    """
    from dcengine.errors import DcengineError

    from .rendering import plain_html
    from .subjects import LOST, PATIENCE, Sight, subject_of

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
