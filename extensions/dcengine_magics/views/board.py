"""A project as a board: what is asked, how often, and what can be done there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dcengine.errors import NotFound
from dcengine.handles import Link
from dcengine.verbs import FailureGroup, FailureGroups, ProjectStatus, StageOutput, Throughput

from . import board_forms, markup
from .board_forms import GROUPS, Board, Sample
from .past import value_of
from .sights import Act, Seldom, Sight, ask

SAMPLES = 4  #: newest outputs
PLOT_SECONDS, SAMPLE_SECONDS, GROUP_SECONDS = 5.0, 3.0, 3.0  #: between two questions, at least


class BoardSubject:
    """A project: its stages, its pace, what comes out, what fails."""

    cancel: Callable[[], object] | None = None

    def __init__(self, link: Link, name: str, known: str) -> None:
        self.link = link
        self._name, self._known = name, known
        self._throughput = Seldom[Throughput | None](None, PLOT_SECONDS)
        self._samples = Seldom[list[Sample]]([], SAMPLE_SECONDS)
        self._groups = Seldom[list[FailureGroup]]([], GROUP_SECONDS)

    def look(self, patience: float) -> Sight:
        try:
            status: ProjectStatus = ask(self.link, "project", self._name, patience=patience)
        except NotFound:  # declared here and not told to the engine yet
            return Sight(markup.plain_html(self._known), self._known, is_over=True)
        board = self._board(status, patience)
        html, more = board_forms.board_html(board), board_forms.more_html(board)
        return Sight(html, board_forms.board_text(board), is_at_rest(status), more, tuple(acts(board)))

    def _board(self, status: ProjectStatus, patience: float) -> Board:
        is_last = is_at_rest(status)
        passed = tuple(stage.counts.get("succeeded", 0) for stage in status.stages)
        return Board(
            status,
            self._throughput.get((is_last, passed), partial(self._ask_throughput, patience), is_last=is_last),
            self._samples.get(passed, partial(self._ask_samples, patience), is_last=is_last) if any(passed) else [],
            self._groups.get(status.failed, partial(self._ask_groups, patience), is_last=is_last)
            if status.failed
            else [],
        )

    def _ask_throughput(self, patience: float) -> Throughput:
        told: Throughput = ask(self.link, "throughput", self._name, span="day", patience=patience)
        return told

    def _ask_samples(self, patience: float) -> list[Sample]:
        outputs: list[StageOutput] = ask(self.link, "newest_outputs", self._name, limit=SAMPLES, patience=patience)
        return [Sample(output, value_of(output.data)) for output in outputs]

    def _ask_groups(self, patience: float) -> list[FailureGroup]:
        found: FailureGroups = ask(self.link, "failure_groups", project=self._name, patience=patience)
        return found.groups


def is_at_rest(status: ProjectStatus) -> bool:
    """Tell whether nothing moves until somebody does something."""
    return not status.open or (status.is_paused and not any(stage.counts.get("leased") for stage in status.stages))


def acts(board: Board) -> list[Act]:
    """Return what can be done about a project as it stands."""
    status = board.status
    name, found = status.name, list[Act]()
    if status.is_paused:
        found.append(Act("Run", "run_project", (name,), said="started"))
    elif status.open:
        found.append(Act("Pause", "pause_project", (name,), said="paused: what runs goes on to its end"))
    if status.open:
        question = f"Cancel every open job of {name}? What runs is stopped."
        found.append(Act("Cancel", "cancel_project", (name,), question=question, said="{} cancelled"))
    if status.failed:
        found.append(Act("Requeue failed", "retry_project", (name,), said="{} queued again"))
        found += [
            Act(f"Requeue {group.count:,} × {board_forms.reason_of(group)}", "retry_failures",
                (name, group.stage, group.pattern), said="{} queued again")
            for group in board.groups[:GROUPS] if len(board.groups) > 1
        ]  # fmt: skip
    return found
