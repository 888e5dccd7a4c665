"""What is known of jobs and batches as lines of text, for terminals and for readers of source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from dcengine.plain import clean
from dcengine.verbs import BatchStatus, FailedItem, JobStatus

from . import figures
from .figures import Figure, Reason
from .markup import Part
from .rendering import job_parts

CELLS = 24  #: of a bar made of letters


def batch_text(status: BatchStatus, failed: Sequence[FailedItem] = ()) -> str:
    """Return a batch: name, bar and figures, failures by reason."""
    whole = status.count or 1
    lines = [f"batch {status.id}  {clean(status.name, 80)}"]
    parts = [("succeeded", (status.done - status.failed) / whole), ("failed", status.failed / whole)]
    lines.append(f"{bar(parts)}  {line(figures.of_batch(status))}")
    if status.warning is not None and not status.is_final:
        lines.append(f"no worker matches: {clean(status.warning)}")
    return "\n".join([*lines, *_failures(figures.reasons(failed), status.failed)])


def job_text(status: JobStatus, why: str = "") -> str:
    """Return a job: name, bar and figures, why it does not run or why it failed."""
    lines = [
        f"job {status.id}  {clean(status.name, 80)}",
        f"{bar(job_parts(status))}  {line(figures.of_job(status))}",
    ]
    if why and not status.is_final:
        lines.append(clean(why, 400))
    if status.reason is not None:
        lines.append(clean(status.reason, 400))
    return "\n".join(lines)


def _failures(found: Sequence[Reason], count: int) -> list[str]:
    rest = count - sum(reason.times for reason in found)
    said = [f"{reason.times:,} x {reason.text} {reason.where}" for reason in found]
    return [*said, f"and {rest:,} more"] if found and rest > 0 else said


def line(said: Iterable[Figure]) -> str:
    """Return figures as one line."""
    return ", ".join(figure.text for figure in said)


def bar(parts: Iterable[Part]) -> str:
    """Return *parts* as a bar made of letters."""
    letters = {"failed": "x", "running": "-"}
    shares = [(kind, share) for kind, share in parts if math.isfinite(share) and share > 0]
    sizes = {kind: max(1, round(min(share, 1.0) * CELLS)) for kind, share in shares}
    too_many = sum(sizes.values()) - CELLS
    if too_many > 0:  # what is rare stays to be seen
        sizes[max(sizes, key=sizes.__getitem__)] -= too_many
    return f"[{''.join(letters.get(kind, '#') * size for kind, size in sizes.items()):.<{CELLS}}]"
