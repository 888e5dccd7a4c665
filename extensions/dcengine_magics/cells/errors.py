"""What can be wrong with a remote cell, as branches of dcengine's own tree of errors."""

from __future__ import annotations

from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython

from dcengine.errors import DcengineError, TaskError

from .tracebacks import of_the_cell


class InvalidCell(DcengineError, ValueError):
    """The ``%%distribute`` line, or what it asks for, makes no sense."""

    def __init__(self, problem: str, usage: str = "") -> None:
        super().__init__(problem, usage)
        self.problem, self.usage = problem, usage

    def __str__(self) -> str:
        return f"{self.problem}\n{self.usage}" if self.usage else self.problem


class CellSyntaxError(InvalidCell):
    """The cell is not Python.

    No SyntaxError, but called so where it is shown: IPython shows the frames of whoever raises a real one.
    """


CellSyntaxError.__name__ = "SyntaxError"


class UndefinedName(DcengineError, NameError):
    """The cell uses a name that exists nowhere."""

    def __init__(self, names: dict[str, int]) -> None:
        super().__init__(names)
        self.names = names  #: each with the line of the cell that uses it first

    def __str__(self) -> str:
        places = " and ".join(f"{name!r} (line {line})" for name, line in self.names.items())
        return (
            f"{places} is used in this cell but defined neither in it nor in the notebook; "
            "nothing was sent. Define it first, or correct the name"
        )


class NamesCannotTravel(DcengineError, TypeError):
    """Values that the cell uses, or was asked to give back, cannot be pickled."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons  #: by name

    def __str__(self) -> str:
        told = "\n".join(f"  {name}: {reason}" for name, reason in self.reasons.items())
        return (
            f"these names cannot travel:\n{told}\n"
            "Create them inside the cell, or use the data they are made from instead"
        )


class StaysRemote(DcengineError, AttributeError, TypeError):
    """A value that stays in a session was used here."""

    def __init__(self, name: str, kind: str, worker: str, session: str, use: str, is_big: bool = False) -> None:
        DcengineError.__init__(self, name, kind, worker, session, use, is_big)
        self.reference, self.kind, self.worker, self.session, self.use = name, kind, worker, session, use
        self.is_big = is_big  #: it could travel

    def __str__(self) -> str:
        fetch = f", or bring it here with {self.reference}.fetch()" if self.is_big else ""
        return (
            f"{self.reference} is a {self.kind} that stays on worker {self.worker} (session {self.session}), "
            f"so {self.use} does not work here; use it in a %%distribute cell, which runs there{fetch}"
        )

    def _render_traceback_(self) -> list[str]:
        """Return what IPython is to print: the notebook's own frames; where this fails it prints all of them."""
        shown: Any = get_ipython()
        own = of_the_cell(self.__traceback__, "")
        lines: list[str] = shown.InteractiveTB.structured_traceback(type(self), self, own, tb_offset=1)
        return lines


class RaisedInCell(TaskError):
    """The cell raised a syntax error or a group, for which IPython would show the frames that raise it here."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return self.message


def raised_in_cell(kind: str, message: str) -> RaisedInCell:
    """Return an error that is called *kind* where it is shown."""
    error: RaisedInCell = type(kind, (RaisedInCell,), {})(kind, message)
    return error


class CellExited(TaskError):
    """The cell asked its interpreter to exit."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        said = f" with {self.code}" if self.code else ""
        return (
            f"the cell ended itself by exit(){said}; there is nothing to exit on a worker, it stays for others. "
            "Raise an exception, or put the rest of the cell under an if"
        )


class NoInputOnWorkers(TaskError, EOFError):
    """The cell asked the person at the keyboard, whom a worker cannot reach."""

    def __init__(self, asked_by: str) -> None:
        super().__init__(asked_by)
        self.asked_by = asked_by

    def __str__(self) -> str:
        return (
            f"{self.asked_by} cannot ask anybody on a worker; "
            "ask in a cell of the notebook and use the answer in the remote one"
        )


class FailedOne(NamedTuple):
    """An item that failed, as it is told of."""

    place: int
    label: str  #: the item, in short
    sentence: str  #: its error
    line: str  #: the last of the cell's lines that it met; empty where that is unknown

    def __str__(self) -> str:
        which = f"item {self.place} ({self.label})" if self.label else f"item {self.place}"
        return f"{which}: {self.sentence}" + (f"\n    at {self.line}" if self.line else "")


class ItemsFailed(DcengineError):
    """The body of a cell failed for some of its items."""

    results: Any = None  #: of the others, an error in the place of each that failed

    def __init__(self, batch: int, count: int, failed: int, cancelled: int, listed: list[FailedOne]) -> None:
        super().__init__(batch, count, failed, cancelled, listed)
        self.batch, self.count = batch, count
        self.failed, self.cancelled = failed, cancelled  #: how many
        self.listed = listed  #: the first of those that failed

    def __str__(self) -> str:
        ended = [f"{self.failed:,} failed"] if self.failed else []
        ended += [f"{self.cancelled:,} were cancelled"] if self.cancelled else []
        rest = self.failed - len(self.listed)
        lines = [f"of {self.count:,} items {' and '.join(ended)}", *(f"  {one}" for one in self.listed)]
        lines += [f"  and {rest:,} more"] if rest else []
        return "\n".join([*lines, self._way_out()])

    def _way_out(self) -> str:
        kept = "the other results are kept: they are in _, in the places of their items; "
        if self.failed + self.cancelled == self.count:
            kept = ""
        return f"{kept}%distribute retry batch {self.batch} runs again what has none, and gives all of them"

    def retry(self) -> Any:
        """Run the failed items again; return all results."""
        return self.results.retry()
