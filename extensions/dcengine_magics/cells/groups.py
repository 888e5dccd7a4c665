"""What the items of a batch said, a group for each, in their order, as much of it as people read."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import msgspec

from dcengine.batches import BatchHandle
from dcengine.ends import value_of
from dcengine.handles import JobHandle
from dcengine.plain import clean
from dcengine.verbs import JobResult, Line

from .item import ItemResult, label_of
from .replay import LateReplay
from .stop_button import StopButton

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

GROUPS = 100  #: items whose output is shown
TRACEBACKS = 5  #: failed items whose traceback is shown
TEXT = 20_000  #: characters of one item that are shown
DISPLAYS = 20  #: of one item that are shown
HEAD_STYLE = "margin: 6px 0 2px; border-top: 1px solid rgba(128, 128, 128, 0.4); font-size: 90%; opacity: 0.75"


class Groups:
    """Says what the items of *batch* say in *shell*; in a second try, not of those that were *said* in the first."""

    def __init__(self, shell: InteractiveShell, batch: BatchHandle, said: frozenset[int] | None = None) -> None:
        self._shell, self._batch, self._said = shell, batch, said
        self._publisher = shell.display_pub
        self._next = 0  #: the place of the item whose turn it is
        self._shown = self._failed = self._left_out = 0

    def say(self, ends: Mapping[int, JobResult], button: StopButton) -> None:
        """Say what those items say that have ended, and all before them."""
        while self._next in ends:
            place = self._next
            if place not in (self._said or ()) and self._is_shown(self._batch[place], ends[place]):
                with button.waiting():
                    lines = [*self._batch[place].follow()]
                    label = _label(self._batch[place], ends[place]) if lines else ""
                self._show(place, label, lines)
            self._next += 1
        if self._next == len(self._batch) and self._left_out:
            self._head(f"{self._left_out:,} more items said something: dcengine.batch({self._batch.id})[N].output")
            self._left_out = 0

    def _is_shown(self, item: JobHandle, end: JobResult) -> bool:
        """Tell whether what *item* said is to be shown; count what is, and what is left out."""
        if end.state == "succeeded":
            has_said = _has_said(item, end)
        else:
            has_said = end.state == "failed" and self._failed < TRACEBACKS
            self._failed += 1
        is_shown = has_said and self._shown < GROUPS
        self._shown += is_shown
        self._left_out += has_said and not is_shown
        return is_shown

    def _show(self, place: int, label: str, lines: list[Line]) -> None:
        if self._said is not None:  # it ran before, and that was shown
            lines = _of_last_run(lines)
        if not lines:
            return
        self._head(f"item {place}: {clean(label)}")
        replay = ItemReplay(self._shell, 0)
        for line in _as_much_as_people_read(lines, f"dcengine.batch({self._batch.id})[{place}].follow()"):
            replay.say(line)
        replay.end()
        replay.comms.leave()

    def _head(self, text: str) -> None:
        html = f'<div style="{HEAD_STYLE}">{escape(text)}</div>'
        self._publisher.publish({"text/html": html, "text/plain": f"--- {text}"}, {})


def label_of_item(item: JobHandle) -> str:
    """Return what *item* was called with, in short; empty if it cannot be opened here."""
    try:
        ((value,), _) = item.history()[-1].input
    except Exception:  # unpickling runs any code
        return ""
    return label_of(value)


class ItemReplay(LateReplay):
    """Says the lines of one item; its value is shown as one of its displays."""

    def _show_result(self, content: dict[str, Any]) -> None:
        self._show("display", {**content, "transient": {}})


def _of_last_run(lines: list[Line]) -> list[Line]:
    """Return those of *lines* that the last run said: a run that fails ends with its error."""
    ends = [place for place, line in enumerate(lines[:-1], 1) if line.kind == "error"]
    return lines[ends[-1] :] if ends else lines


def _label(item: JobHandle, end: JobResult) -> str:
    return str(value_of(item.id, end).label) if end.state == "succeeded" else label_of_item(item)


def _has_said(item: JobHandle, end: JobResult) -> bool:
    """Tell whether an item that succeeded said anything."""
    try:
        found: ItemResult = value_of(item.id, end)
    except Exception:  # unpickling runs any code; it is told of with the results
        return False
    return found.has_said


def _as_much_as_people_read(lines: list[Line], where: str) -> list[Line]:
    """Return *lines* without what goes too far, a note of *where* that is at their end."""
    taken: list[Line] = []
    text, displays = TEXT, DISPLAYS
    for line in lines:
        if line.kind in ("stdout", "stderr"):
            line = msgspec.structs.replace(line, text=line.text[:text])
            text -= len(line.text)
            if not line.text:
                continue
        elif line.kind in ("display", "result"):
            displays -= 1
            if displays < 0:
                continue
        taken.append(line)
    if text <= 0 or displays < 0:
        taken.append(Line(0, "note", f"the rest is left out here: {where} has all of it"))
    return taken
