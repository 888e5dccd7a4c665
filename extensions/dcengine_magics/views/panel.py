"""A live output of a cell: a widget, or its static forms where there are none, and those alone at the end."""

from __future__ import annotations

import contextvars
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets

from .formatters import KEPT
from .sights import Sight
from .widgets import close, hear_anywhere

logger = logging.getLogger(__name__)


class Ending(Protocol):
    """What keeps widgets for pages that are loaded again."""

    def close(self) -> None:
        """Let go of them."""
        ...


class Panel:
    """One output; implements `refreshing.Screen`.

    Everything it says has the cell that showed it as its parent, whichever thread says it: ipykernel keeps the
    parent in context variables, so a copy of the context at birth is all that is needed.
    """

    def __init__(self, publisher: Any, sight: Sight, cancel: Callable[[], object] | None, ended: deque[Ending]) -> None:
        self._publisher = publisher
        self._context = contextvars.copy_context()
        self._id = f"dcengine-{uuid.uuid4().hex}"
        self._last = sight.bundle()
        self._has_widgets = True  #: until the front end says that it knows none
        self._lock = threading.Lock()  # the refresher draws, and the kernel hears the front end
        self._html = ipywidgets.HTML(sight.html, layout=ipywidgets.Layout(margin="0"))
        self._parts: list[Any] = [self._html]
        self._cancel = cancel
        self._ended = ended
        self.on_act: Callable[[], None] = lambda: None  #: told once the engine knows
        if cancel is not None:
            self._parts.append(self._button())
        self._box = ipywidgets.VBox(self._parts)

    def open(self) -> None:
        """Show the widget."""
        for widget in self._parts:
            hear_anywhere(widget)
        self._html.comm.on_close(self._do_without_widgets)
        view = {mime: data for mime, data in self._box._repr_mimebundle_().items() if mime != "text/plain"}
        self._publisher.publish({**view, **self._last}, {}, transient={"display_id": self._id})

    def draw(self, sight: Sight, note: str) -> None:
        with self._lock:
            self._last = sight.bundle(note)
            self._context.run(self._draw_widget if self._has_widgets else self.repeat)

    def finish(self, sight: Sight, note: str) -> None:
        with self._lock:
            self._last = sight.bundle(note)
            self._context.run(self._replace)
        self._ended.append(self)
        if len(self._ended) > KEPT:
            self._ended.popleft().close()

    def repeat(self) -> None:
        # Tools that run notebooks cell by cell hear nothing but the present cell; the display id does the rest.
        self._publisher.publish(self._last, {}, transient={"display_id": self._id}, update=True)

    def close(self) -> None:
        """Let go of the widget."""
        self._context.run(close, self._box, *self._parts)

    def _draw_widget(self) -> None:
        self._html.value = self._last["text/html"]

    def _replace(self) -> None:
        self.repeat()
        # A page that was loaded again meanwhile knows the widget and not the display id: it is to see the end there.
        if self._has_widgets:
            self._draw_widget()
            self._box.children = (self._html,)
        close(*self._parts[1:])

    def _do_without_widgets(self, message: object) -> None:
        """Go on with updates of the static forms: front ends that know no widgets close them at once."""
        with self._lock:
            self._has_widgets = False
            self._context.run(self.repeat)

    def _button(self) -> Any:
        button = ipywidgets.Button(
            description="Cancel",
            layout=ipywidgets.Layout(width="auto", height="26px", margin="0 0 4px 0", align_self="flex-start"),
        )
        button.on_click(self._click)
        return button

    def _click(self, button: Any) -> None:
        button.disabled, button.description = True, "Cancelling"
        # An engine that does not answer must not hold up the kernel.
        threading.Thread(target=self._call_off, args=(button,), name="dcengine-cancel", daemon=True).start()

    def _call_off(self, button: Any) -> None:
        assert self._cancel is not None
        try:
            self._cancel()
        except Exception as error:  # a notebook callback: there is nobody to raise it to
            logger.warning("cancelling failed: %s", error)
            self._context.copy().run(self._offer_again, button)
        self.on_act()

    def _offer_again(self, button: Any) -> None:
        button.disabled, button.description = False, "Cancel"
        hear_anywhere(button)
