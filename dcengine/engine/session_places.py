"""Where sessions are: each in one process, on one slot. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from ..cluster import Slot

SESSIONS_LIMIT = 16  #: sessions that one worker keeps
UNNAMED = "unnamed-"  #: begins the names of those that nobody has asked for by name


class Place:
    """A session's place: the slot that has its process."""

    def __init__(self, name: str, slot: Slot, tags: str) -> None:
        self.name, self.slot, self.tags = name, slot, tags
        self.holder = Slot(slot.worker, slot.number)  #: of its devices, which it has also while the slot does others'
        self.job = 0  #: that runs there, or ran last
        self.is_busy = False
        self.is_begun = False  #: a call has run there
        self.used = time.monotonic()  #: when the last call ended

    @property
    def idle(self) -> float:
        """Seconds since its last call ended."""
        return 0.0 if self.is_busy else time.monotonic() - self.used


class SessionPlaces:
    """The sessions that live, by name."""

    def __init__(self) -> None:
        self.placed: dict[str, Place] = {}
        self._tags: dict[str, Place] = {}

    def add(self, place: Place) -> None:
        """Note where a session is."""
        self.placed[place.name] = self._tags[place.tags] = place

    def remove(self, place: Place) -> None:
        """Forget a session that is over."""
        if self.placed.get(place.name) is place:
            del self.placed[place.name]
            del self._tags[place.tags]

    def on(self, worker: str) -> list[Place]:
        """Return the sessions on *worker*, the one that was used last at the end."""
        return sorted((one for one in self.placed.values() if one.slot.worker.name == worker), key=lambda one: one.used)

    def is_kept_from(self, name: str, worker: str, slot: Slot | None) -> bool:
        """Tell whether session *name* is to be given nothing now on *worker*, or on its *slot*."""
        place = self.placed.get(name)
        if place is None:
            return False
        return place.is_busy or place.slot.worker.name != worker or (slot is not None and place.slot is not slot)

    def admits(self, look: Callable[[str], bool], expression: str) -> bool:
        """Tell what *look* says of what needs *expression*; a session has its devices already."""
        return look("" if expression in self._tags else expression)

    def without_slot(self, slots: Collection[Slot]) -> list[Place]:
        """Return the sessions with nothing to do whose slot is none of *slots*."""
        return [place for place in self.placed.values() if not place.is_busy and place.slot not in slots]
