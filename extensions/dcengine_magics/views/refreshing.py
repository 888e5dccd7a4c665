"""Live views kept up to date: one thread for all of them, gone when none is left."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from dcengine.errors import DcengineError, EngineClosed

from .sights import LOST, PATIENCE, Sight, Subject

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2  #: between two looks at what changes
IDLE_SECONDS = 1.0  #: the same where nothing has changed for a while
DRAW_SECONDS = 0.1  #: between two updates, whoever asks for them
LOST_SECONDS = 10.0  #: the longest pause between two tries to reach an engine
GIVE_UP_SECONDS = 60.0  #: without an engine, after which a view stays as it is

TRYING = "the engine is not reachable; trying again"
CLOSED = "the engine was closed; this is how it stood"
GIVEN_UP = "the engine is not reachable; this is how it stood"


class Screen(Protocol):
    """Where a view is seen."""

    def draw(self, sight: Sight, note: str) -> None:
        """Show *sight*, which will change."""
        ...

    def finish(self, sight: Sight, note: str) -> None:
        """Show *sight*, which is the last."""
        ...

    def repeat(self) -> None:
        """Say again how it ended, to those who listened to another cell meanwhile."""
        ...

    def close(self) -> None:
        """Let go of what it is shown with."""
        ...


class View:
    """One subject on one screen."""

    def __init__(
        self, subject: Subject, screen: Screen, sight: Sight, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.is_live = True
        self._subject, self._screen, self._clock = subject, screen, clock
        self._sight, self._note = sight, ""
        self._drawn = (sight, "")
        self._drawn_at = clock()
        self._pause = LOOK_SECONDS
        self.due = clock() + LOOK_SECONDS
        self._lost_since: float | None = None
        self._lock = threading.Lock()  # the thread looks, and so does the end of a cell

    @property
    def is_lost(self) -> bool:
        """Whether its engine did not answer the last time."""
        return self._lost_since is not None

    def hurry(self) -> None:
        """Have the next look taken at once."""
        self.due, self._pause = 0.0, LOOK_SECONDS

    def revive(self) -> None:
        """Go on after the end: somebody has done something that may show here."""
        if not self.is_live:
            self._lost_since, self.is_live = None, True
        self.hurry()

    def leave(self) -> None:
        """End it without a word: nobody sees it any more."""
        self.is_live = False
        try:
            self._screen.close()
        except Exception:
            logger.debug("a view could not be closed", exc_info=True)

    def refresh(self, patience: float = PATIENCE) -> None:
        """Look, and show what has changed; a screen that is gone ends the view."""
        if not self._lock.acquire(timeout=patience):
            return
        try:
            if self.is_live:
                self._look(patience)
        except Exception:  # a front end that closed the widget, a kernel that ends
            logger.debug("a view could not be shown any more", exc_info=True)
            self.is_live = False
        finally:
            self._lock.release()

    def _look(self, patience: float) -> None:
        try:
            sight = self._subject.look(patience)
        except EngineClosed:  # by its own program, on purpose
            self._end(CLOSED)
        except LOST as error:
            logger.debug("a view has no engine: %s", error)
            self._miss()
        except DcengineError as error:
            self._end(str(error))
        except Exception as error:
            logger.exception("a view failed")
            self._end(f"this view failed: {type(error).__name__}")
        else:
            self._take(sight)
        self.due = self._clock() + self._pause

    def _take(self, sight: Sight) -> None:
        is_news = sight != self._sight or self.is_lost
        self._sight, self._note, self._lost_since = sight, "", None
        if sight.is_over:
            self._end("")
            return
        self._pause = LOOK_SECONDS if is_news else min(IDLE_SECONDS, 1.3 * self._pause)
        self._draw()

    def _miss(self) -> None:
        now = self._clock()
        if self._lost_since is None:
            self._lost_since, self._pause = now, LOOK_SECONDS
        self._note = TRYING
        self._pause = min(LOST_SECONDS, 2 * self._pause)
        if now - self._lost_since >= GIVE_UP_SECONDS:
            self._end(GIVEN_UP)
        else:
            self._draw()

    def _draw(self) -> None:
        now, image = self._clock(), (self._sight, self._note)
        if image != self._drawn and now - self._drawn_at >= DRAW_SECONDS:
            self._drawn, self._drawn_at = image, now
            self._screen.draw(*image)

    def _end(self, note: str) -> None:
        self.is_live = False
        self._screen.finish(self._sight, note)

    def repeat(self) -> None:
        """Say again how it ended."""
        try:
            self._screen.repeat()
        except Exception:
            logger.debug("a view could not be shown any more", exc_info=True)


class Refresher:
    """Looks after the live views of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._views: list[View] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        atexit.register(self.stop)

    @property
    def views(self) -> list[View]:
        """The views that are live."""
        with self._changed:
            return [view for view in self._views if view.is_live]

    def watch(self, view: View) -> None:
        """Keep *view* up to date until it is over."""
        with self._changed:
            if self._is_stopped:
                return
            if view not in self._views:
                self._views.append(view)
            if self._thread is None or not self._thread.is_alive():
                # It may not hold up the end of the process, whatever an engine does.
                self._thread = threading.Thread(target=self._run, name="dcengine-views", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def hurry(self, view: View) -> None:
        """Look at *view* at once."""
        with self._changed:
            view.hurry()
            self._changed.notify_all()

    def wake(self, view: View) -> None:
        """Look at *view* at once, and go on with it if it was over."""
        view.revive()
        self.watch(view)

    def stop(self) -> None:
        """Look no more: the process ends."""
        with self._changed:
            self._is_stopped, thread = True, self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._views = [view for view in self._views if view.is_live]
                if not self._views or self._is_stopped:
                    self._thread = None
                    return
                view = min(self._views, key=lambda view: view.due)
                pause = view.due - self._clock()
                if pause > 0:
                    self._changed.wait(pause)
                    continue
            view.refresh()
