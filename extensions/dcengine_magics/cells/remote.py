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
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any, NoReturn

from dcengine.errors import InvalidOption
from dcengine.runner import bars, staying

from . import parcel
from .cell import Cell, CellResult
from .errors import InvalidCell, NamesCannotTravel, NoInputOnWorkers
from .lasting import Lasting, keep, of_this_process
from .remote_shell import RemoteShell
from .sizes import size

VALUE_LIMIT = 8 << 20  #: bytes that the value of the last expression may have to travel
CANNOT = "cannot travel: "  #: begins the reasons of what cannot, rather than may not
INLINE = "module://matplotlib_inline.backend_inline"

_shells: list[RemoteShell] = []  #: at most one


def run_cell(cell: Cell) -> CellResult:
    """Run *cell* in a namespace of its own; return what it made, or raise what it raised."""
    if threading.current_thread() is not threading.main_thread():
        raise InvalidOption("processes", "False where cells run", "worker processes: a shell needs one of its own")
    shell, lasting = _shell(), of_this_process()
    lasting.check(cell.token)
    with _nobody_to_ask(), _place_kept(), shell.at_work(cell, lasting.module) as namespace:
        known = lasting.taken_in(namespace, cell)
        try:
            with bars.left_as_text(), _widgets_relayed():
                value = shell.run(cell)
            return _result(cell, lasting, known, value)
        finally:
            if shell.is_changed and not staying.name():
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


def _widgets_relayed() -> AbstractContextManager[object]:
    """Let widgets live in the notebook too, where they are installed at all."""
    try:
        from .remote_comms import relayed
    except ImportError:
        return nullcontext()
    return relayed()


@contextmanager
def _place_kept() -> Iterator[None]:
    """Come back to the present folder, environment and path of modules, and to a clean slate of figures before.

    In a session they stay as its cells leave them.
    """
    if staying.name():
        yield
        return
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
    place, environment, path = os.getcwd(), dict(os.environ), list(sys.path)
    try:
        yield
    finally:
        if not staying.name():
            _restore(place, environment, path)


def _restore(place: str, environment: dict[str, str], path: list[str]) -> None:
    os.chdir(place)
    sys.path[:] = path
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)


# ---- what it leaves behind -----------------------------------------------------------------


def _result(cell: Cell, lasting: Lasting, known: set[str], value: object) -> CellResult:
    namespace = lasting.module.__dict__
    made = _made(cell, namespace)
    modules = {name: one.__name__ for name, one in made.items() if isinstance(one, ModuleType)}
    values = {name: one for name, one in made.items() if name not in modules}
    packed, left_out = _packed(cell, values, namespace, known | made.keys())
    if left_out and cell.is_asked_for:
        raise NamesCannotTravel({name: reason.removeprefix(CANNOT) for name, reason in left_out.items()})
    same = next((name for name, one in values.items() if one is value and name not in left_out), None)
    result = CellResult(
        names=packed,
        modules=modules,
        value_is=same,
        value=None if same or value is None else _packed_value(cell, value, namespace, known | made.keys()),
        has_value=value is not None,
    )
    return _lasting_result(cell, lasting, result, {name: (made[name], why) for name, why in left_out.items()})


def _limit_of(cell: Cell) -> int:
    """Return above how many bytes a name stays where it is; what somebody asks for by hand, or for each item, comes."""
    return 0 if cell.is_asked_for or cell.is_item else cell.keep_above


def _lasting_result(
    cell: Cell, lasting: Lasting, result: CellResult, left_out: dict[str, tuple[object, str]]
) -> CellResult:
    """Return *result* with what stays here, if this process is a session, or becomes one for what was *left_out*."""
    staying_names = {name: why for name, why in left_out.items() if name not in cell.lent}
    if cell.is_item:
        for name, (_, reason) in staying_names.items():
            print(f"{name} stays on the worker, it {reason}", file=sys.stderr)
        return result
    if not staying_names and not staying.name():
        return result
    session = keep(lasting)
    stays = {
        name: lasting.stayed(value, reason, is_big=not reason.startswith(CANNOT))
        for name, (value, reason) in staying_names.items()
    }
    for name, (_, reason) in staying_names.items():
        where = f"{name} stays on worker {staying.worker()} in session {session}"
        print(f"{where}: it {reason}. Cells that use it run there", file=sys.stderr)
    home = [name for name in cell.out if name in lasting.module.__dict__ and name not in left_out]
    return replace(
        result, stays=stays, session=session, worker=staying.worker(), token=lasting.token, made_here=(*home, *stays)
    )


def _made(cell: Cell, namespace: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in cell.out if name not in namespace]
    if missing and cell.is_asked_for:
        raise InvalidCell(f"--out asks for {', '.join(missing)}, which the cell never bound")
    return {name: namespace[name] for name in cell.out if name in namespace}


def _packed(
    cell: Cell, values: dict[str, Any], namespace: dict[str, Any], known: set[str]
) -> tuple[bytes, dict[str, str]]:
    """Return a parcel of *values*, and why some of them are not in it."""
    limit = _limit_of(cell)
    left_out = {name: _too_big(size, limit) for name, one in values.items() if limit and (size := _size(one)) > limit}
    travelling = {name: value for name, value in values.items() if name not in left_out}
    try:
        packed = parcel.pack_for_notebook(travelling, namespace, known)
        if not limit or len(packed) <= limit:
            return packed, left_out
    except Exception:  # whose fault? values may have any code in their pickling
        pass
    for name, value in travelling.items():
        if reason := _reason_against(name, value, namespace, known, limit):
            left_out[name] = reason
    travelling = {name: value for name, value in values.items() if name not in left_out}
    # The notebook will know the others too: by what stands for them there.
    unknown = left_out if cell.is_item else cell.lent & left_out.keys()
    return parcel.pack_for_notebook(travelling, namespace, known - set(unknown)), left_out


def _reason_against(name: str, value: object, namespace: dict[str, Any], known: set[str], limit: int) -> str:
    sizes = []
    reason = parcel.reason_against(
        lambda: sizes.append(len(parcel.pack_for_notebook({name: value}, namespace, known))), value
    )
    if reason:
        return f"{CANNOT}{reason}"
    return _too_big(sizes[0], limit) if limit and sizes[0] > limit else ""


def _size(value: object) -> int:
    """Return how many bytes *value* has at least, as far as it says so without being packed."""
    if isinstance(value, (bytes, bytearray, str)):
        return len(value)
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0


def _too_big(count: int, limit: int) -> str:
    return f"is too big: {size(count)}, the limit is {size(limit)} (--keep-above)"


def _packed_value(cell: Cell, value: object, namespace: dict[str, Any], known: set[str]) -> bytes | None:
    try:
        packed = parcel.pack_for_notebook({"_": value}, namespace, known)
    except Exception:  # it stays here; the notebook has how it looks
        return None
    return packed if cell.is_item or len(packed) <= VALUE_LIMIT else None
