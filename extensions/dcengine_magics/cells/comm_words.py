"""What the two ends of a widget say to each other, on its way between a worker and a notebook; for both sides."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

WIDGET = "jupyter.widget"  #: the target of comms that are models of widgets
CONTROL = "jupyter.widget.control"  #: the target of the comm by which front ends ask for all models
OF_THE_CELL = "dcengine:cell"  #: stands for the id of the request that the cell was, which only its notebook knows


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of a comm."""

    what: Literal["open", "msg", "close", "unknown"]  #: the last: nobody here knows that comm, says the worker
    id: str  #: of the comm
    data: Any = {}  #: of widgets a dict with a method
    metadata: dict[str, Any] = {}
    buffers: list[bytes] = []
    target: str = ""  #: who opens it in the front end
    module: str | None = None  #: where that is found
    asked: str = ""  #: the id of the front end's message that this belongs to


def method_of(data: object) -> object:
    """Return what a widget's message *data* is for; None for one that is no widget's."""
    return data.get("method") if isinstance(data, dict) else None


encode_words = msgspec.msgpack.Encoder().encode
decode_words = msgspec.msgpack.Decoder(list[Word]).decode
decode_said = msgspec.json.Decoder(Word).decode
