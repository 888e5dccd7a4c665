"""What outside workers report of the tasks that they hold: done, failed, flagged, given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from ..codec import JSON, Failure, pack_failure
from ..errors import DcengineError, InvalidOption, StaleLease
from ..jobs import State, Vote
from ..store import now
from ..store.moving import Move
from ..verbs import Completion, TaskAnswer, TaskFailure, TaskFlag
from .hands import Held, place_of
from .leases import PATIENCE_SECONDS, Leases
from .outcomes import Outcome, after_error, released, succeeded
from .submissions import check_size
from .tasks import UNITS_LIMIT, Storing

S = TypeVar("S")

DONE = frozenset({State.SUCCEEDED})  #: where a completion leaves a task
NOT_DONE = frozenset({State.QUEUED, State.WAITING, State.FAILED, State.RETURNED})  #: where everything else does


class Report(NamedTuple):
    """What becomes of a task, as its holder says."""

    token: str
    held: Held
    outcome: Outcome
    units: int = 1  #: of credit

    def as_move(self) -> Move:
        """Return what the file is told."""
        held, outcome = self.held, self.outcome
        return Move(
            held.task, outcome.task, outcome.kind, now(), worker=held.worker, contributor=held.contributor,
            reason=outcome.reason, units=self.units, seconds=time.monotonic() - held.since, keeps_token=True,
        )  # fmt: skip


class Reports(Leases):
    """Takes in what outside workers report."""

    # ---- verbs -----------------------------------------------------------------------------

    async def complete(self, completions: list[Completion], *, project: str | None = None) -> list[TaskAnswer]:
        """Take in what outside workers have done."""
        return await self._take_in(completions, [each.token for each in completions], self._completed, DONE, project)

    async def fail(self, failures: list[TaskFailure], *, project: str | None = None) -> list[TaskAnswer]:
        """Take in that tasks could not be done; they are tried again as their stage says."""
        return await self._take_in(failures, [each.token for each in failures], self._failed, NOT_DONE, project)

    async def flag(self, flags: list[TaskFlag], *, project: str | None = None) -> list[TaskAnswer]:
        """Take in that the inputs of tasks are bad."""
        return await self._take_in(flags, [each.token for each in flags], self._voted, NOT_DONE, project)

    async def release(self, tokens: list[str], *, project: str | None = None) -> list[TaskAnswer]:
        """Put tasks back in the queue."""
        return await self._take_in(tokens, tokens, self._given_back, NOT_DONE, project)

    # ---- what is meant ---------------------------------------------------------------------

    async def _completed(self, said: Completion, held: Held) -> Report | TaskAnswer:
        output = JSON + bytes(said.output)
        units = 1 if held.stage.credit == "task" or said.units is None else said.units
        try:
            check_size("the output", len(output))
            if not 0 <= units <= UNITS_LIMIT:
                raise InvalidOption("units", str(units), f"a number from 0 to {UNITS_LIMIT}")
        except DcengineError as error:
            return TaskAnswer(token=said.token, is_accepted=False, problem=str(error))
        following = self._stages.after(held.task.stage)
        return Report(said.token, held, succeeded(held.task, output, following=following), units)

    async def _failed(self, said: TaskFailure, held: Held) -> Report:
        failure = pack_failure(Failure("WorkerFailure", f"{held.worker}: {said.reason}"))
        return Report(said.token, held, after_error(held.task, failure, stage=held.stage))

    async def _voted(self, said: TaskFlag, held: Held) -> Report:
        return Report(said.token, held, await self._flagged(held.task, held.stage, Vote(held.voter, said.reason)))

    async def _given_back(self, token: str, held: Held) -> Report:
        return Report(token, held, released(held.task, f"{held.worker} gave it back"))

    # ---- taken in --------------------------------------------------------------------------

    async def _take_in(
        self,
        said: Sequence[S],
        tokens: Sequence[str],
        meant: Callable[[S, Held], Awaitable[Report | TaskAnswer]],
        states: frozenset[State],
        project: str | None,
    ) -> list[TaskAnswer]:
        """Store all that was *said* under *tokens*, whether or not the caller still waits for an answer.

        *states* are those in which it leaves tasks: if one is there already, it was said before.
        """

        async def understood(each: S, token: str) -> Report | TaskAnswer | None:
            if project is not None and not await self._is_of(token, project):
                return self._gone(token, cancel=True)
            held = self._leases.get(token)
            return None if held is None else await meant(each, held)

        async def all_of_it() -> list[TaskAnswer]:
            found = [await understood(each, token) for each, token in zip(said, tokens, strict=True)]
            stored = await self._store_reports([each for each in found if isinstance(each, Report)])
            return [
                each if isinstance(each, TaskAnswer) else stored.get(token) or await self._said_before(token, states)
                for each, token in zip(found, tokens, strict=True)
            ]

        return await self._to_the_end(all_of_it())

    async def _store_reports(self, reports: Sequence[Report]) -> dict[str, TaskAnswer]:
        """Store *reports*, in one commit if that can be; return the answers by token, none for what was said twice.

        What could not be stored is held as before, and can be said again; what hindered the first of these is raised.
        """
        banned = [report for report in reports if report.held.contributor in self._banned]  # just now
        answers = {report.token: self._gone(report.token) for report in banned}
        problems: list[DcengineError] = []
        with self._taken([report for report in reports if report.token not in answers]) as taken:
            for report, handed_in in [(report, await self._handed_in(report)) for report in taken]:
                try:
                    answers[report.token] = await self._answer_to(report, handed_in)
                except DcengineError as problem:
                    report.held.renew()
                    self._leases[report.token] = report.held
                    problems.append(problem)
        if problems:
            raise problems[0]
        return answers

    @contextmanager
    def _taken(self, reports: Sequence[Report]) -> Iterator[list[Report]]:
        """Take the tasks of *reports* out of their holders' hands; what is said of them meanwhile waits for the end."""
        is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        taken = [report for report in reports if self._leases.pop(report.token) is not None]
        self._reported.update((report.token, is_over) for report in taken)
        try:
            yield taken
        finally:
            for report in taken:
                del self._reported[report.token]
            is_over.set_result(None)

    async def _handed_in(self, report: Report) -> Storing | DcengineError:
        """Have *report* stored; return what to wait for, or what hindered that."""
        try:
            return await self._hand_in(report.as_move(), report.outcome, PATIENCE_SECONDS)
        except DcengineError as problem:
            return problem

    async def _answer_to(self, report: Report, handed_in: Storing | DcengineError) -> TaskAnswer:
        """Return how its holder is answered once *report* is stored; raises what hindered that."""
        if isinstance(handed_in, DcengineError):
            raise handed_in
        try:
            await self._follow(handed_in)
        except StaleLease:
            return self._gone(report.token)
        self._was_accepted(report)
        return TaskAnswer(token=report.token, is_accepted=True)

    def _was_accepted(self, report: Report) -> None:
        """Take note that *report* counts."""

    async def _said_before(self, token: str, states: frozenset[State]) -> TaskAnswer:
        """Answer for a token that nobody holds: yes if its holder has said this before, and the answer was lost."""
        if token in self._reported:  # being stored just now: wait whether it comes to that
            await asyncio.wait([self._reported[token]])
        place = place_of(token)
        state = None if place is None else await self._store.reads.state_under(*place)
        if state is not None and state in states:
            return TaskAnswer(token=token, is_accepted=True)
        return self._gone(token)
