"""The warm child process of a slot: runs unit after unit until its slot is gone.

Nothing that user code does may leave this loop: an exception becomes a failure, a signal becomes
an exception only while user code runs. What ends the process itself, the slot explains.
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import NoReturn

import msgspec

from .. import codec
from . import capture, live, staying, told
from .bindings import environment
from .calls import Calls, Functions, Gate
from .descriptors import Descriptors
from .journal import Journal
from .surroundings import Surroundings
from .units import Ending, Live, Unit, UnitReport
from .wire import Kind, frame

PR_SET_PDEATHSIG = 1  #: from <sys/prctl.h>


class Interrupted(KeyboardInterrupt):
    """Somebody asked the running call to stop."""


class OutOfTime(KeyboardInterrupt):
    """The running call took longer than its time-out.

    A KeyboardInterrupt, because the libraries that call user code (asyncio, subprocess, pools)
    let exactly that pass and clean up after it.
    """


class SignalGate(Gate):
    """Turns SIGINT and SIGALRM into exceptions, only while user code runs; one that ends the call comes once.

    Used as a context manager it is a shield: a signal in there waits for its end, so that no
    message to the slot is cut in two.
    """

    how_timed_out = "interrupted"

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._is_open = False
        self._shields = 0
        self._waiting: KeyboardInterrupt | None = None
        self._signals_met = 0
        self._main_thread = threading.get_ident()
        self.may_begin = journal.may_begin  # type: ignore[method-assign]  # called for each item: nothing in between

    def listen(self) -> None:
        """Take the signals, whatever a unit did to them."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def begin_unit(self) -> None:
        """Be ready for a unit."""
        self.is_asked = self._journal.is_asked  # the signal may have come before the unit

    def open(self, timeout: float | None) -> None:
        self.is_late = False
        self._waiting = None
        self._timeout = timeout
        self._is_open = True  # before anything is asked or armed, so that no signal is lost
        if self.is_asked:
            self._raise(Interrupted())
        if timeout is not None:
            self._journal.began = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, max(timeout, 1e-6))
        self._raise_interrupt()

    def close(self) -> None:
        self._is_open = False
        if self._timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_interrupt(self, number: int, where: FrameType | None) -> None:
        if self._signals_met == self._journal.signals:
            self._raise(KeyboardInterrupt())  # user code sent it to its own process
            return
        self._signals_met += 1
        if self._journal.is_asked:  # else it was meant for a unit that has ended
            self.is_asked = True
            self._raise(Interrupted())
        else:
            self._raise_interrupt()

    def _raise_interrupt(self) -> None:
        """Raise the KeyboardInterrupt that somebody asked for, if so; before the call begins it is kept for that."""
        if self._is_open and self._journal.take_interrupt():
            self._raise(KeyboardInterrupt())

    def _on_alarm(self, number: int, where: FrameType | None) -> None:
        if self._is_open and self._timeout is not None:
            self.is_late = True
            self._raise(OutOfTime())

    def _raise(self, error: KeyboardInterrupt) -> None:
        if not self._is_open:
            return
        if self._shields:
            self._waiting = error
            return
        # Code may catch a plain KeyboardInterrupt and go on; the others are the end of the call.
        self._is_open = type(error) is KeyboardInterrupt
        raise error

    def __enter__(self) -> None:
        # Only the main thread meets signals, so only its shields count.
        if threading.get_ident() == self._main_thread:
            self._shields += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if threading.get_ident() != self._main_thread:
            return
        self._shields -= 1
        if self._waiting is not None and not self._shields:
            waiting, self._waiting = self._waiting, None
            self._raise(waiting)


class Child:
    """One slot's child, on this side of the process border."""

    def __init__(self, connection: socket.socket, journal: Journal, pipes: Sequence[int], worker: str) -> None:
        self._connection, self._journal, self._worker = connection, journal, worker
        frames = io.BufferedReader(connection.makefile("rb", buffering=0), 64 * 1024)
        self._functions = Functions()
        self._decoder = msgspec.msgpack.Decoder(Unit)
        self._encode = msgspec.msgpack.Encoder().encode
        self._gate = SignalGate(journal)
        self._channel = live.LiveChannel(self._emit, shield=self._gate, journal=journal)
        self._channel.aside = self._descriptors = Descriptors(pipes, self._channel, journal)
        self._inbox = told.Inbox(frames, self._channel.is_at)
        self._endings = bytearray()
        self._values: list[bytes] = []
        self._reported = 0
        self._sending = threading.Lock()
        self._surroundings = Surroundings()
        self._shown: dict[str, str] = {}
        capture.capture()
        capture.speak_by_lines()
        self._streams = sys.stdout, sys.stderr
        live.use_in_this_process(self._channel)
        told.use_in_this_process(self._inbox)
        staying.belong_to(worker)
        os.register_at_fork(after_in_child=self._become_a_copy)

    def serve(self) -> None:
        """Run units until the slot closes the connection."""
        while True:
            self._make_ready()
            try:
                body = self._inbox.next()
            except (EOFError, ConnectionError):
                return
            self._run(self._decoder.decode(body))

    def _make_ready(self) -> None:
        """Put right what a unit has left otherwise; after its report, so that the next one need not wait for it."""
        sys.stdout, sys.stderr = self._streams
        if not staying.name():
            self._surroundings.restore()
        self._gate.listen()

    def _run(self, unit: Unit) -> None:
        self._reported = 0
        self._journal.restart(0)
        self._journal.forget_text(0)
        self._gate.begin_unit()
        self._show(unit.devices)
        if unit.session:
            staying.be(unit.session)
        self._channel.begin(unit.id, unit.output_limit)
        started = time.perf_counter()
        calls = Calls(
            unit,
            self._functions,
            self._ask_for_code,
            worker=self._worker,
            gate=self._gate,
            channel=self._channel,
            keep=self._keep,
        )
        calls.run()
        if self._gate.is_forked:
            _end_copy()
        seconds = time.perf_counter() - started
        session = "" if unit.session else staying.name()
        self._send_report(Kind.REPORT, seconds=seconds, lines=self._channel.end(), session=session)

    def _show(self, devices: Mapping[str, Sequence[int]]) -> None:
        """Let user code see *devices* and no others; a child has the same ones for all its life."""
        if devices:
            self._shown = self._shown or environment(devices, os.environ)
            os.environ.update(self._shown)  # again: the unit before may have set them otherwise

    def _keep(self, ending: Ending, value: bytes) -> None:
        fits = self._journal.append(ending, value)
        if not fits:
            self._send_part()
            fits = self._journal.append(ending, value)
        self._endings.append(ending)
        self._values.append(value)
        if not fits:
            self._send_part()

    def _send_part(self) -> None:
        if self._values:
            self._send_report(Kind.PART)
            self._journal.restart(self._reported)

    def _send_report(self, kind: Kind, *, seconds: float = 0.0, lines: int = 0, session: str = "") -> None:
        values, endings = codec.pack(self._values), bytes(self._endings)
        report = UnitReport(endings=endings, values=values, seconds=seconds, lines=lines, session=session)
        self._send(kind, self._encode(report))
        self._reported += len(self._values)
        self._endings.clear()
        self._values.clear()

    def _ask_for_code(self) -> bytes:
        self._send(Kind.NEED_CODE, b"")
        return self._inbox.next()

    def _emit(self, message: Live) -> None:
        self._send(Kind.LIVE, self._encode(message))

    def _send(self, kind: Kind, body: bytes) -> None:
        with self._sending:
            for piece in frame(kind, body):
                self._connection.sendall(piece)

    def _become_a_copy(self) -> None:
        """Keep a process that user code forked from speaking for the one it came from."""
        if self._gate.is_forked:
            return  # a copy of a copy
        self._gate.is_forked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        live.use_nowhere()
        told.use_nowhere()
        self._descriptors.leave()
        os.close(self._connection.detach())


def main(connection: int, memory: int, pipes: Sequence[int], worker: str, *, server: int) -> NoReturn:
    """Be the child of the slot at the other end of *connection* and *pipes*, in a process just forked by *server*."""
    os.setsid()  # so that all that user code starts can be ended with this process
    _die_with(server)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # SIGINT stays ignored until the gate stands: one that comes before is found in the journal.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _seed_anew()
    journal = Journal(memory)
    faulthandler.enable(journal.crash_file(), all_threads=False)
    os.close(memory)
    Child(socket.socket(fileno=connection), journal, pipes, worker).serve()
    os._exit(0)


def _die_with(parent: int) -> None:
    """Have the system kill this process when *parent* ends (Linux; elsewhere the closed connection has to do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def _seed_anew() -> None:
    """Give numpy's global generator a seed of its own: all children are forked with the same one."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _end_copy() -> NoReturn:
    """End a forked copy that came back from the call it was made in."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(0)
