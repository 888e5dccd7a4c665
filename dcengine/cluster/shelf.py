"""What a worker keeps for the calls of one database: values that they refer to, and results that stay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..codec import unpack
from ..references import key_of_result
from ..runner.units import Ending, Unit, UnitReport
from ..runner.values import ValueTable, spooled_in
from .carrier import Spot, is_here


class Shelf:
    """Answers what engines ask about values here; each method with a verb for its name is a question."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._values = ValueTable(folder, limit)

    async def ask(self, what: str, **facts: Any) -> Any:
        """Answer the question *what*."""
        return await getattr(self, f"answer_{what}")(**facts)

    # ---- around a unit ---------------------------------------------------------------------

    @contextmanager
    def at_hand(self, unit: Unit) -> Iterator[Unit]:
        """Keep what the calls of *unit* refer to while they run; gives the unit with the places.

        Raises `UnknownValues`.
        """
        if not unit.values and not unit.stays:
            yield unit
            return
        spool = self._values.spool() if unit.stays else unit.spool
        with self._values.at_hand(unit.values) as places:
            yield msgspec.structs.replace(unit, places=places, spool=spool)

    def keep_results(self, report: UnitReport) -> None:
        """Keep the results that are to stay."""
        for ending, value in zip(report.endings, unpack(report.values), strict=True):
            if ending == Ending.SUCCEEDED and (spooled := spooled_in(value)) is not None:
                self._values.adopt(key_of_result(spooled.digest), spooled.name, spooled.size)

    # ---- questions -------------------------------------------------------------------------

    async def answer_near(self, spot: dict[str, Any]) -> bool:
        """Tell whether this worker sees the very folder of an engine."""
        return is_here(msgspec.convert(spot, Spot))

    async def answer_file(self, key: bytes, path: str, size: int) -> bool:
        """Take note of a file that has the value of *key*; return whether it is there."""
        return self._values.add_file(key, path, size)

    async def answer_name(self, key: bytes, other: bytes) -> bool:
        """Let *key* mean what *other* does here; return whether there is such a value."""
        return self._values.add_name(key, other)

    async def answer_piece(self, key: bytes, piece: bytes, at: int, size: int) -> dict[str, str]:
        """Take a piece of a value; return what went wrong with that."""
        try:
            await asyncio.to_thread(_write, self._values.new_file(key), piece, at)
        except OSError as error:
            return {"problem": f"{error.strerror or error}"}
        if at + len(piece) == size:
            self._values.add_own(key, size)
        return {"problem": ""}

    async def answer_drop(self, keys: list[bytes]) -> bool:
        """Forget values."""
        for key in keys:
            self._values.drop(key)
        return True

    async def answer_read(self, key: bytes, at: int, size: int) -> dict[str, bytes | None]:
        """Return a piece of a value."""
        return {"data": await asyncio.to_thread(self._values.read, key, at, size)}

    async def answer_path(self, key: bytes) -> dict[str, str | None]:
        """Return the file of a value."""
        return {"path": self._values.path_of(key)}


def _write(path: Path, piece: bytes, at: int) -> None:
    with open(path, "r+b" if at else "wb") as file:
        file.seek(at)
        file.write(piece)
