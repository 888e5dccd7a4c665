"""One kernel: its process, what it is doing, and the links of the front ends that speak with it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import zmq
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir

from ..tagged import tags_in
from .buffers import BYTES_AWAY
from .framing import Garbled, header_of
from .last_words import LastWords
from .links import Link
from .refusing import Refused
from .wires import Wire, nudge

logger = logging.getLogger(__name__)
# What it says of a kernel that fails to start, with a traceback for each step, is told by the answer in a sentence.
_quiet = logger.getChild("manager")
_quiet.setLevel(logging.CRITICAL + 1)

LOOK_SECONDS = 0.5  #: between two looks whether the process lives
CODE_SHOWN = 500  #: characters of what it runs
START_SECONDS = 60.0  #: that a kernel may take to say something
TRIES = 3  #: to start it, should a port that was free when it was chosen be taken by the time it listens
PORT_TAKEN = os.strerror(errno.EADDRINUSE)  #: what it says then
SHUTDOWN_SECONDS = 4.0  #: that it may take to end by itself, and after a signal
CRASHES, CRASH_SECONDS = 5, 60.0  #: so many in so short a time, and it is not started again
MOST_AWAY, AWAY_SECONDS = 16, 600.0  #: front ends that are away and may come back; who has said goodbye, for how long

GONE = 1001  #: closes a websocket for good


class _Parent(msgspec.Struct):
    msg_id: str = ""


class _State(msgspec.Struct):
    execution_state: str = ""


class _Input(msgspec.Struct):
    code: str = ""


_PARENT, _STATE, _INPUT = msgspec.json.Decoder(_Parent), msgspec.json.Decoder(_State), msgspec.json.Decoder(_Input)


class _OneSpec(KernelSpecManager):
    """Knows the kernelspec that was chosen, wherever that came from."""

    def __init__(self, spec: KernelSpec, **options: Any) -> None:
        super().__init__(**options)
        self._spec = spec

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self._spec


def _connection_file(id: str) -> str:
    folder = Path(jupyter_runtime_dir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder / f"kernel-{id}.json")


class Kernel:
    """A kernel that was started here; *id* is the same across its restarts."""

    def __init__(self, id: str, name: str, spec: KernelSpec, context: Any, *, is_admins: bool, whose: str = "") -> None:
        self.id, self.name = id, name
        self.language, self.whose = str(spec.language), whose
        self.started = time.time()  #: its process, the newest
        self.running: dict[str, tuple[str, float]] = {}  #: by request: how its code begins, and since when
        self.is_elsewhere = bool(tags_in(spec.metadata))  #: on a worker
        self.is_admins = is_admins  #: it acts with a token that may do everything
        self.last_activity = time.time()
        self.last_use = time.monotonic()  #: like it, and also when it had work or a front end was there
        self.links: dict[str, Link] = {}
        self._manager: Any = AsyncKernelManager(
            kernel_name=name, kernel_spec_manager=_OneSpec(spec), context=context, log=_quiet,
            shutdown_wait_time=SHUTDOWN_SECONDS, kernel_id=id, connection_file=_connection_file(id),
        )  # fmt: skip
        self._last_words = LastWords()
        self._group: int | None = None  #: of its process and what that has started, if it runs here
        self._busy: set[str] = set()  #: requests that it is at
        self._phase = "starting"
        self._heard = asyncio.Event()
        self._ear: Wire | None = None
        self._control: Wire | None = None
        self._is_ending = False
        self._turn = asyncio.Lock()  #: one start, restart or end at a time
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._watch: asyncio.Task[None] | None = None

    # ---- what it is ------------------------------------------------------------------------

    @property
    def short_id(self) -> str:
        """What the log calls it: a whole UUID would be taken for a secret there."""
        return self.id[:8]

    @property
    def state(self) -> str:
        """What it does, in Jupyter's words."""
        if self._phase != "running":
            return self._phase
        return "busy" if self._busy else "idle"

    @property
    def is_busy(self) -> bool:
        """Whether it runs something, or is about to."""
        return self.state in ("busy", "starting", "restarting")

    @property
    def connections(self) -> int:
        """How many websockets are open."""
        return sum(link.is_taken for link in self.links.values())

    # ---- its life --------------------------------------------------------------------------

    async def start(self, *, env: dict[str, str], cwd: str) -> None:
        """Start its process, and wait until it says something; raises `Refused` if it does not."""
        async with self._turn:
            out = self._last_words.opened()
            await self._launch(lambda: self._manager.start_kernel(
                env=env, cwd=cwd, stdout=out, stderr=out,
            ))  # fmt: skip
        self._watch = asyncio.get_running_loop().create_task(self._watch_it())

    async def restart(self) -> None:
        """End its process and start another; raises `Refused` if that fails."""
        async with self._turn:
            self._crashes.clear()
            await self._launch(lambda: self._manager.restart_kernel())

    async def interrupt(self) -> None:
        """Stop what runs; raises `Refused` for a kernel that is dead."""
        if self._phase == "dead":
            raise Refused(409, f"kernel {self.id} is dead; restart it, or start another", "dead")
        if self._phase == "running":
            try:
                await self._manager.interrupt_kernel()
            except RuntimeError as error:  # it has just ended
                raise Refused(409, f"kernel {self.id} cannot be interrupted: {error}") from error

    async def end(self, *, now: bool = False) -> None:
        """End its process, and its links with it."""
        self._is_ending = True
        if self._watch is not None:
            self._watch.cancel()
        async with self._turn:
            self._stop_hearing()
            self._die()
            await self.end_links(GONE, "the kernel has ended")
            try:
                await self._manager.shutdown_kernel(now=now)
            except Exception:  # of a provisioner, or of a process that could not be ended
                logger.warning("kernel %s did not end well", self.short_id, exc_info=True)
            self._end_group()
            self._last_words.close()

    async def end_links(self, code: int, reason: str) -> None:
        """Close all websockets, and have nobody come back."""
        links = list(self.links.values())
        self.links.clear()
        await asyncio.gather(*(link.end(code, reason) for link in links))

    async def _launch(self, start: Callable[[], Any]) -> None:
        """Have *start* bring a new process, with which all links connect."""
        if self._is_ending:
            raise Refused(409, f"kernel {self.id} is ending")
        self._phase = "restarting" if self._ear or self._phase == "dead" else "starting"
        self._stop_hearing()
        self._busy.clear()
        self.running.clear()
        self._heard.clear()
        try:
            await self._bring(start, TRIES)
        except Exception as error:  # of a provisioner, of the system, or of the kernel
            self._die()
            raise self._not_started(error) from error
        self._phase, self.started = "running", time.time()

    async def _bring(self, start: Callable[[], Any], tries: int) -> None:
        """Connect with the process that *start* brings; another one listens elsewhere if a port is taken by now."""
        self._last_words.forget()
        try:
            await start()
            self._group = getattr(self._manager.provisioner, "pgid", None)
            self._ear = Wire(self._manager.connect_iopub(), self._hear)
            self._control = Wire(self._manager.connect_control(), lambda *_: None)
            for link in self.links.values():
                link.open(self._manager)
            await self._until_heard()
        except ChildProcessError:
            if tries == 1 or self._is_ending or PORT_TAKEN not in self._last_words.text():
                raise
            self._stop_hearing()
            await self._bring(self._start_elsewhere, tries - 1)

    async def _start_elsewhere(self) -> None:
        """Start another process, on ports that are free now: `newports` of jupyter_client keeps those it has cached."""
        self._manager.provisioner.ports_cached = False
        self._manager.cleanup_connection_file()
        await self._manager.restart_kernel(now=True)

    async def _until_heard(self) -> None:
        """Wait for the first word of a new process; raises `ChildProcessError` if it ends before, or says none."""
        assert self._control is not None
        deadline = time.monotonic() + START_SECONDS
        nudging = asyncio.get_running_loop().create_task(nudge(self._manager.session, self._control, self._heard))
        try:
            while not nudging.done():
                await asyncio.wait([nudging], timeout=LOOK_SECONDS / 5)
                if self._is_ending or not await self._manager.is_alive():
                    raise ChildProcessError("its process ended at once")
                if time.monotonic() > deadline and not nudging.done():
                    raise ChildProcessError(f"it said nothing within {START_SECONDS:g} s")
        finally:
            nudging.cancel()

    def _not_started(self, error: Exception) -> Refused:
        if isinstance(error, Refused):
            return error
        said = self._last_words.text()
        reason = str(error) or type(error).__name__
        return Refused(
            500, f"kernel {self.name!r} did not start: {reason}" + (f"; it said: {said}" if said else ""), reason
        )

    def _stop_hearing(self) -> None:
        for wire in filter(None, (self._ear, self._control)):
            wire.close()
        self._ear = self._control = None
        for link in self.links.values():
            link.shut()

    # ---- crashes ---------------------------------------------------------------------------

    async def _watch_it(self) -> None:
        """Start its process again when that has ended by itself."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._phase == "running" and not self._turn.locked() and not await self._manager.is_alive():
                async with self._turn:
                    if self._phase == "running" and not await self._manager.is_alive():
                        await self._rise()

    async def _rise(self) -> None:
        self._crashes.append(time.monotonic())
        is_hopeless = len(self._crashes) == CRASHES and self._crashes[-1] - self._crashes[0] < CRASH_SECONDS
        self._end_group()
        logger.warning("kernel %s has crashed%s", self.short_id, " too often" if is_hopeless else "; it starts again")
        if is_hopeless:
            self._stop_hearing()
            self._die()
            return
        self.tell_state("restarting")
        try:
            await self._launch(self._start_again)
        except Refused as refused:
            logger.warning("%s", refused)

    async def _start_again(self) -> None:
        await self._manager.restart_kernel(now=True)
        self.tell_state("starting")  # it says so itself, but once, and perhaps before anybody hears it

    def _end_group(self) -> None:
        """End what a process that has ended left behind: it may hold a port, or the memory of a GPU."""
        group, self._group = self._group, None
        if group is not None and group != os.getpgrp():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _die(self) -> None:
        self._phase = "dead"
        self._busy.clear()
        self.running.clear()
        self.tell_state("dead")
        for link in self.links.values():
            link.give_up()

    def tell_state(self, state: str) -> None:
        """Tell all front ends of a *state* that the kernel cannot tell itself."""
        for link in self.links.values():
            link.say("status", {"execution_state": state})

    # ---- what it says ----------------------------------------------------------------------

    def _hear(self, topic: bytes, parts: list[bytes]) -> None:
        """Learn from what it says what it does."""
        self._heard.set()
        if self._manager.session.session.encode() in parts[1]:
            return  # of a question of ours
        self._note_activity()
        try:
            kind = header_of(parts).msg_type
            if kind == "execute_input":
                self._note_input(parts)
            if kind != "status":
                return
            state, parent = _STATE.decode(parts[3]).execution_state, _PARENT.decode(parts[1]).msg_id
        except (Garbled, ValueError, RecursionError):
            return
        if state == "busy":
            self._busy.add(parent)
        elif state == "idle":
            self._busy.discard(parent)
            self.running.pop(parent, None)
        if topic.endswith(b".status") and self._ear is not None:
            self._ear.narrow(topic, topic.removesuffix(b"status") + b"execute_input")  # what it prints is for the links

    def _note_input(self, parts: list[bytes]) -> None:
        """Take note of the code that it begins to run."""
        parent, code = _PARENT.decode(parts[1]).msg_id, _INPUT.decode(parts[3]).code
        if parent in self._busy:
            self.running[parent] = code[:CODE_SHOWN], time.time()

    def _note_activity(self) -> None:
        self.last_activity = time.time()
        self.last_use = time.monotonic()

    # ---- front ends ------------------------------------------------------------------------

    def link(self, session_id: str) -> Link:
        """Return the link of *session_id*, a new one where there is none yet."""
        link = self.links.get(session_id)
        if link is None:
            self._forget_those_away()
            link = Link(session_id, self._note_activity)
            self.links[link.session_id] = link
            if self._phase == "dead":
                link.give_up()
            elif self._ear is not None:
                self._connect(link)
        if self._phase == "dead":
            link.say("status", {"execution_state": "dead"})
        return link

    def _connect(self, link: Link) -> None:
        try:
            link.open(self._manager)
        except (zmq.ZMQError, OSError) as error:
            self._forget(link)
            raise Refused(503, f"no connection to kernel {self.id}: {error}; close notebooks first", "full") from error

    def left(self, link: Link) -> None:
        """Forget *link*, whose websocket has gone, if nobody can come back to it."""
        if not link.is_named and not link.is_taken:
            self._forget(link)
        self._share_room()

    def _share_room(self) -> None:
        """Keep for all who are away no more than for two: whoever reloads a page often leaves many behind."""
        away = self._away()
        for number, link in enumerate(away, start=1):
            link.keep_at_most(BYTES_AWAY if number == len(away) else BYTES_AWAY // (len(away) - 1))

    def _away(self) -> list[Link]:
        """Return who is away, the longest first."""
        return sorted((link for link in self.links.values() if not link.is_taken), key=lambda link: link.left)

    def _forget_those_away(self) -> None:
        """Forget who will hardly come back: what is kept for them takes memory."""
        away = self._away()
        late = time.monotonic() - AWAY_SECONDS
        for place, link in enumerate(away):
            if place < len(away) - MOST_AWAY or (link.said_goodbye and link.left < late):
                self._forget(link)

    def _forget(self, link: Link) -> None:
        if self.links.get(link.session_id) is link:
            del self.links[link.session_id]
        link.forget()
