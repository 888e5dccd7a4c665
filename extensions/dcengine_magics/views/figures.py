"""Numbers, durations and states as people say them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dcengine.plain import clean
from dcengine.verbs import BatchStatus, FailedItem, JobStatus, ProjectStatus, StageStatus

REASONS, NAMED_ITEMS, NAMED_WORKERS = 5, 5, 4  #: how many of each are named before "and 12 more"


class Figure(NamedTuple):
    """One of the things said below a bar."""

    text: str
    kind: str = ""  #: what it counts, as the bar's parts are called; empty for the others


def duration(seconds: float) -> str:
    """Return *seconds* in the two units that matter."""
    whole = max(1, round(seconds))
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def rate(per_second: float) -> str:
    """Return a rate in the unit in which it is a number of some size."""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * factor >= 1:
            value = per_second * factor
            return f"{value:,.0f}/{unit}" if value >= 10 else f"{value:.1f}".removesuffix(".0") + f"/{unit}"
    return ""


def left(count: int, per_second: float) -> str:
    """Return how long *count* more take; nothing where the rate does not say."""
    return f"{duration(count / per_second)} left" if count > 0 and rate(per_second) else ""


def names(some: Sequence[str]) -> str:
    """Return *some* names as a sentence lists them."""
    shown = [clean(name, 40) for name in some[:NAMED_WORKERS]]
    if len(some) > NAMED_WORKERS:
        shown.append(f"{len(some) - NAMED_WORKERS:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def _on(workers: Sequence[str]) -> str:
    return f"on {names(workers)}" if workers else ""


def _said(*figures: Figure) -> list[Figure]:
    return [figure for figure in figures if figure.text]


def _counted(count: int, kind: str) -> Figure:
    return Figure(f"{count:,} {kind}" if count else "", kind)


# ---- of a batch ----------------------------------------------------------------------------


def of_batch(status: BatchStatus) -> list[Figure]:
    """Return what is said of a batch in one line."""
    ending = status.is_final
    return _said(
        Figure(f"{status.done:,} of {status.count:,}"),
        _counted(status.running, "running"),
        _counted(status.failed, "failed"),
        _counted(status.cancelled, "cancelled"),
        Figure("" if ending else rate(status.rate)),
        Figure("" if ending else left(status.count - status.done, status.rate)),
        Figure(_took(status.created, status.finished) if ending else _on(status.workers)),
    )


def _took(created: float, finished: float | None) -> str:
    return f"in {duration(finished - created)}" if finished is not None else ""


class Reason(NamedTuple):
    """Failures that say the same."""

    text: str
    items: list[int]
    times: int
    what: str  #: they are called: item or job

    @property
    def where(self) -> str:
        """Which items it were."""
        shown = ", ".join(f"{item:,}" for item in self.items[:NAMED_ITEMS])
        more = ", …" if self.times > NAMED_ITEMS else ""
        return f"({self.what}{'' if self.times == 1 else 's'} {shown}{more})"


def reasons(failed: Iterable[FailedItem], what: str = "item") -> list[Reason]:
    """Return *failed* grouped by reason, the most frequent first, no more than are named."""
    failed = list(failed)
    return [
        Reason(clean(text, 160), [item.index for item in failed if item.reason == text], count, what)
        for text, count in Counter(item.reason for item in failed).most_common(REASONS)
    ]


# ---- of a job ------------------------------------------------------------------------------


def of_job(status: JobStatus) -> list[Figure]:
    """Return what is said of a job in one line."""
    progress = status.progress
    done = "" if progress is None or not (progress.done or progress.total) else f"{progress.done:,.10g}"
    total = "" if progress is None or progress.total is None else f" of {progress.total:,.10g}"
    text = "" if progress is None or not progress.text else clean(progress.text, 120)
    if status.is_final:
        took = _took(status.created, status.finished)
        return _said(Figure(status.state, status.state), Figure(took), Figure(_tried(status)))
    on = [status.worker] if status.worker and status.task_state == "leased" else []
    is_early = status.task_state == "waiting" and not status.errors
    does = "waits for its time" if is_early else JOB_WORDS[status.task_state]
    return _said(Figure(does), Figure(done + total), Figure(text), Figure(_on(on)),
                 Figure(_tried(status)))  # fmt: skip


JOB_WORDS = {
    "queued": "waits for its turn",
    "waiting": "waits to run again",
    "blocked": "waits for others",
    "leased": "runs",
    "succeeded": "ends",
    "failed": "ends",
    "cancelled": "ends",
}  #: what an open job does, by the state of its task


def _tried(status: JobStatus) -> str:
    if not status.errors or (status.state == "failed" and status.errors == 1):
        return ""
    so_far = "" if status.is_final else " so far"
    return f"after {status.errors} {'error' if status.errors == 1 else 'errors'}{so_far}"


# ---- of a project --------------------------------------------------------------------------


def of_project(status: ProjectStatus) -> list[Figure]:
    """Return what is said of a project in one line."""
    running = sum(stage.counts.get("leased", 0) for stage in status.stages)
    pace = rate(status.rate) if status.open else ""
    return _said(
        Figure(f"{status.done:,} of {status.total:,} jobs"),
        _counted(running, "running"),
        _counted(status.failed, "failed"),
        _counted(status.cancelled, "cancelled"),
        Figure(pace.replace("/", " tasks/")),
        Figure(f"{duration(status.eta)} left" if status.eta is not None and status.open else ""),
        Figure(_on(status.workers) if status.open else ""),
        Figure("paused: run() starts it" if status.is_paused else ""),
    )


def aside_of_stage(stage: StageStatus) -> list[Figure]:
    """Return what is said of a stage that its numbers do not tell."""
    counts = stage.counts
    return _said(
        _counted(counts.get("cancelled", 0), "cancelled"),
        Figure(f"{counts['blocked']:,} waiting for parts" if counts.get("blocked") else ""),
        Figure(f"{counts['returned']:,} returned" if counts.get("returned") else ""),
        Figure("paused" if stage.is_paused else ""),
    )


def wholes(stages: Sequence[StageStatus]) -> list[int]:
    """Return how many jobs come to each of *stages*, as far as is known by now: whole ones, or their parts."""
    levels, found = [_here(stages[0])] if stages else [], []
    for stage, following in zip(stages, [*stages, None][1:], strict=True):
        if stage.shape == "gather":
            levels = levels[:-1] or [_here(stage)]
        found.append(max(1, levels[-1]))
        if stage.shape == "expand" and following is not None:
            levels.append(_here(following))
    return found


def _here(stage: StageStatus) -> int:
    return sum(number for state, number in stage.counts.items() if state != "returned")
