"""Cells that were sent before, by this kernel or by one that is gone: found, shown, taken home."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dcengine
from dcengine import api
from dcengine.calls import submitter
from dcengine.errors import NotFound
from dcengine.lists import clock
from dcengine.plain import clean, table
from dcengine.verbs import BatchStatus, JobStatus

from .each import SentItems
from .errors import InvalidCell
from .names import Names
from .packing import number_of_cell
from .replay import Replay
from .sent import Sent, SentCell

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

ID = re.compile(r"(?:(job|batch)[ :]*)?(\d+)")
TITLE = "cell In["  #: begins the name of every cell's job or batch
LISTED = 20  #: cells
LOOKED_AT = 1000  #: jobs among which they are looked for
PAGE = 200


def attach(shell: InteractiveShell, text: str) -> Any:
    """Show the cell that *text* names, follow it if it runs, take home what it made; without a name, list them."""
    if not text:
        print(recent())
        return None
    sent = _found(shell, text)
    sent.show()
    return sent.finish()


def retry(shell: InteractiveShell, text: str) -> Any:
    """Have what failed of the cell that *text* names run again; return what the notebook has to show of it."""
    if not text:
        raise InvalidCell("%distribute retry takes the ID of a cell; %distribute attach lists yours")
    sent = _found(shell, text)
    sent.retry()
    sent.show()
    return sent.finish()


# ---- one of them ---------------------------------------------------------------------------


def _found(shell: InteractiveShell, text: str) -> Sent:
    """Return the cell that *text* names, as ``12``, ``job 12`` or ``batch 3``; raises `InvalidCell`."""
    named = ID.fullmatch(text)
    if named is None:
        raise InvalidCell(f"{text!r} is no ID of a cell; such are 12, job 12 and batch 3")
    kind, id = named[1], int(named[2])
    job = _cell_job(id) if kind != "batch" else None
    batch = _cell_batch(id) if kind != "job" else None
    if job is not None and job.batch is not None:  # an item
        batch, job = batch or _cell_batch(job.batch), None
    if job is not None and batch is not None:
        raise InvalidCell(f"{id} may be job {id} ({job.name}) or batch {id} ({batch.name}): say job {id} or batch {id}")
    replay = Replay(shell, number_of_cell(shell))
    if job is not None:
        return SentCell(shell, dcengine.job(job.id), replay, Names())
    if batch is not None:
        return SentItems(shell, dcengine.batch(batch.id), replay)
    raise InvalidCell(f"{text} is no cell that was sent; %distribute attach lists yours")


def _cell_job(id: int) -> JobStatus | None:
    try:
        found: JobStatus = api.current().call("job", id)
    except NotFound:
        return None
    return found if found.name.startswith(TITLE) else None


def _cell_batch(id: int) -> BatchStatus | None:
    try:
        found: BatchStatus = api.current().call("batch", id)
    except NotFound:
        return None
    return found if found.name.startswith(TITLE) else None


# ---- all of them ---------------------------------------------------------------------------


def recent() -> str:
    """Return the last cells of this user, newest first, as a table."""
    found: list[JobStatus | BatchStatus] = [*_my_jobs(), *_my_batches()]
    cells = sorted(found, key=lambda cell: -cell.created)[:LISTED]
    if not cells:
        return "no cell of yours was sent to the engine in use"
    rows = [(_id_of(cell), clean(cell.name, 60), _state_of(cell), clock(cell.created)) for cell in cells]
    return table(["ID", "cell", "state", "sent"], rows)


def _my_jobs() -> Iterator[JobStatus]:
    before, looked_at = None, 0
    while looked_at < LOOKED_AT:
        page = api.current().call("jobs", project="functions", before=before, limit=PAGE)
        if not page:
            return
        before, looked_at = page[-1].id, looked_at + len(page)
        yield from filter(_is_my_cell, page)


def _my_batches() -> Iterator[BatchStatus]:
    return filter(_is_my_cell, api.current().call("batches", limit=PAGE))


def _is_my_cell(one: JobStatus | BatchStatus) -> bool:
    """Tell whether *one* is a cell of this user, from whatever machine: a new kernel may well be on another."""
    return one.name.startswith(TITLE) and one.submitter.partition("@")[0] == submitter().partition("@")[0]


def _id_of(cell: JobStatus | BatchStatus) -> str:
    return f"job {cell.id}" if isinstance(cell, JobStatus) else f"batch {cell.id}"


def _state_of(cell: JobStatus | BatchStatus) -> str:
    if cell.is_final:
        return cell.state
    if isinstance(cell, BatchStatus):
        return f"running, {cell.done:,} of {cell.count:,} items done"
    return f"running on {cell.worker}" if cell.worker else "waiting"
