"""A live output with buttons: they stay when there is nothing to follow any more, below what is plain HTML then."""

from __future__ import annotations

import contextvars
import threading
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import ipywidgets

from dcengine.handles import Link

from .acting import Acting
from .boxes import Boxes
from .browser import Browser
from .formatters import KEPT
from .panel import Ending
from .sights import Sight
from .widgets import button, close, hear_anywhere, html_of

BLANK = {"text/html": "", "text/plain": ""}


class Output:
    """One output of a cell, which can be replaced."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._id = f"dcengine-{uuid.uuid4().hex}"
        self.is_blank = True

    def show(self, data: dict[str, Any], *, is_new: bool = False) -> None:
        """Have *data* stand there, which it does already unless *is_new*."""
        self.is_blank = data is BLANK
        more: dict[str, Any] = {} if is_new else {"update": True}
        self._publisher.publish(data, {}, transient={"display_id": self._id}, **more)


class Desk:
    """Two outputs; implements `refreshing.Screen`.

    While there is something to follow, widgets stand in the first one, and nothing in the second. At rest the first
    one is plain HTML, so that a saved notebook keeps it, and what can be pressed stands in the second. A page that
    was loaded again meanwhile knows widgets alone, and neither output by its id: so a box that was shown goes on
    showing all there is, and each rest has a new one.
    """

    def __init__(self, publisher: Any, link: Link, sight: Sight, ended: deque[Ending]) -> None:
        self.on_act: Callable[[], None] = lambda: None  #: told once the engine knows
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()  # the refresher draws, and the kernel hears the front end
        self._first, self._second = Output(publisher), Output(publisher)
        self._sight, self._last = sight, sight.bundle()
        self._has_widgets = True  #: until the front end says that it knows none
        self._is_live = not sight.is_over
        self._ended = ended
        self._html, self._more = map(html_of, (sight.html, sight.more))
        self._acting = Acting(link, self._context, self._tell)
        self._refresh = button("Refresh")
        self._refresh.on_click(lambda _: self._tell())
        self._boxes: Boxes | None = None
        self._shown: list[Any] = []  #: boxes of widgets that a page may show

    def add_boxes(self, browser: Browser) -> None:
        """Have boxes in which people say which jobs of *browser* they mean."""
        self._boxes = Boxes(browser, self._tell)
        self._refresh.on_click(lambda _: browser.touch())

    def open(self) -> None:
        """Show the widgets, and the static forms for whoever knows none."""
        with self._lock:
            self._offer()
            self._html.comm.on_close(self._do_without_widgets)
            if self._is_live:
                self._first.show({**self._new_box(self._everything()), **self._last}, is_new=True)
                self._second.show(BLANK, is_new=True)
            else:
                self._first.show(self._last, is_new=True)
                self._second.show({**self._new_box(self._controls()), **BLANK}, is_new=True)
        if not self._is_live:
            self._keep()

    def draw(self, sight: Sight, note: str) -> None:
        with self._lock:
            self._context.run(self._take, sight, note)
            self._context.run(self._follow)

    def finish(self, sight: Sight, note: str) -> None:
        with self._lock:
            has_changed = sight[:2] != self._sight[:2]
            self._context.run(self._take, sight, note)
            if has_changed:
                self._context.run(self._follow)
            self._context.run(self._rest)
        self._keep()

    def repeat(self) -> None:
        # Tools that run notebooks cell by cell hear nothing but the present cell; the display id does the rest.
        self._first.show(self._last)

    def close(self) -> None:
        """Let go of the widgets."""
        with self._lock:
            self._context.run(self._close)

    # ---- what is seen ----------------------------------------------------------------------

    def _take(self, sight: Sight, note: str) -> None:
        self._sight, self._last = sight, sight.bundle(note)
        if self._has_widgets:
            self._html.value = self._last["text/html"] if note else sight.html
            self._more.value = "" if note else sight.more
            self._offer()

    def _follow(self) -> None:
        """Have the widgets in the first output; those of pages that were loaded again show everything too."""
        if not self._has_widgets:
            self.repeat()
        elif not self._is_live:
            before = list(self._shown)
            self._first.show({**self._new_box(self._everything()), **self._last})
            self._second.show(BLANK)
            for box in before:
                box.children = self._everything()
        self._is_live = True

    def _rest(self) -> None:
        """Have plain HTML in the first output, and in the second what can be pressed."""
        was_live, self._is_live = self._is_live, False
        self.repeat()
        is_wanted = self._has_widgets and bool(self._sight.acts or self._boxes)
        if is_wanted and (was_live or self._second.is_blank):
            self._second.show({**self._new_box(self._controls()), **BLANK})
            self._offer()
        elif not is_wanted and not self._second.is_blank:
            self._second.show(BLANK)

    def _offer(self) -> None:
        """Have the buttons that stand for what can be done now."""
        self._acting.offer(self._sight.acts)
        if self._boxes is not None:
            self._boxes.bring_up_to_date()
        hear_anywhere(self._refresh)

    def _do_without_widgets(self, message: object) -> None:
        """Go on with updates of the static forms: front ends that know no widgets close them at once."""
        with self._lock:
            self._has_widgets = False
            self._context.run(self.repeat)

    # ---- widgets ---------------------------------------------------------------------------

    def _new_box(self, widgets: list[Any]) -> dict[str, Any]:
        """Return how a box with *widgets* is shown."""
        box = ipywidgets.VBox(widgets)
        self._shown.append(box)
        return {mime: data for mime, data in box._repr_mimebundle_().items() if mime != "text/plain"}

    def _everything(self) -> list[Any]:
        boxes = [] if self._boxes is None else self._boxes.widgets
        return [*boxes, self._html, *self._acting.widgets, self._more, self._refresh]

    def _controls(self) -> list[Any]:
        boxes = [] if self._boxes is None else self._boxes.widgets
        return [*boxes, *self._acting.widgets, self._refresh]

    def _tell(self) -> None:
        self.on_act()

    def _keep(self) -> None:
        """Keep the widgets for pages that show them; those of long ago go."""
        if self in self._ended:
            self._ended.remove(self)
        self._ended.append(self)
        if len(self._ended) > KEPT:
            self._ended.popleft().close()

    def _close(self) -> None:
        self._has_widgets = False
        if not self._second.is_blank:
            self._second.show(BLANK)
        self._acting.close()
        if self._boxes is not None:
            self._boxes.close()
        close(*self._shown, self._html, self._more, self._refresh)
