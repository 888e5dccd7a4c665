"""The widgets of a remote cell in the notebook's kernel: between the front end and the cell's job.

The front end cannot tell them from the notebook's own. When the cell has ended they stay as they were last.
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from dcengine.errors import DcengineError
from dcengine.runner.displays import WIDGET_VIEW, without_widgets

from .comm_words import OF_THE_CELL, Word, decode_said, method_of
from .telling import Telling

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .relayed_comm import RelayedComm

logger = logging.getLogger(__name__)

MODEL = "IPY_MODEL_"  #: stands before the id of a model that another one refers to
ID = re.compile(r"[!-~]{1,200}")
REMEMBERED = 256  #: messages of the front end that may still be answered
ENDED = "the cell that made this widget has ended, so nothing answers it; run the cell again"


class RelayedComms:
    """The comms of one remote cell, as its notebook has them.

    A worker knows them by ids of its own making. Those are kept, unless something here has such an id already:
    so a worker reaches no comm but those that it has opened.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self.kernel: Any = getattr(shell, "kernel", None)  #: None where there is no front end
        self.parent: Any = None  #: the request that the cell is
        self._comms: dict[str, RelayedComm] = {}  #: by the worker's id
        self._ids: dict[str, str] = {}  #: ours, by the worker's
        self._asked: OrderedDict[str, Any] = OrderedDict()  #: headers of the front end's last messages, by their id
        self._telling: Telling | None = None
        self._lock = threading.Lock()
        self._is_noted = False

    # ---- what the worker says ----------------------------------------------------------------

    def say(self, text: str) -> None:
        """Say again what a comm of the worker says in *text*, a live message of its job."""
        if self.kernel is None:
            return
        try:
            self._take(decode_said(text))
        except (msgspec.MsgspecError, RecursionError):
            logger.warning("a worker says nonsense of a widget: %.200r", text)

    def _take(self, word: Word) -> None:
        if word.what == "open":
            self._open(word)
        elif word.id in self._comms:
            self._follow(self._comms[word.id], word)

    def shown(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the mime bundle *data* with its live widget, if that is one of the worker's own."""
        view = data.get(WIDGET_VIEW)
        if view is None:
            return dict(data)
        id = view.get("model_id") if isinstance(view, dict) else None
        if isinstance(id, str) and id in self._comms:
            return {**data, WIDGET_VIEW: {**view, "model_id": self._ids[id]}}
        is_translated = any(id == one.comm_id for one in self._comms.values())
        return dict(data) if is_translated else without_widgets(data)

    def _open(self, word: Word) -> None:
        if word.id in self._comms or not ID.fullmatch(word.id):
            return
        from .relayed_comm import RelayedComm  # the kernel has what it needs

        if self.parent is None:
            self.parent = self._shell.get_parent()  # type: ignore[attr-defined]  # a kernel's shell
        self._comms[word.id] = one = RelayedComm(self, word, self._id_of(word.id))
        one.begin(self._translated(word.data), word)

    def _follow(self, one: RelayedComm, word: Word) -> None:
        if word.what == "unknown":
            one.is_deserted = True
            self.note_end()
        elif word.what == "close":
            del self._comms[word.id]
            one.end(word)
        else:
            one.say(self._translated(word.data), word, self._asked.get(word.asked) or self.parent)

    # ---- what is whose -----------------------------------------------------------------------

    def _id_of(self, remote: str) -> str:
        """Return the id that the worker's comm *remote* has here."""
        if remote not in self._ids:
            is_taken = remote in self.kernel.comm_manager.comms
            self._ids[remote] = uuid.uuid4().hex if is_taken else remote
        return self._ids[remote]

    def _translated(self, data: Any) -> Any:
        """Return *data* of the worker's with our ids for models, and this cell for what stands for it."""
        data = with_models(data, self._id_of)
        state = data.get("state") if isinstance(data, dict) else None
        if isinstance(state, dict) and isinstance(state.get("msg_id"), str):  # whose output a widget captures
            is_meant = state["msg_id"] == OF_THE_CELL
            state["msg_id"] = (self.parent.get("header") or {}).get("msg_id", "") if is_meant else ""
        return data

    def _translated_back(self, data: Any) -> Any:
        theirs = {ours: theirs for theirs, ours in self._ids.items() if ours != theirs}
        return with_models(data, lambda id: theirs.get(id, id)) if theirs else data

    # ---- what the front end says -------------------------------------------------------------

    def reach(self, tell: Callable[[bytes], bool]) -> None:
        """Let the front end's messages go to the job by *tell*, until `leave`."""
        self._telling = Telling(tell, on_lost=self._note_lost, on_error=self._note_error)

    def leave(self) -> None:
        """Keep what there is; the cell has ended, or nobody follows it any more."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.close()

    def tell(self, word: Word, asked: Mapping[str, Any]) -> bool:
        """Send *word*, which the front end says in a message *asked*, to the job; return False if nobody is there."""
        telling = self._telling
        if telling is None:
            return False
        with self._lock:
            self._asked[word.asked] = asked
            while len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
        telling.say(msgspec.structs.replace(word, data=self._translated_back(word.data)))
        return True

    def note_end(self) -> None:
        """Say, once, that the cell has ended for which something was meant."""
        if not self._is_noted:
            self._is_noted = True
            self._note(ENDED)

    def _note_lost(self, words: list[Word]) -> None:
        """Take note that nobody hears *words* any more; a slider that was moved has no need of that."""
        if any(word.what == "msg" and method_of(word.data) != "update" for word in words):
            self.note_end()

    def _note_error(self, error: DcengineError) -> None:
        self._note(f"a widget's message did not reach its cell: {error}")

    def _note(self, text: str) -> None:
        """Say *text* in the cell, from whatever thread."""
        self.send("stream", {"name": "stderr", "text": f"{text}\n"}, parent=self.parent)

    def send(self, kind: str, content: Mapping[str, Any], *, parent: Any, **more: Any) -> None:
        """Send a message to all front ends."""
        self.kernel.session.send(self.kernel.iopub_socket, kind, content, parent=parent, **more)


def with_models(data: Any, id_of: Callable[[str], str]) -> Any:
    """Return a copy of *data* in which models are referred to by what *id_of* makes of their ids."""
    if isinstance(data, dict):
        return {key: with_models(one, id_of) for key, one in data.items()}
    if isinstance(data, list):
        return [with_models(one, id_of) for one in data]
    if isinstance(data, str) and data.startswith(MODEL):
        return MODEL + id_of(data.removeprefix(MODEL))
    return data
