"""Following something remote to its end: what the stop button means to it, and waiting for an engine that is away."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from dcengine.errors import AccessDenied, EngineClosed, EngineUnreachable, NotFound

from .replay import Replay
from .stop_button import StopButton
from .tracebacks import rendered

PATIENCE = 60.0  #: seconds to wait for an engine that went away
PAUSE = 0.5  #: seconds between two looks for it
AWAY = (EngineUnreachable, EngineClosed, AccessDenied)  #: the last is what a new engine at its address answers


class Follower(ABC):
    """Follows one thing of the engine's to its end, and says in *replay* what happens on the way."""

    def __init__(self, name: str, replay: Replay) -> None:
        self.name = name  #: such as ``job 12``
        self.presses = 0  #: of the stop button
        self._replay = replay
        self._away_since: float | None = None

    @abstractmethod
    def say_more(self, button: StopButton) -> bool:
        """Wait for what is new and say it; tell whether that was the last."""

    @abstractmethod
    def find_again(self) -> None:
        """Ask for the same through whatever connection there is now."""

    @abstractmethod
    def stop(self) -> None:
        """Have it stopped; called at each press of the button."""

    @abstractmethod
    def later(self) -> str:
        """Return how it is found once its engine runs again."""

    def follow(self) -> None:
        """Say again what is said until the end."""
        with StopButton() as button:
            while not self._step(button):
                pass

    def _step(self, button: StopButton) -> bool:
        """Take one step; tell whether it was the last."""
        try:
            is_over = self.say_more(button)
        except KeyboardInterrupt:
            self._stop()
            return False
        except AWAY as error:
            self._wait_for_the_engine(error, button)
            return False
        return is_over

    def is_back(self) -> None:
        """Take note of an answer."""
        if self._away_since is not None:
            self._away_since = None
            self._replay.note(f"the engine is back, {self.name} goes on")

    def _stop(self) -> None:
        self.presses += 1
        if self._away_since is not None:
            raise rendered(KeyboardInterrupt(), [f"KeyboardInterrupt: {self.later()}"])
        try:
            self.stop()
        except AWAY:
            self.presses -= 1  # the loop will meet the same, and wait

    def _wait_for_the_engine(self, error: Exception, button: StopButton) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._replay.note(f"{error}\n{self.name} is kept; waiting for its engine, stop gives up")
        elif now - self._away_since > PATIENCE:
            raise rendered(error, [f"{type(error).__name__}: {error}", self.later()])
        try:
            with button.waiting():
                time.sleep(PAUSE)
                self.find_again()  # perhaps through another connection
        except KeyboardInterrupt:
            self._stop()
        except (*AWAY, NotFound):
            pass
