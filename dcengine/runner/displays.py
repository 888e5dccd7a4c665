"""What IPython's ``display`` shows in a function: without a shell it prints, and here it is known by that.

IPython is never imported here: it is there, or nobody displays anything.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from types import FrameType
from typing import Any

import msgspec

from .live import LiveChannel

WRITER = "IPython.core.display_functions"
PUBLISHER = "IPython.core.displaypub"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  #: a live widget, whose partner would be in a notebook

_formatters: list[Any] = []  #: at most one


def take(writer: FrameType, text: str, channel: LiveChannel) -> bool:
    """Show through *channel* what *writer*, a function of IPython, prints the text form of; return whether it did."""
    given = writer.f_locals
    if writer.f_code.co_name == "clear_output":
        return _clear(channel, text, given)
    if writer.f_code.co_name != "display":
        return False
    if text == "\n":  # the end of what it prints
        for value in given["objs"]:
            _display(channel, value, given)
    return True


def take_published(writer: FrameType, text: str, channel: LiveChannel) -> bool:
    """Show through *channel* the bundle whose text form *writer*, a shell without a front, prints."""
    given = writer.f_locals
    if writer.f_code.co_name == "clear_output":
        return _clear(channel, text, given)
    if writer.f_code.co_name != "publish":
        return False
    if text == "\n":
        _publish(channel, given["data"], given["metadata"], given["transient"], is_update=given["update"])
    return True


def show(channel: LiveChannel, kind: str, content: Mapping[str, Any] | msgspec.Struct) -> None:
    """Say *content* in a live message of *kind*, after all text printed before."""
    channel.show(kind, msgspec.json.encode(content, enc_hook=_plain))


def without_widgets(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mime bundle *data* without its live widget, which has no partner where this is shown."""
    return {mime: content for mime, content in data.items() if mime != WIDGET_VIEW}


def _clear(channel: LiveChannel, text: str, given: Mapping[str, Any]) -> bool:
    if text:  # it prints twice, and nothing after each
        show(channel, "clear", {"wait": bool(given["wait"])})
    return True


def _display(channel: LiveChannel, value: object, given: Mapping[str, Any]) -> None:
    """Show *value* as the arguments *given* to ``display`` ask for it."""
    transient = dict(given["transient"] or {})
    if given["display_id"]:
        transient["display_id"] = str(given["display_id"])
    data, metadata = (value, {}) if given["raw"] else _looks_of(value, given)
    if data:  # else it has shown itself
        is_update = given["kwargs"].get("update", False)
        _publish(channel, data, {**metadata, **(given["metadata"] or {})}, transient, is_update=is_update)


def _publish(channel: LiveChannel, data: Any, metadata: object, transient: object, *, is_update: bool) -> None:
    content = {"data": without_widgets(data), "metadata": metadata or {}, "transient": transient or {}}
    show(channel, "update" if is_update else "display", content)


def _looks_of(value: object, given: Mapping[str, Any]) -> Any:
    """Return how *value* looks, by mime type, and what there is to say about that."""
    if not _formatters:
        _formatters.append(_formatter())
    return _formatters[0].format(value, include=given["include"], exclude=given["exclude"])


def _formatter() -> Any:
    from IPython.core.formatters import DisplayFormatter
    from IPython.core.pylabtools import print_figure

    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type_by_name("matplotlib.figure", "Figure", print_figure)
    return formatter


def _plain(value: object) -> object:
    """Return *value*, which JSON does not know, as something that it does."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return str(value)
