"""What clocks tell beside the time: that nothing could run for a while, that somebody has set the one on the wall.

Waiting and leases go by the monotonic clock, which nobody sets; moments that people have named by the one on the wall.
"""

from __future__ import annotations

import time

STOOD_STILL_SECONDS = 1.0  #: by which a look that comes again and again is late, if more than other work delays it
STEP_SECONDS = 1.0  #: by which the clock on the wall gets ahead between two looks, if more than slewing moves it


class Standstill:
    """Notices that the engine itself could not run: its process was stopped, or its machine, or its loop held up."""

    def __init__(self, pause: float) -> None:
        self._pause = pause  #: seconds between two looks
        self._looked = time.monotonic()

    def seconds(self) -> float:
        """Look; return the seconds for which nothing could run since the last look, 0 as a rule."""
        now = time.monotonic()
        late, self._looked = now - self._looked - self._pause, now
        return late if late > STOOD_STILL_SECONDS else 0.0


class WallClock:
    """Notices that somebody has set the clock on the wall."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def step(self) -> float:
        """Return the seconds by which it was set forward since the last look, below zero for back, 0 as a rule."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        step = self._ahead - before
        return step if abs(step) > STEP_SECONDS else 0.0
