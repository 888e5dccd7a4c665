"""A cell of the notebook made ready to travel: checked, its names found and packed."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

import dcengine
from dcengine.errors import DcengineError
from dcengine.plain import table

from . import parcel
from .cell import Cell
from .errors import InvalidCell, NamesCannotTravel
from .item import ITEM
from .names import Names, names_of
from .references import RemoteReference
from .sessions import Stay, one_of, session_for
from .sizes import size
from .taking import OF_MODULES, OUTPUT, taken_from

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

HEAD = "# %%distribute"  #: stands in the line of the magic, so that line numbers are the notebook's


@dataclass(frozen=True)
class Prepared:
    """A cell that could be sent."""

    shell: InteractiveShell
    source: str
    file: str
    number: int  #: the cell's own: In[number]
    names: Names
    taken: dict[str, Any]  #: what it needs from the notebook
    out: tuple[str, ...]
    is_asked_for: bool
    is_item: bool = False  #: it is to run once for each of many

    def packed(self) -> Cell:
        """Return the cell with its names packed, for no session; raises `NamesCannotTravel`, `InvalidCell`."""
        cell, stay = self.packed_for(None, 0)
        if stay.session:
            name = next((name for name, one in self.taken.items() if isinstance(one, RemoteReference)), "a value in it")
            problem = f"{name} stays in session {stay.session}, one process, and this runs wherever there is room"
            raise InvalidCell(f"{problem}; fetch() it, or use it in a plain %%distribute cell")
        return cell

    def packed_for(self, session: str | None, keep_above: int) -> tuple[Cell, Stay]:
        """Return the cell ready for *session*, or for the one where a value stays that it uses, and its stay there.

        What it makes stays there too above *keep_above* bytes. Raises `NamesCannotTravel`, `InvalidCell`.
        """
        stay = Stay(self.shell, session_for(session, self.taken.items()))
        travelling, places = stay.travelling(self.taken), dict[str, str]()
        names = self._parcel(travelling, places)
        stay.session = one_of(stay.session or session, places)
        cell = Cell(
            source=self.source,
            number=self.number,
            file=self.file,
            names=names,
            keep_above=keep_above,
            expects=frozenset(self.taken.keys() - travelling.keys()),
            token=stay.known.token if len(travelling) < len(self.taken) else "",
            dropped=stay.dropped(),
            out=self.out,
            is_asked_for=self.is_asked_for,
            colors=self.shell.colors,
            sources=_sources_of(self.taken, self.shell),
            lent=frozenset(self.names.lent),
            is_item=self.is_item,
        )
        return cell, stay

    def _parcel(self, values: Mapping[str, Any], places: dict[str, str]) -> bytes:
        """Return *values* packed; the sessions of what stays elsewhere are put into *places*."""
        try:
            return self._packed_names(values, places)
        except Exception as error:  # pickling runs any code; find out whose
            reasons = self._reasons()
            vital = {name: reason for name, reason in reasons.items() if self._is_vital(name)}
            if vital or not reasons:
                raise NamesCannotTravel(vital or {", ".join(self.taken): str(error)}) from None
            return self._packed_names({name: one for name, one in values.items() if name not in reasons}, places)

    def _packed_names(self, values: Mapping[str, Any], places: dict[str, str] | None = None) -> bytes:
        return parcel.pack_for_worker(values, self.shell.user_global_ns, self.shell.user_ns_hidden.keys(), places)

    def _reasons(self) -> dict[str, str]:
        found = {name: self._reason_against(name, value) for name, value in self.taken.items()}
        return {name: reason for name, reason in found.items() if reason}

    def _reason_against(self, name: str, value: object) -> str:
        reason = parcel.reason_against(partial(self._packed_names, {name: value}), value)
        if not reason or not isinstance(value, FunctionType):
            return reason
        known = {used: self.shell.user_ns[used] for used in value.__code__.co_names if used in self.shell.user_ns}
        guilty = [
            used
            for used, one in known.items()
            if one is not value and parcel.reason_against(partial(self._packed_names, {used: one}), one)
        ]
        return f"{reason}, for it uses {', '.join(guilty)}" if guilty else reason

    def _is_vital(self, name: str) -> bool:
        """Tell whether the cell needs *name* from here, for all that can be seen: it never binds it."""
        return name in self.names.certain or name not in self.names.made

    def described(self, tags: str, *remarks: str) -> str:
        """Return what would travel where, for people, with *remarks* on what else would happen."""
        rows = [(name, type(value).__qualname__, self._size_of(name)) for name, value in self.taken.items()]
        return "\n".join(
            [
                *remarks,
                table(["name", "type", "size"], rows) if rows else "no name would travel",
                f"would come back: {', '.join(self.out) or 'no name'}",
                f"workers: {_who_matches(tags)}",
                "nothing was sent, nothing ran",
            ]
        )

    def _size_of(self, name: str) -> str:
        value = self.taken[name]
        reason = self._reason_against(name, value)
        return f"cannot travel: {reason}" if reason else size(len(self._packed_names({name: value})))


def prepare(
    shell: InteractiveShell, body: str, out: Sequence[str] | None, head: str = HEAD, *, in_session: bool = False
) -> Prepared:
    """Return the cell *body* below the line *head* ready to be packed; a session may have names that are not here.

    Without *head* the body begins with the notebook's first line. Raises `SyntaxError`, `UndefinedName`, `InvalidCell`.
    """
    lines_above = len(body) - len(body.lstrip("\n")) + bool(head)
    source = head + "\n" * lines_above + shell.transform_cell(body)
    number = number_of_cell(shell)
    file = shell.compile.cache(source, number, raw_code=source)
    names = names_of(_checked(source, file), shell.transform_cell)
    taken = taken_from(shell.user_ns, shell.user_ns_hidden, names, in_session=in_session)
    made = tuple(name for name in names.made if not OUTPUT.fullmatch(name) and name not in OF_MODULES)
    for name in out or ():
        if name not in names.made and name not in taken and not names.is_open:
            raise InvalidCell(f"--out asks for {name}, which the cell never binds")
    return Prepared(shell, source, file, number, names, taken, made if out is None else tuple(out), out is not None)


def prepare_for_items(shell: InteractiveShell, body: str, out: Sequence[str] | None, target: str) -> Prepared:
    """Return the cell *body* ready to be packed, to run with *target* bound to one item after the other."""
    cell = prepare(shell, body, out or (), f"{target} = {ITEM}  {HEAD} ({target})")
    return replace(cell, is_asked_for=bool(out), is_item=True)


def number_of_cell(shell: InteractiveShell) -> int:
    """Return the number of the cell that is on the stack; the shell's own count may be at the next one already."""
    known: dict[str, int] = getattr(shell.compile, "_filename_map", {})
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename in known:
            return known[frame.f_code.co_filename]
    return shell.execution_count


def _checked(source: str, file: str) -> ast.Module:
    """Return *source* parsed; raises `SyntaxError` also for what parses but makes no sense."""
    tree = ast.parse(source, file)
    compile(tree, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return tree


def _sources_of(values: Mapping[str, Any], shell: InteractiveShell) -> dict[str, tuple[int, str]]:
    """Return the cells in which functions and classes among *values* were written, for their tracebacks."""
    known = getattr(shell.compile, "_filename_map", {})
    found = {}
    for value in values.values():
        for one in vars(value).values() if isinstance(value, type) else (value,):
            file = one.__code__.co_filename if isinstance(one, FunctionType) else ""
            if file in known and file in linecache.cache:
                found[file] = (known[file], "".join(linecache.getlines(file)))
    return found


def _who_matches(tags: str) -> str:
    try:
        return dcengine.explain(tags)
    except DcengineError as error:
        return f"nobody can say: {error}"
