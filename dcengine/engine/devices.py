"""Who holds which devices of which worker, and who has to wait for some. No I/O.

Devices are counted by kind; a worker says by its tags how many it has, and each has a place there, from 0.
Where the tags tell the devices by name (``gpu.uuid``), two workers on one machine do not get the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from weakref import WeakKeyDictionary

import msgspec

from ..cluster import Slot
from ..errors import DevicesShared
from ..jobs import Worker
from ..runner.units import Unit
from ..tags import devices_of, devices_offered

Places = Mapping[str, list[int]]  #: by kind, as in {"gpu": [1]}


@lru_cache(1024)
def asked_by(expression: str) -> Mapping[str, int]:
    """Return how many devices of each kind *expression* asks for."""
    return MappingProxyType(devices_of(expression))


class Devices:
    """The devices of all workers: which of them are lent to which slot."""

    def __init__(self) -> None:
        self._holders: dict[str, Slot] = {}  #: by the name of the device
        self._lent: dict[Slot, dict[str, list[int]]] = {}
        self._last: WeakKeyDictionary[Slot, set[str]] = WeakKeyDictionary()  #: the names of what it had last
        self._left: dict[Slot, list[Slot]] = {}  #: slots that had them before
        self._claims: dict[str, str] = {}  #: on which worker smaller ones wait for what asks for so many

    def held_by(self, slot: Slot) -> Places:
        """Return the places of the devices that *slot* holds."""
        return self._lent.get(slot, {})

    def lent_by(self, worker: Worker) -> dict[str, int]:
        """Return how many devices of each kind slots of *worker* hold."""
        lent: Counter[str] = Counter()
        for slot, places in self._lent.items():
            if slot.worker.name == worker.name:
                lent.update({kind: len(some) for kind, some in places.items()})
        return dict(lent)

    def has_free(self, expression: str, worker: Worker) -> bool:
        """Tell whether *worker* has as many free devices as *expression* asks for."""
        return all(len(self._free(worker, kind)) >= count for kind, count in asked_by(expression).items())

    def take(self, slot: Slot, expression: str) -> None:
        """Lend *slot* the devices that *expression* asks for, which are free; if it can be, those it had last."""
        asked = asked_by(expression)
        if not asked:
            return
        lent = {kind: sorted(self._preferred(slot, kind)[:count]) for kind, count in asked.items()}
        names = {_names(slot.worker, kind)[place] for kind, places in lent.items() for place in places}
        self._lent[slot] = lent
        self._holders.update(dict.fromkeys(names, slot))
        self._left[slot] = [other for other, last in self._last.items() if other is not slot and last & names]
        for other in self._left[slot]:
            del self._last[other]
        self._last[slot] = names
        self._claims.pop(expression, None)

    def left_to(self, slot: Slot) -> list[Slot]:
        """Return the slots that had last what *slot* has now, once: their processes may still use its memory."""
        return self._left.pop(slot, [])

    def for_unit(self, unit: Unit, slot: Slot, *, has_processes: bool) -> Unit:
        """Return *unit* with the places of what *slot* was lent for it.

        Raises `DevicesShared` where the unit would see the others too, because it has no process of its own.
        """
        places = self.held_by(slot)
        if unit.is_shared or not has_processes:
            for kind, some in places.items():
                present = devices_offered(slot.worker.tags, kind)
                if len(some) < present:
                    raise DevicesShared(unit.name, kind, len(some), slot.worker.name, present)
        return msgspec.structs.replace(unit, devices=dict(places)) if places else unit

    def hand_on(self, slot: Slot, to: Slot) -> None:
        """Have *to* hold what *slot* holds, for what was begun there goes on."""
        if places := self._lent.pop(slot, None):
            self._lent[to] = places
            self._last[to] = self._last.pop(slot, set())
            self._holders = {name: to if holder is slot else holder for name, holder in self._holders.items()}

    def give_back(self, slot: Slot) -> None:
        """Take back what *slot* holds."""
        self._left.pop(slot, None)
        if self._lent.pop(slot, None):
            self._holders = {name: holder for name, holder in self._holders.items() if holder is not slot}

    def shortage(self, expression: str, workers: Sequence[Worker]) -> str | None:
        """Return which devices are missing for *expression* where least are, None if one of *workers* can lend them."""
        asked = asked_by(expression)
        if not asked or any(self.has_free(expression, worker) for worker in workers):
            return None
        worker = min(workers, key=lambda worker: sum(self._lacking(worker, kind, n) for kind, n in asked.items()))
        kind = max(asked, key=lambda kind: self._lacking(worker, kind, asked[kind]))
        free, present = len(self._free(worker, kind)), devices_offered(worker.tags, kind)
        others = f"; no other of the {len(workers)} workers that match has more" if len(workers) > 1 else ""
        return f"{asked[kind]} {kind} of {worker.name}; {free} of {present} {'is' if free == 1 else 'are'} free{others}"

    def claimed(self, expression: str, workers: Sequence[Worker]) -> str | None:
        """Return for whom *workers* keep what *expression* asks for, if all of them do."""
        kinds = asked_by(expression).keys()
        claims = {where: other for other, where in self._claims.items() if not kinds.isdisjoint(asked_by(other))}
        first = claims.get(workers[0].name)
        return first if expression not in claims.values() and all(worker.name in claims for worker in workers) else None

    def keep_claims(self, expressions: Collection[str]) -> None:
        """Drop the claims of what waits no longer: only *expressions* do."""
        if self._claims:
            self._claims = {needed: where for needed, where in self._claims.items() if needed in expressions}

    def forget_claims(self) -> None:
        """Let whoever has to wait choose anew where: workers have come, gone or changed."""
        self._claims.clear()

    @property
    def has_claims(self) -> bool:
        """Whether anything waits for devices."""
        return bool(self._claims)

    def has_claim(self, expression: str) -> bool:
        """Tell whether others wait behind what needs *expression*."""
        return expression in self._claims

    def claims(self, expression: str, worker: Worker) -> bool:
        """Tell whether what asks for more than is free waits for it on *worker*; it waits on one at a time."""
        return self._claims.setdefault(expression, worker.name) == worker.name

    def _free(self, worker: Worker, kind: str) -> list[int]:
        return [place for place, name in enumerate(_names(worker, kind)) if name not in self._holders]

    def _lacking(self, worker: Worker, kind: str, count: int) -> int:
        return max(0, count - len(self._free(worker, kind)))

    def _preferred(self, slot: Slot, kind: str) -> list[int]:
        """Return the free places for *slot*: first those it had last, at the end those that others had."""
        names, own = _names(slot.worker, kind), self._last.get(slot, set())
        had = set().union(*self._last.values())
        return sorted(
            self._free(slot.worker, kind), key=lambda place: (names[place] not in own, names[place] in had, place)
        )


class Look:
    """One look for work for one slot: tells of one source after the other, in order of their turns, whether it may.

    What asks for more devices than are free lets no later one have them that asks for the same kind on this worker:
    so it gets its own, and is not overtaken for ever by what asks for less. What asks for devices has its slot for
    itself alone: a slot that still has something to do is given nothing more until it is empty.
    """

    def __init__(self, devices: Devices, slot: Slot, *, is_empty: bool) -> None:
        self._devices, self._worker, self._is_empty = devices, slot.worker, is_empty
        self._claimed: set[str] = set()
        self._is_over = False

    def admits(self, expression: str) -> bool:
        """Tell whether the slot may be given what needs *expression*; its worker has the tags."""
        asked = asked_by(expression)
        if self._is_over or not self._claimed.isdisjoint(asked):
            return False
        if not self._devices.has_free(expression, self._worker):
            if self._devices.claims(expression, self._worker):
                self._claimed.update(asked)
            return False
        self._is_over = bool(asked) and not self._is_empty
        return not self._is_over


def _names(worker: Worker, kind: str) -> list[str]:
    """Return what the devices of *kind* on *worker* are called, in order of their places."""
    count = devices_offered(worker.tags, kind)
    named = (worker.tags.get(f"{kind}.uuid") or "").split(",")
    if count and len(named) == count and all(named):
        return named
    return [f"{worker.name} {kind} {place}" for place in range(count)]
