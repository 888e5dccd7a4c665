"""The comms that a cell on a worker opens: what its widgets say becomes live messages, what they are told comes back.

Loaded where the ``comm`` package is there. What the front end says while the cell runs is heard in a thread beside
it: so ``observe`` and ``on_click`` callbacks of the cell run there, one after the other.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import comm
import msgspec
from comm.base_comm import BaseComm, CommManager

from dcengine.errors import PayloadTooLarge
from dcengine.runner import told
from dcengine.runner.live import INTERVAL, SHOW_LIMIT

from .comm_words import CONTROL, OF_THE_CELL, WIDGET, Word, decode_words, method_of
from .old_comms import Patches
from .showing import show

OF_WIDGETS = (WIDGET, CONTROL)  #: targets that ipywidgets registers wherever it is imported
WHAT = {"comm_open": "open", "comm_msg": "msg", "comm_close": "close"}

_homes: list[RemoteComms] = []  #: that of the cell which runs, at most one


class Notebook:
    """Stands for the kernel of the notebook where a widget asks its comm for one."""

    def get_parent(self) -> dict[str, Any]:
        """Return what stands for the request that the cell was: an Output widget captures what belongs to it."""
        return {"header": {"msg_id": OF_THE_CELL}}


class RemoteComm(BaseComm):
    """A comm whose other end is in the front end of a notebook elsewhere."""

    kernel = Notebook()

    def __init__(self, home: RemoteComms, *args: Any, **options: Any) -> None:
        self.home = home
        super().__init__(*args, **options)

    def __reduce__(self) -> Any:
        raise TypeError("a widget lives only where it was made; take its value")

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        """Send a message to the front end; called for each, by the methods of every comm."""
        self.home.say(word_of(self, msg_type, data, metadata, buffers, keys))

    def handle_msg(self, msg: dict[str, Any]) -> None:
        """Hear a message of the front end; nothing else happens around it, such as figures being shown half made."""
        if self._msg_callback:
            self._msg_callback(msg)


class RemoteComms(CommManager):
    """The comms of one cell, from its beginning to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False
        self._shown: set[str] = set()  #: comms that the notebook has heard of
        self._noted: set[str] = set()
        self._listening: told.Listening | None = None
        self._answering = threading.local()
        self._lock = threading.RLock()
        self._held: dict[str, Word] = {}  #: updates that wait a moment for more, by comm
        self._updated: dict[str, float] = {}  #: when a comm's last update went out

    def is_shown(self, id: object) -> bool:
        """Tell whether the notebook has the model called *id*."""
        return id in self._shown

    def say(self, word: Word) -> None:
        """Send *word* to the notebook, after all that was said before.

        Updates that follow close upon each other become one: a bar in a fast loop would fill the job's transcript.
        """
        with self._lock:
            if self.is_over or (word.what not in ("open", "unknown") and word.id not in self._shown):
                return
            if not is_mere_update(word):
                self._send_held()
                self._send(word)
            elif (held := self._held.get(word.id)) is not None:
                state = {**held.data["state"], **word.data["state"]}
                self._held[word.id] = msgspec.structs.replace(word, data={**word.data, "state": state})
            elif time.monotonic() - self._updated.get(word.id, 0.0) > INTERVAL:
                self._send(word)
                self._updated[word.id] = time.monotonic()
            else:
                self._hold(word)

    def _hold(self, word: Word) -> None:
        if not self._held:
            timer = threading.Timer(INTERVAL, self._send_held)
            timer.daemon = True
            timer.start()
        self._held[word.id] = word

    def _send_held(self) -> None:
        with self._lock:
            held, self._held = self._held, {}
            for word in held.values():
                self._send(word)
                self._updated[word.id] = time.monotonic()

    def _send(self, word: Word) -> None:
        if word.what == "open":
            self._listen()
            self._shown.add(word.id)
        elif word.what == "close":
            self._shown.discard(word.id)
        if method_of(word.data) == "echo_update":
            word = msgspec.structs.replace(word, asked=getattr(self._answering, "id", ""))
        try:
            show("comm", word)
        except PayloadTooLarge as error:
            if word.what == "open":
                self._shown.discard(word.id)
            self._note(
                f"what a widget shows has {error.size:,} bytes, and the limit is {SHOW_LIMIT:,}: it stays on the worker"
            )

    def register_target(self, target_name: str, f: Any) -> None:
        """Note that the front end cannot open a comm to a worker: it would have to be there before, and after."""
        super().register_target(target_name, f)
        if target_name not in OF_WIDGETS:
            self._note(
                f"comms that the front end opens cannot be relayed: nothing will open {target_name!r} on a worker; "
                "register it in a cell that runs in the notebook, or open the comm from this cell"
            )

    def close(self) -> None:
        """Let go of all comms; their models stay in the notebook as they are."""
        if self._listening is not None:
            self._listening.close()
        self._send_held()
        self.is_over = True
        widgets = getattr(sys.modules.get("ipywidgets.widgets.widget"), "_instances", {})
        for id, one in list(self.comms.items()):
            one._closed = True  # else the end of its widget would end the model too
            widgets.pop(id, None)
        self.comms.clear()

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            print(text, file=sys.stderr)

    # ---- what the front end says -------------------------------------------------------------

    def _listen(self) -> None:
        if self._listening is None:
            self._listening = told.listen(self._hear)

    def _hear(self, message: bytes) -> None:
        for word in decode_words(message):
            one = self.comms.get(word.id)
            if one is None:
                self.say(Word(what="unknown", id=word.id))
                continue
            self._answering.id = word.asked
            content = {"comm_id": word.id, "data": word.data}
            msg = {
                "header": {"msg_id": word.asked, "msg_type": f"comm_{word.what}"},
                "content": content,
                "metadata": word.metadata,
                "buffers": [memoryview(buffer) for buffer in word.buffers],
            }
            if word.what == "msg":
                one.handle_msg(msg)
            elif word.what == "close":
                self.comms.pop(word.id, None)
                self._shown.discard(word.id)
                one._closed = True
                one.handle_close(msg)


def word_of(one: BaseComm, msg_type: str, data: Any, metadata: Any, buffers: Any, keys: dict[str, Any]) -> Word:
    """Return what comm *one* says, as the package calls it."""
    return Word(
        what=WHAT[msg_type],  # type: ignore[arg-type]  # one of them
        id=one.comm_id,
        data={} if data is None else data,
        metadata=metadata or {},
        buffers=[bytes(buffer) for buffer in buffers or ()],
        target=keys.get("target_name") or "",
        module=keys.get("target_module"),
    )


def is_mere_update(word: Word) -> bool:
    """Tell whether *word* may be left out if a newer one says the same: nothing hangs on its moment."""
    if word.what != "msg" or word.buffers or method_of(word.data) != "update":
        return False
    state = word.data.get("state")
    return isinstance(state, dict) and "msg_id" not in state  # which says whose output is captured from now on


class StandIn:
    """Stands for a function of the ``comm`` package; where it travels to it is that function again."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (comm, self._name)


def _create_comm(*args: Any, **options: Any) -> BaseComm:
    return RemoteComm(_homes[0], *args, **options) if _homes else comm._create_comm(*args, **options)


def _comm_manager() -> CommManager:
    return _homes[0] if _homes else comm._get_comm_manager()


create_comm = StandIn("create_comm", _create_comm)
comm_manager = StandIn("get_comm_manager", _comm_manager)


def _relay_old_ones(module: ModuleType) -> None:
    """Have comms of ipykernel's class say what they say here: without a kernel they would say nothing."""
    module.BaseComm.publish_msg = _publish_old


def _publish_old(
    one: BaseComm, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
) -> None:
    if _homes:
        _homes[0].say(word_of(one, msg_type, data, metadata, buffers, keys))


def _stay(_: ModuleType) -> None:
    """Keep a cell's comms ours where ipykernel has just replaced them, as it does when it is imported."""
    if _homes:
        comm.create_comm, comm.get_comm_manager = create_comm, comm_manager


_patches = Patches({"ipykernel.comm.comm": _relay_old_ones, "ipykernel.ipkernel": _stay})


@contextmanager
def relayed() -> Iterator[RemoteComms]:
    """Let widgets that are made in here live in the notebook too."""
    _patches.install()
    before = comm.create_comm, comm.get_comm_manager
    home = RemoteComms()
    _homes[:] = [home]
    comm.create_comm, comm.get_comm_manager = create_comm, comm_manager
    try:
        yield home
    finally:
        home.close()
        _homes.clear()
        comm.create_comm, comm.get_comm_manager = before
