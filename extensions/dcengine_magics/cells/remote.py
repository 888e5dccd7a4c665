"""A cell on a worker: run in a real IPython shell that is made once for each process."""

from __future__ import annotations

import atexit
import builtins
import getpass
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, NoReturn

from dcengine.errors import InvalidOption
from dcengine.runner import bars

from . import parcel
from .cell import Cell, CellResult
from .errors import InvalidCell, NamesCannotTravel, NoInputOnWorkers
from .remote_shell import RemoteShell

VALUE_LIMIT = 8 << 20  #: bytes that the value of the last expression may have to travel
INLINE = "module://matplotlib_inline.backend_inline"

_shells: list[RemoteShell] = []  #: at most one


def run_cell(cell: Cell) -> CellResult:
    """Run *cell* in a namespace of its own; return what it made, or raise what it raised."""
    if threading.current_thread() is not threading.main_thread():
        raise InvalidOption("processes", "False where cells run", "worker processes: a shell needs one of its own")
    shell = _shell()
    with _nobody_to_ask(), _place_kept(), shell.at_work(cell) as namespace:
        namespace.update(parcel.unpack(cell.names, namespace))
        known = set(namespace)
        try:
            with bars.left_as_text():
                value = shell.run(cell)
            return _result(cell, namespace, known, value)
        finally:
            if shell.is_changed:
                _give_up(shell)


def _shell() -> RemoteShell:
    if not _shells:
        _shells.append(RemoteShell.make())
        os.environ.setdefault("MPLBACKEND", INLINE)  # read when, and if, matplotlib is imported
        _enable_figures(_shells[0])
    return _shells[0]


def _give_up(shell: RemoteShell) -> None:
    """Let the next cell have a new shell, set up as ever."""
    _shells.clear()
    RemoteShell.clear_instance()
    atexit.unregister(shell.atexit_operations)
    inline = sys.modules.get("matplotlib_inline.backend_inline")
    if inline is not None:
        inline.InlineBackend.clear_instance()
        inline.configure_inline_support.current_backend = "unset"  # else it leaves a new shell without formats


def _enable_figures(shell: RemoteShell) -> None:
    """Show figures in cells even where a job before the first cell has imported matplotlib."""
    if "matplotlib" in sys.modules:
        importlib.import_module("matplotlib").use(INLINE)
        importlib.import_module("matplotlib_inline.backend_inline").configure_inline_support(shell, INLINE)


# ---- around the cell -----------------------------------------------------------------------


@contextmanager
def _nobody_to_ask() -> Iterator[None]:
    """Let questions to a person at the keyboard fail at once."""
    with ExitStack() as stack:
        for home, name in ((builtins, "input"), (getpass, "getpass"), (sys, "breakpointhook")):
            stack.callback(setattr, home, name, getattr(home, name))
            setattr(home, name, _refusal("breakpoint()" if home is sys else f"{name}()"))
        yield


def _refusal(question: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise NoInputOnWorkers(question)

    return refuse


@contextmanager
def _place_kept() -> Iterator[None]:
    """Come back to the present folder, environment and path of modules, and to a clean slate of figures before."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
    place, environment, path = os.getcwd(), dict(os.environ), list(sys.path)
    try:
        yield
    finally:
        os.chdir(place)
        sys.path[:] = path
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)


# ---- what it leaves behind -----------------------------------------------------------------


def _result(cell: Cell, namespace: dict[str, Any], known: set[str], value: object) -> CellResult:
    made = _made(cell, namespace)
    modules = {name: one.__name__ for name, one in made.items() if isinstance(one, ModuleType)}
    values = {name: one for name, one in made.items() if name not in modules}
    packed, left_out = _packed(values, namespace, known | made.keys())
    if left_out and cell.is_asked_for:
        raise NamesCannotTravel(left_out)
    for name, reason in left_out.items():
        if name not in cell.lent:
            print(f"{name} stays on the worker, it cannot travel: {reason}", file=sys.stderr)
    same = next((name for name, one in values.items() if one is value and name not in left_out), None)
    return CellResult(
        names=packed,
        modules=modules,
        value_is=same,
        value=None if same or value is None else _packed_value(value, namespace, known | made.keys()),
        has_value=value is not None,
    )


def _made(cell: Cell, namespace: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in cell.out if name not in namespace]
    if missing and cell.is_asked_for:
        raise InvalidCell(f"--out asks for {', '.join(missing)}, which the cell never bound")
    return {name: namespace[name] for name in cell.out if name in namespace}


def _packed(values: dict[str, Any], namespace: dict[str, Any], known: set[str]) -> tuple[bytes, dict[str, str]]:
    """Return a parcel of *values*, and why some of them are not in it."""
    left_out: dict[str, str] = {}
    try:
        return parcel.pack_for_notebook(values, namespace, known), left_out
    except Exception:  # whose fault? values may have any code in their pickling
        for name, value in values.items():
            reason = parcel.reason_against(
                lambda name=name, value=value: parcel.pack_for_notebook({name: value}, namespace, known),  # type: ignore[misc]
                value,
            )
            if reason:
                left_out[name] = reason
    travelling = {name: value for name, value in values.items() if name not in left_out}
    return parcel.pack_for_notebook(travelling, namespace, known - left_out.keys()), left_out


def _packed_value(value: object, namespace: dict[str, Any], known: set[str]) -> bytes | None:
    try:
        packed = parcel.pack_for_notebook({"_": value}, namespace, known)
    except Exception:  # it stays here; the notebook has how it looks
        return None
    return packed if len(packed) <= VALUE_LIMIT else None
