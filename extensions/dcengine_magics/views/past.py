"""A job with its past: what `%job` gives back, and how it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dcengine.glances import bytes_in, glance, glance_at_failure
from dcengine.handles import JobHandle, Link
from dcengine.jobs import JobState
from dcengine.verbs import HistoryEntry, JobStatus, Line, Transcript

from . import past_forms
from .past_forms import Episode, Past, Value
from .sights import PATIENCE, Act, Seldom, Sight, ask

LINES = 2000  #: of what a job said that are kept, the newest
LETTERS = 200_000  #: characters of them
AGAIN = frozenset({JobState.FAILED.text, JobState.CANCELLED.text})


class JobPast:
    """A job whose past is to be shown; `handle` is the job itself."""

    def __init__(self, handle: JobHandle) -> None:
        self.handle = handle

    def __repr__(self) -> str:
        return f"<the past of dcengine job {self.handle.id}>"


class PastSubject:
    """A job, its past, and what can be done about it."""

    cancel: Callable[[], object] | None = None

    def __init__(self, link: Link, id: int) -> None:
        self.link, self.id = link, id
        self._episodes = Seldom[list[Episode]]([], 1.0)
        self._said = Said(link, id)

    def look(self, patience: float) -> Sight:
        status: JobStatus = ask(self.link, "job", self.id, patience=patience)
        waits = not status.is_final and status.task_state != "leased"
        why = str(ask(self.link, "why", self.id, patience=patience)) if waits else ""
        state = (status.task_state, status.stage, status.attempt, status.generation, status.flags, status.worker)
        episodes = self._episodes.get(state, partial(self._history, patience), is_last=status.is_final)
        self._said.read(patience)
        past = Past(status, why, episodes, self._said.lines, self._said.left_out)
        more, text = past_forms.more_html(past), past_forms.past_text(past)
        return Sight(past_forms.past_html(past), text, status.is_final, more, tuple(acts(status)))

    def _history(self, patience: float) -> list[Episode]:
        entries: list[HistoryEntry] = ask(self.link, "history", self.id, patience=patience)
        return [episode_of(entry) for entry in entries]


class Said:
    """What a job says, as much of it as is shown."""

    def __init__(self, link: Link, id: int) -> None:
        self.lines: list[Line] = []
        self.left_out = 0
        self._link, self._id = link, id
        self._after, self._is_complete = 0, False

    def read(self, patience: float = PATIENCE) -> None:
        """Take in what has been said meanwhile."""
        while not self._is_complete:
            said: Transcript = ask(self._link, "transcript", self._id, after=self._after, patience=patience)
            self._is_complete = said.is_complete
            if not said.lines:
                return
            self._after = said.lines[-1].number
            self.lines += [line for line in said.lines if line.kind != "comm"]
            self._leave_out()

    def _leave_out(self) -> None:
        kept, letters = 0, 0
        for line in reversed(self.lines):
            letters += len(line.text)
            if kept == LINES or (kept and letters > LETTERS):
                break
            kept += 1
        gone = len(self.lines) - kept
        if gone > 0:
            self.left_out += gone
            del self.lines[:gone]


def acts(status: JobStatus) -> list[Act]:
    """Return what can be done about a job as it stands."""
    if status.is_final:
        if status.batch is not None or status.state not in AGAIN:
            return []
        return [Act("Requeue", "retry", ((status.id,),), said="queued again")]
    runs = status.task_state == "leased"
    stops = " Its code gets a moment to stop." if runs else ""
    found = [
        Act("Cancel", "cancel", (status.id,), question=f"Cancel job {status.id}?{stops}", said="cancelled"),
    ]
    if not runs and status.batch is None:
        found += [_moved(status, "Sooner", +1), _moved(status, "Later", -1)]
    return found


def _moved(status: JobStatus, label: str, by: int) -> Act:
    priority = status.priority + by
    return Act(label, "prioritize", ((status.id,), priority), said=f"its priority is {priority} now")


def episode_of(entry: HistoryEntry) -> Episode:
    """Return *entry* with its values as people see them; nothing is unpickled."""
    has_failed = entry.state in ("failed", "cancelled")
    output = Value(glance_at_failure(entry.output)) if has_failed else value_of(entry.output)
    facts: dict[str, Any] = {name: getattr(entry, name) for name in Episode._fields if name not in ("input", "output")}
    return Episode(**facts, input=value_of(entry.input), output=output)


def value_of(data: bytes | None) -> Value:
    """Return the packed value in *data* as people see it."""
    seen = glance(data)
    content = bytes_in(data) if data and seen.kind == "picture" else None
    return Value(seen, None if content is None else (seen.media, content))
