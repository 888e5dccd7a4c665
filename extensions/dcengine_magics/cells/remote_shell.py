"""The IPython shell of a worker process: kept warm, a fresh namespace for each cell."""

from __future__ import annotations

import asyncio
import linecache
import sys
import traceback
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from IPython.core.compilerop import CachingCompiler
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from dcengine.codec import head_and_tail, message_of
from dcengine.runner import staying

from .cell import Cell
from .errors import CellExited
from .item import as_written
from .showing import LiveDisplayHook, LivePublisher, show
from .tracebacks import GROUPS, of_the_cell

SETTINGS = {"config", "xmode", "colors", "pdb", "precision", "pprint"} | {
    "alias", "unalias", "autocall", "automagic", "autoawait", "autoreload", "load_ext", "unload_ext", "reload_ext",
}  # fmt: skip


class CellCompiler(CachingCompiler):
    """Knows the cell's source by the name that the notebook knows it by."""

    file = ""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return self.file or str(super().get_code_name(raw_code, transformed_code, number))

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        """Let tracebacks show the code as people wrote it."""
        return str(super().cache(as_written(transformed_code), number, raw_code or transformed_code))


class RemoteShell(InteractiveShell):
    """Runs cells of notebooks on a worker and says what they show in live messages."""

    display_pub_class = Type(LivePublisher)
    displayhook_class = Type(LiveDisplayHook)
    compiler_class = Type(CellCompiler)

    cell = Cell(source="", number=0, file="", names=b"", out=(), is_asked_for=False)
    compile: CellCompiler
    displayhook: LiveDisplayHook
    is_changed = False  #: a cell has set it up in its own way
    _failure: BaseException | None = None  #: what ended the cell, as people should see it
    _is_stopped = False  #: somebody interrupted the cell while it awaited something

    @classmethod
    def make(cls) -> RemoteShell:
        """Return this process's shell; it writes no history and reads no start-up files."""
        settings = Config()
        settings.HistoryManager.enabled = False
        if InteractiveShell.initialized():  # one that a job made before the first cell: IPython does so by itself
            InteractiveShell.instance().clear_instance()
        shell: RemoteShell = cls.instance(config=settings)
        shell.loop_runner = shell._run_in_new_loop
        return shell

    # ---- around a cell -----------------------------------------------------------------------

    @contextmanager
    def at_work(self, cell: Cell, module: ModuleType) -> Iterator[dict[str, Any]]:
        """Be ready for *cell* in the namespace of *module*, which is given; the shell forgets both at the end."""
        main = sys.modules["__main__"]
        sys.modules["__main__"] = module
        self._use(cell, module)
        try:
            yield module.__dict__
        finally:
            sys.modules["__main__"] = main
            self._use(RemoteShell.cell, ModuleType("__main__"))
            self._forget(cell)

    def _use(self, cell: Cell, module: ModuleType) -> None:
        self.cell, self._failure, self._is_stopped = cell, None, False
        self.user_module, self.user_ns = self.prepare_user_module(module)
        self.user_ns_hidden.clear()
        if self.history_manager is not None:
            self.history_manager.output_hist.clear()
        self.displayhook.source, self.displayhook.is_of_item = cell.source, cell.is_item
        self.displayhook._ = self.displayhook.__ = self.displayhook.___ = ""
        self.init_user_ns()
        self.user_ns["exit"] = self.user_ns["quit"] = _leave
        self.user_ns_hidden.update(exit=_leave, quit=_leave)
        self.execution_count = cell.number
        self.compile.reset_compiler_flags()
        self.compile.file = cell.file
        for file, (number, source) in cell.sources.items():
            self.compile._filename_map[file] = number
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        if cell.colors and cell.colors != self.colors:
            self.colors = cell.colors
            if hasattr(self.InteractiveTB, "set_colors"):  # IPython 8 does not tell it
                self.InteractiveTB.set_colors(cell.colors)

    def _forget(self, cell: Cell) -> None:
        """Let go of all that belongs to *cell*, for it may be large."""
        for file in (cell.file, *cell.sources) if not staying.name() else ():  # there, its functions live on
            linecache.cache.pop(file, None)
            self.compile._filename_map.pop(file, None)
        self.last_execution_result = None
        self.InteractiveTB.tb = None
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                delattr(sys, name)

    def run(self, cell: Cell) -> object:
        """Run *cell* and return the value of its last expression; raise what it raised."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="To exit: use")
            result = self.run_cell(cell.source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            error = self._failure or error
            raise error.with_traceback(of_the_cell(error.__traceback__, cell.file))
        return result.result

    def run_line_magic(self, magic_name: str, line: str, _stack_depth: int = 1) -> Any:
        """Run a magic, and note whether the next cell has to get another shell."""
        self.is_changed |= magic_name in SETTINGS
        return super().run_line_magic(magic_name, line, _stack_depth + 1)

    def debugger(self, force: bool = False) -> None:
        """Debug nothing: there is nobody to ask."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Accept what ``%matplotlib inline`` asks for; windows have no screen here."""
        if gui not in (None, "inline"):
            raise UsageError(f"a worker has no screen for windows of {gui}; %matplotlib inline shows figures here")

    # ---- errors ------------------------------------------------------------------------------

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        """Show the error without frames of ours, and by the name that people know it by."""
        _, error, frames = self._get_exc_info(exc_tuple)
        error = self._for_people(error).with_traceback(of_the_cell(frames, self.cell.file))
        if _has_group(error):  # IPython prints these rather than returning how they look
            self._showtraceback(type(error), error, "".join(traceback.format_exception(error)).splitlines())
            return
        options.update(tb_offset=0, exception_only=False)
        super().showtraceback((type(error), error, error.__traceback__), *args, **options)

    def _for_people(self, error: BaseException) -> BaseException:
        if isinstance(error, SystemExit):
            return CellExited("" if error.code in (None, 0) else str(error.code))
        if isinstance(error, KeyboardInterrupt) or (self._is_stopped and isinstance(error, asyncio.CancelledError)):
            return KeyboardInterrupt()
        return error

    def show_usage_error(self, exc: BaseException) -> None:
        """Say what was wrong with a magic."""
        self._showtraceback(type(exc), exc, [f"UsageError: {exc}"])

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self._failure = evalue
        lines = [head_and_tail(line) for line in stb]
        show("error", {"name": etype.__name__, "value": message_of(evalue), "traceback": lines})

    # ---- await at top level ------------------------------------------------------------------

    def _run_in_new_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run *coroutine* in a loop that ends with the cell, its forgotten tasks cancelled."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        task = loop.create_task(coroutine)
        try:
            try:
                return loop.run_until_complete(task)
            except KeyboardInterrupt:  # it met the loop, not the cell's own code
                if task.done():
                    raise
                self._is_stopped = True
                task.cancel()
                return loop.run_until_complete(task)
        finally:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _has_group(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, GROUPS) or _has_group(error.__context__))


def _leave(code: object = None) -> NoReturn:
    """End the cell; there is nothing else to exit on a worker."""
    raise SystemExit(code)
