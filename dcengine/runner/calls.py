"""The calls of one unit, one after the other: load, call, pack the result, or tell what went wrong."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from .. import buffered, codec, references
from ..codec import Failure, failure_from, flag_from, loads, pack_failure, unpack
from ..errors import DcengineError, InvalidInput, MissingPackage, TaskTimeout
from ..modules import Accompanied
from . import exchange, values
from .live import LiveChannel
from .units import Ending, Unit

FUNCTIONS_KEPT = 64  #: loaded functions that one slot remembers
OUR_FILES = frozenset(
    module.__file__ for module in (sys.modules[__name__], exchange, values, codec, buffered, references)
)  #: whose frames around a call tell the user nothing


class Gate:
    """Knows when user code runs, and whether it ran too long or is to stop.

    This one only looks at the clock: threads cannot be interrupted. The child has one that can.
    """

    how_timed_out = "only noticed at its end, because it ran in a thread"
    is_forked = False  #: this process is a copy that user code made

    def __init__(self) -> None:
        self.is_asked = False  #: the unit is to stop
        self.is_late = False  #: the current call ran longer than its time-out
        self.is_cut = False  #: no further call of the unit is to begin
        self.item = 0  #: index of the call that runs, or is about to
        self._began = 0.0
        self._timeout: float | None = None

    def may_begin(self, item: int) -> bool:
        """Tell whether call *item* is to be begun; called before each call."""
        self.item = item  # before the look: who cuts looks here after it
        return not self.is_cut

    def open(self, timeout: float | None) -> None:
        """Let user code begin; called before each call."""
        self.is_late = False
        self._timeout = timeout
        if timeout is not None:
            self._began = time.monotonic()

    def close(self) -> None:
        """Note that user code has ended; called at least once after each call."""
        if self._timeout is not None and time.monotonic() - self._began > self._timeout:
            self.is_late = True


class Functions:
    """Loaded functions by their digest; what was not used for longest is dropped."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()

    def get(self, digest: bytes) -> Callable[..., Any] | None:
        """Return the function if it is loaded."""
        function = self._loaded.get(digest)
        if function is not None:
            with suppress(KeyError):  # another thread has just dropped it
                self._loaded.move_to_end(digest)
        return function

    def load(self, digest: bytes, code: bytes) -> Callable[..., Any]:
        """Return the function in *code*, ready to be called; this runs user code."""
        loaded = loads(code)
        is_accompanied = isinstance(loaded, Accompanied)
        function, needs = (loaded.function, loaded.needs) if is_accompanied else (loaded, None)
        ready: Callable[..., Any] = _blocking(function) if _is_coroutine_function(function) else function
        if needs is not None:
            ready = _after(needs, ready)
        ready = self._loaded.setdefault(digest, ready)  # another thread may have been quicker
        if len(self._loaded) > FUNCTIONS_KEPT:
            self._loaded.popitem(last=False)
        return ready


class Calls:
    """The calls of *unit*; *keep* learns how each one ended, in order."""

    def __init__(
        self,
        unit: Unit,
        functions: Functions,
        code: Callable[[], bytes],
        *,
        worker: str,
        gate: Gate,
        channel: LiveChannel,
        keep: Callable[[Ending, bytes], None],
    ) -> None:
        self._unit, self._functions = unit, functions
        self._worker, self._gate, self._channel, self._keep = worker, gate, channel, keep
        self._function = functions.get(unit.function)
        self._code = b"" if self._function is not None else code()
        self._take, self._give = exchange.taker(unit.takes), exchange.giver(unit)
        self._load_failure: bytes | None = None

    def run(self) -> None:
        """Run the calls until the last one, or until somebody asks to stop."""
        with values.loaded.of(self._unit):
            self._run_all()

    def _run_all(self) -> None:
        gate, channel, keep = self._gate, self._channel, self._keep
        succeeded, failures = Ending.SUCCEEDED, 0  # in a row
        for item, packed in enumerate(unpack(self._unit.items)):
            if gate.is_asked or not gate.may_begin(item):
                return
            channel.item = item
            ending, value = self._run_one(packed)
            if gate.is_forked:
                return
            channel.end_item()
            keep(ending, value)
            if ending is succeeded:
                failures = 0
            else:
                failures += 1
                if failures == self._unit.patience:
                    return

    def _run_one(self, packed: bytes) -> tuple[Ending, bytes]:
        if self._load_failure is not None:
            return Ending.RAISED, self._load_failure
        gate = self._gate
        # A signal may still raise inside the first close(), which then counts as part of the call;
        # a gate that raised is closed, so nothing can raise after the outer except has begun.
        try:
            try:
                value = self._value(packed)
            finally:
                gate.close()
        except BaseException as error:
            gate.close()
            return self._ending_of(error)
        if gate.is_late:
            return Ending.TIMED_OUT, pack_failure(failure_from(self._timeout()))
        return (Ending.INTERRUPTED, b"") if gate.is_asked else (Ending.SUCCEEDED, value)

    def _value(self, packed: bytes) -> bytes:
        self._gate.open(self._unit.timeout)
        function = self._function
        if function is None:
            function = self._function = self._functions.load(self._unit.function, self._code)
        args, kwargs = self._take(packed)
        return self._give(function(*args, **kwargs))

    def _ending_of(self, error: BaseException) -> tuple[Ending, bytes]:
        gate = self._gate
        if gate.is_late:
            return Ending.TIMED_OUT, pack_failure(_with_traceback(self._timeout(), error))
        if gate.is_asked:
            return Ending.INTERRUPTED, b""
        if isinstance(error, InvalidInput) and self._function is not None:
            return Ending.FLAGGED, pack_failure(_described(error, flag_from))
        failure = pack_failure(self._failure(error))
        if self._function is None:
            self._load_failure = failure  # the next calls would meet the same, perhaps slowly
        return Ending.RAISED, failure

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return _with_traceback(MissingPackage(error.name, self._worker, self._unit.name), error)
        return _described(error)

    def _timeout(self) -> TaskTimeout:
        return TaskTimeout(self._unit.timeout or 0.0, self._gate.how_timed_out)


def _with_traceback(ours: DcengineError, error: BaseException) -> Failure:
    return msgspec.structs.replace(failure_from(ours), traceback=_described(error).traceback)


def _described(error: BaseException, as_data: Callable[..., Failure] = failure_from) -> Failure:
    try:
        return as_data(error, skip_frames=_our_frames(error))
    except BaseException as broken:  # the exception's own methods are user code, and may do anything
        return Failure(type(error).__qualname__, f"(it could not be described: {type(broken).__name__})")


def _our_frames(error: BaseException) -> int:
    """Return how many of the outermost frames are not the user's."""
    count, at = 0, error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename in OUR_FILES:
        count, at = count + 1, at.tb_next
    # An error of ours that we raised needs no traceback: its message says it all.
    return 0 if at is None and isinstance(error, DcengineError) else count


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _after(needs: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* as one that has its modules at hand."""

    def run(*args: Any, **kwargs: Any) -> Any:
        needs()
        return function(*args, **kwargs)

    return run


def _blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function*, which is a coroutine function, as one that blocks."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return run
