"""What happens, told to those who follow it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from ..blobs import is_reference, size_of
from ..cluster import ClusterSettings
from ..errors import BlobError, NotFound
from ..events import Kind
from ..store.names import CALL
from ..store.noting import Noted
from ..verbs import EventPage, OutsiderFilter, OutsiderPage, Span, StageOutput, Throughput
from .happenings import Happenings
from .outsider_pages import in_order, meant_by
from .questions import checked_span
from .rates import HOUR, Ended
from .upkeep import Upkeep
from .values import is_left

EVENTS_LIMIT = 1000  #: in one answer
HOURS: dict[Span, int] = {"all": 720, "month": 720, "week": 168, "day": 24}
SAMPLES_LIMIT, SAMPLE_BYTES, HEAD_BYTES = 100, 16 << 20, 64
OUTSIDERS_LIMIT = 1000  #: in one answer
STEP_SECONDS, STEPS = 30, 120  #: of what came through a stage in the last hour


class Telling(Upkeep):
    """Answers what happened, and what happens next."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        reads = self._store.reads
        self._happenings = Happenings(lambda after, limit: reads.events(after=after, limit=limit), reads.newest_event)

    async def events(
        self, *, after: int | None = None, project: str | None = None, wait: float = 0.0, limit: int = 500
    ) -> EventPage:
        """Return events after the cursor *after*; wait for the first up to *wait* seconds."""
        if project is not None:
            await self._store.reads.project_id(project)  # raises for an unknown one
        if after is None:
            return EventPage([], await self._store.reads.newest_event())
        deadline, limit = time.monotonic() + wait, max(1, min(limit, EVENTS_LIMIT))
        if wait > 0:  # who follows shares its look into the file with all others who do
            await self._something_after(after, deadline)
        while True:
            found = await self._happenings.after(after, limit)
            after = found[-1].seq if found else after
            meant = [event for event in found if project in (None, event.project)]
            if meant or not await self._something_after(after, deadline):
                return EventPage(meant, after)

    async def _something_after(self, seq: int, deadline: float) -> bool:
        """Wait until there is an event after number *seq*; return False once time is over."""
        while self._happenings.until <= seq:
            left = deadline - time.monotonic()
            if left <= 0 or self._is_closing:
                return False
            await self._happenings.look(left)
        return time.monotonic() < deadline

    async def note_kernel(self, name: str, *, has_ended: bool = False) -> None:
        """Write down that a kernel of the kernelspec *name* runs, or has ended."""
        self._note(Noted(Kind.KERNEL_ENDED if has_ended else Kind.KERNEL_STARTED, detail=name))

    async def _recall_flows(self) -> None:
        """Know what came through each stage in the engine before this one."""
        ended = await self._store.reads.ended_since(time.time() - HOUR)
        self._tallies.flows.recall([Ended(*each) for each in ended], await self._store.reads.last_event_at())

    async def throughput(self, project: str, *, span: Span = "day") -> Throughput:
        """Return what *project* got through in *span*, and each of its stages in the last hour."""
        hours = HOURS[checked_span(span)]
        id, at = await self._store.reads.project_id(project), time.time()
        stages = [stage.id for stage in self._stages.of(project)] or [CALL]
        names = [stage.name for stage in self._stages.of(project)] or ["call"]
        flows = self._tallies.flows
        return Throughput(
            at=at,
            credit=await self._store.reads.earned(id, int(at // 3600), hours),
            stages={name: flows.series(stage, STEP_SECONDS, STEPS) for name, stage in zip(names, stages, strict=True)},
        )

    async def find_outside_workers(self, wanted: OutsiderFilter, *, skip: int = 0, limit: int = 100) -> OutsiderPage:
        """Return the outside workers *wanted*, in their order, from number *skip* on."""
        if wanted.project and self._stages.project(wanted.project) is None:
            raise NotFound("project", wanted.project)
        is_meant, begin = meant_by(wanted), max(0, skip)
        found = in_order(filter(is_meant, self._outsiders.values()), wanted.order, self._per_hour)
        shown = found[begin : begin + max(1, min(limit, OUTSIDERS_LIMIT))]
        statuses = {(each.project, each.name): each for each in self._statuses_of_outsiders(shown)}
        in_turn = [statuses[each.project, each.name] for each in shown]
        return OutsiderPage(in_turn, len(found), len(self._outsiders))

    async def newest_outputs(self, project: str, *, stage: str | None = None, limit: int = 12) -> list[StageOutput]:
        """Return what the newest jobs that succeeded at *stage* came to there, or at the last that has let any go."""
        await self._store.reads.project(project)  # raises for an unknown one
        stages = [each.name for each in self._stages.of(project)] if stage is None else [stage]
        for each in reversed(stages):
            found = await self._store.reads.newest_outputs(project, each, limit=max(1, min(limit, SAMPLES_LIMIT)))
            if found:
                return [await self._sample(output) for output in found]
        return []

    async def _sample(self, output: StageOutput) -> StageOutput:
        """Return *output* with its value, of a large one with the beginning, of one that is elsewhere without."""
        kept = output.data
        try:
            if is_reference(kept) and size_of(kept) > SAMPLE_BYTES:
                head = await self._values.blobs.head(kept, HEAD_BYTES)
                return msgspec.structs.replace(output, data=b"", head=head, size=size_of(kept))
            data = b"" if is_left(kept) else await self._values.get(kept)
        except BlobError:
            data = b""
        return msgspec.structs.replace(output, data=data)
