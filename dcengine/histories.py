"""What each stage made of a job, as it is shown: values stay packed until somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from .codec import exception_from, loads, unpack_failure
from .errors import ResultExpired
from .plain import clean, table
from .verbs import Flag, HistoryEntry, Try

COLUMNS = ("stage", "generation", "state", "worker", "runs", "parts", "remarks")
NUMBERS = ("generation", "runs", "parts")
PARTS_SHOWN = 1000  #: numbers of parts in one entry, at most


class StageRecord:
    """A job at one stage, in one generation."""

    def __init__(self, job: int, entry: HistoryEntry, gathered: Callable[[StageRecord], list[Any]]) -> None:
        self._job, self._entry, self._gathered = job, entry, gathered

    def __repr__(self) -> str:
        return f"<stage {clean(self.stage)!r} of job {self._job}: {self.state}>"

    @property
    def stage(self) -> str:
        return self._entry.stage

    @property
    def generation(self) -> int:
        """How often later stages had sent the job back by then."""
        return self._entry.generation

    @property
    def state(self) -> str:
        """That of the task; returned means that it counts no more."""
        return self._entry.state

    @property
    def worker(self) -> str | None:
        return self._entry.worker

    @property
    def contributor(self) -> str | None:
        return self._entry.contributor

    @property
    def finished(self) -> float | None:
        """When it ended, in Unix seconds."""
        return self._entry.finished

    @property
    def runs(self) -> int:
        """How often it was handed to a worker."""
        return self._entry.attempt

    @property
    def tries(self) -> list[Try]:
        """The runs that did not succeed, oldest first, with their reasons."""
        return [each for each in self._entry.tries if each.what != "returned"]

    @property
    def flags(self) -> list[Flag]:
        """Who said that its input is bad."""
        return self._entry.flags

    @property
    def parts(self) -> list[int]:
        """Numbers of the jobs that it made of this one, or that it waits for; the first 1,000."""
        return self._entry.parts

    @property
    def input(self) -> Any:
        """What the stage was given; for a gather the outputs of its parts, from 1,000 parts on their numbers alone.

        Raises `ResultExpired` if values were kept for a set time only.
        """
        data = self._entry.input
        if data is None:
            return self._gathered(self) if len(self.parts) < PARTS_SHOWN else self.parts
        return self._value(data)

    @property
    def output(self) -> Any:
        """What the stage made of it; None where it made nothing, and see `error` then."""
        data = self._entry.output
        if data is None or self.state in ("failed", "cancelled"):
            return None
        return self._value(data)

    @property
    def error(self) -> BaseException | None:
        """The error with which it ended, if it did."""
        data = self._entry.output
        return exception_from(unpack_failure(data)) if data and self.state == "failed" else None

    @property
    def remarks(self) -> str:
        """What went wrong here, in a line; nothing is unpickled for it."""
        data = self._entry.output
        reason = unpack_failure(data).sentence if data and self.state == "failed" else ""
        flagged, tries = _flagged(self.flags), self.tries
        tried = f"{len(tries)} x {tries[-1].reason}" if tries and not reason and not flagged else ""
        # The stage that flagged it has the reasons; the one that made it is told none.
        back = "sent back" if self.state == "returned" else "its output was rejected"
        ends = [each.reason or back for each in self._entry.tries if each.what == "returned" and not flagged]
        return "; ".join(remark for remark in (reason, flagged, tried, *ends) if remark)

    def _value(self, data: bytes) -> Any:
        if not data:
            raise ResultExpired(self._job)
        return loads(data)


def _flagged(flags: Iterable[Flag]) -> str:
    """Return who flagged something, by what they said of it."""
    voters: dict[str, list[str]] = {}
    for flag in flags:
        voters.setdefault(flag.reason, []).append(flag.voter)
    said = (f"by {', '.join(names)}" + (f": {reason}" if reason else "") for reason, names in voters.items())
    return f"flagged {', '.join(said)}" if voters else ""


class History(list[StageRecord]):
    """What each stage made of one job in each generation, in the order in which it came there."""

    def __init__(self, job: int, records: Iterable[StageRecord]) -> None:
        super().__init__(records)
        self.job = job

    def __repr__(self) -> str:
        return table(COLUMNS, self._rows(), numbers=NUMBERS)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        rows = ("".join(f"<td>{escape(clean(cell))}</td>" for cell in row) for row in self._rows())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _rows(self) -> Iterable[tuple[str, ...]]:
        for record in self:
            parts = f"{len(record.parts):,}" + ("+" if len(record.parts) >= PARTS_SHOWN else "")
            yield (
                record.stage, str(record.generation), record.state, record.worker or "", str(record.runs),
                parts if record.parts else "", record.remarks,
            )  # fmt: skip
