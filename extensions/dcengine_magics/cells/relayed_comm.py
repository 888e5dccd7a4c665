"""One comm of a remote cell in the notebook's kernel. Loaded where there is a kernel, which has ``comm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comm.base_comm import BaseComm

from . import control
from .comm_words import WIDGET, Word, method_of
from .mirror import Mirror

if TYPE_CHECKING:
    from .comms import RelayedComms

UPDATES = ("update", "echo_update")


class RelayedComm(BaseComm):
    """Passes on what its worker says, and mirrors it: the worker will be gone, the front end will ask again.

    Not ipykernel's own class: that sends the front end's answers to the thread that has sent last, and here it is the
    one that the remote cell keeps busy.
    """

    def __init__(self, home: RelayedComms, word: Word, id: str) -> None:
        super().__init__(
            target_name=word.target, target_module=word.module, comm_id=id, metadata=word.metadata, primary=False
        )
        self._home, self._remote_id = home, word.id
        self.mirror = Mirror() if word.target == WIDGET else None
        self.is_deserted = False  #: its process knows it no more

    # ---- what the worker says ----------------------------------------------------------------

    def begin(self, data: Any, word: Word) -> None:
        """Open it in the front end, as *word* of its worker says, with *data* in our terms."""
        manager = self._home.kernel.comm_manager
        if self.mirror is not None:
            control.answer_for_relayed(manager)
        manager.register_comm(self)
        self._note(data, word.buffers)
        self._send("comm_open", data, word, self._home.parent, target_name=word.target, target_module=word.module)

    def say(self, data: Any, word: Word, parent: Any) -> None:
        """Say *data*, in our terms what *word* of the worker says, as an answer to *parent*."""
        if method_of(data) in UPDATES:
            self._note(data, word.buffers)
        self._send("comm_msg", data, word, parent)

    def end(self, word: Word) -> None:
        """Close it in the front end, since its worker does."""
        self._home.kernel.comm_manager.comms.pop(self.comm_id, None)
        self._closed = True
        self._send("comm_close", word.data, word, self._home.parent)

    def _note(self, data: Any, buffers: list[bytes]) -> None:
        if self.mirror is not None and isinstance(data, dict):
            self.mirror.take(data.get("state"), data.get("buffer_paths"), buffers)

    def _send(self, kind: str, data: Any, word: Word, parent: Any, **keys: Any) -> None:
        self.publish_msg(kind, data, word.metadata, word.buffers, parent=parent, **keys)

    def publish_msg(
        self,
        msg_type: str,
        data: Any = None,
        metadata: Any = None,
        buffers: Any = None,
        *,
        parent: Any = None,
        **keys: Any,
    ) -> None:
        """Send a message to the front end."""
        content = {"data": {} if data is None else data, "comm_id": self.comm_id, **keys}
        more = {"metadata": metadata or {}, "ident": self.topic, "buffers": buffers or []}
        self._home.send(msg_type, content, parent=parent or self._home.parent, **more)

    # ---- what the front end says -------------------------------------------------------------

    def handle_msg(self, msg: dict[str, Any]) -> None:
        """Hear a message of the front end; called by the kernel, in whatever thread it gets it."""
        data = msg["content"].get("data")
        buffers = [bytes(buffer) for buffer in msg.get("buffers") or ()]
        method = method_of(data) if self.mirror is not None else None
        if method == "request_state":
            self._give_state(msg)
            return
        if method == "update":
            self._note(data, buffers)
        word = Word(what="msg", id=self._remote_id, data=data, metadata=msg.get("metadata") or {},
                    buffers=buffers, asked=msg["header"]["msg_id"])  # fmt: skip
        if not self.is_deserted and self._home.tell(word, msg):
            return
        if method == "update":  # the front end waits for its own word, and other front ends want it
            echo = {**data, "method": "echo_update"}
            self.publish_msg("comm_msg", echo, {}, buffers, parent=msg)
        else:
            self._home.note_end()

    def handle_close(self, msg: dict[str, Any]) -> None:
        """Let go of it: the front end has closed it."""
        data = msg["content"].get("data")
        self._home.tell(Word(what="close", id=self._remote_id, data=data, asked=msg["header"]["msg_id"]), msg)

    def _give_state(self, msg: dict[str, Any]) -> None:
        assert self.mirror is not None
        state, paths, buffers = self.mirror.given()
        self.publish_msg(
            "comm_msg", {"method": "update", "state": state, "buffer_paths": paths}, {}, buffers, parent=msg
        )
