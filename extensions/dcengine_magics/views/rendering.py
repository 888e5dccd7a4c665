"""What is known of jobs, batches, contributors and workers as HTML. No input, no output."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dcengine.lists import (
    SENTENCE,
    SPANS,
    Explained,
    JobList,
    aside_texts,
    clock,
    job_name,
    progress_text,
    state_text,
    verdict_text,
    what_text,
)
from dcengine.verbs import (
    BatchStatus,
    FailedItem,
    JobStatus,
    LeaderboardRow,
    Span,
    WorkerStatus,
)

from . import figures, markup
from .figures import Reason
from .markup import Part

ROWS, TAGS = 100, 60  #: of a table, and of one worker, that are shown


# ---- jobs, batches -------------------------------------------------------------------------


def batch_html(status: BatchStatus, failed: Sequence[FailedItem] = ()) -> str:
    """Return a batch: a bar, its figures, its failures by reason."""
    warning = "" if status.warning is None or status.is_final else markup.note(f"no worker matches: {status.warning}")
    return markup.frame(
        markup.head(status.name, f"batch {status.id}"),
        markup.bar(batch_parts(status)),
        markup.said(figures.of_batch(status)),
        warning,
        _failures(figures.reasons(failed), status.failed),
    )


def batch_parts(status: BatchStatus) -> list[Part]:
    """Return how many of a batch ended how, and how many run."""
    whole = status.count or 1
    kinds = {
        "succeeded": status.succeeded, "failed": status.failed, "cancelled": status.cancelled, "running": status.running
    }  # fmt: skip
    return [(kind, count / whole) for kind, count in kinds.items()]


def job_html(status: JobStatus, why: str = "") -> str:
    """Return a job; *why* it does not run, where that is known."""
    reason = (
        ""
        if status.reason is None
        else markup.row(markup.code(status.reason, 400), f"{markup.RED_WORDS};padding-top:2px")
    )
    return markup.frame(
        markup.head(status.name, f"job {status.id}"),
        markup.bar(job_parts(status)),
        markup.said(figures.of_job(status)),
        "" if status.is_final or not why else markup.note(why),
        reason,
    )


def job_parts(status: JobStatus) -> list[Part]:
    """Return how far a job is: what it says itself, or nothing."""
    if status.is_final:
        return [(status.state, 1.0)]
    if status.task_state != "leased":
        return []
    progress = status.progress
    if progress is None or not progress.total:
        return [("running", 1.0)]
    return [("succeeded", progress.done / progress.total)]


# ---- jobs, many of them -------------------------------------------------------------------


def jobs_html(jobs: JobList) -> str:
    """Return jobs, and batches where those were asked for too, each on a row."""
    if not jobs and not jobs.batches:
        return markup.frame(markup.note("no jobs"))
    rows = "".join(map(_batch_row, jobs.batches[:ROWS]))
    columns = (("function", "left"), ("done", "left"), ("", "left"), ("submitted", "right"))
    batches = markup.table(markup.header(("batch", "right"), *columns), rows) if rows else ""
    rows = "".join(_job_row(job, jobs.project) for job in jobs[:ROWS])
    columns = (("state", "left"), ("worker", "left"), ("tags", "left"), ("submitted", "right"))
    table = markup.table(markup.header(("job", "right"), (jobs.subject, "left"), *columns), rows) if rows else ""
    rest = markup.more(len(jobs.batches) - ROWS, "batches"), markup.more(len(jobs) - ROWS, "jobs")
    return markup.frame(batches, rest[0], table, rest[1])


def _batch_row(batch: BatchStatus) -> str:
    text = f"{batch.done:,} of {batch.count:,}" + (f", {batch.failed:,} failed" if batch.failed else "")
    return (
        markup.ROW
        + markup.cell(str(batch.id), "text-align:right")
        + markup.cell(markup.code(batch.name, 40), "white-space:nowrap")
        + markup.cell(escape(text), "white-space:nowrap")
        + markup.cell(markup.bar(batch_parts(batch)), "min-width:9em;width:40%;padding-top:6px")
        + markup.cell(clock(batch.created), f"text-align:right;white-space:nowrap;{markup.MUTED}")
        + "</tr>"
    )


def _job_row(job: JobStatus, project: str | None) -> str:
    errors = f" after {job.errors:,} error{'' if job.errors == 1 else 's'}" if job.errors else ""
    state, progress = state_text(job), progress_text(job)
    done = f", {markup.outside(progress, 60)}" if progress else ""
    reason = (
        ""
        if job.reason is None
        else f"{markup.ROW}<td></td>{markup.wide_cell(markup.code(job.reason, 160), markup.RED_WORDS)}</tr>"
    )
    return (
        markup.ROW
        + markup.cell(markup.outside(job_name(job, project), 80), "text-align:right")
        + markup.cell(markup.code(what_text(job), 40), "white-space:nowrap")
        + markup.cell(f"{markup.dot(state)}{escape(state)}{done}{errors}", "")
        + markup.cell(markup.code(job.worker or "", 40), "white-space:nowrap")
        + markup.cell(markup.code(job.tags, 80), "")
        + markup.cell(clock(job.created), f"text-align:right;white-space:nowrap;{markup.MUTED}")
        + f"</tr>{reason}"
    )


def sentence_html(text: str) -> str:
    """Return what an engine says."""
    return markup.frame(markup.row(markup.outside(text, SENTENCE)))


# ---- contributors and workers --------------------------------------------------------------


def leaderboard_html(rows: Sequence[LeaderboardRow], project: str, span: Span = "all") -> str:
    """Return the contributors of a project with a bar for the share of each."""
    if not rows:
        return markup.frame(markup.note(f"no contributor of {project} has credit{SPANS[span]}"))
    body = "".join(
        markup.ROW
        + markup.cell(f"{place}", f"{markup.MUTED};text-align:right")
        + markup.cell(markup.outside(row.nickname, 40), "overflow-wrap:anywhere;max-width:18em")
        + markup.cell(f"{row.tasks:,}", "text-align:right")
        + markup.cell(f"{row.share:.1%}", f"text-align:right;{markup.MUTED}")
        + markup.cell(markup.bar([("succeeded", row.share)]), "min-width:9em;width:40%;padding-top:6px")
        + "</tr>"
        for place, row in enumerate(rows[:ROWS], 1)
    )
    head = markup.header(("", "right"), ("contributor", "left"), ("credit", "right"), ("share", "right"), ("", "left"))
    when = "" if span == "all" else SPANS[span]
    return markup.frame(
        markup.head(f"leaderboard{when}", project),
        markup.table(head, body),
        markup.more(len(rows) - ROWS, "contributors"),
    )


def workers_html(rows: Sequence[WorkerStatus]) -> str:
    """Return the workers with their tags."""
    if not rows:
        return markup.frame(markup.note("no workers: dcengine serve --workers N starts some, dcengine join brings one"))
    body = "".join(
        markup.ROW
        + markup.cell(f"{markup.dot(row.state)}{markup.code(row.name, 40)}", "white-space:nowrap")
        + markup.cell(f"{row.busy} of {row.slots}" if row.state == "ready" else escape(row.state), "white-space:nowrap")
        + markup.cell(markup.outside(row.contributor, 40), "overflow-wrap:anywhere;max-width:14em")
        + markup.cell(_chips(row) + "".join(map(markup.note, _problems(row))), "overflow-wrap:anywhere")
        + "</tr>"
        for row in rows[:ROWS]
    )
    head = markup.header(("worker", "left"), ("busy", "left"), ("contributor", "left"), ("tags", "left"))
    busy, slots = sum(row.busy for row in rows), sum(row.slots for row in rows)
    return markup.frame(
        markup.head("workers", f"{busy:,} of {slots:,} slots busy"),
        markup.table(head, body),
        markup.more(len(rows) - ROWS, "workers"),
    )


def explanation_html(explained: Explained) -> str:
    """Return which workers match a tag expression, and what the others lack."""
    body = "".join(
        markup.ROW
        + markup.cell(
            f"{markup.dot('ready' if row.matches else 'unfit')}{markup.code(row.name, 40)}", "white-space:nowrap"
        )
        + markup.cell(markup.outside(verdict_text(row), 400), "overflow-wrap:anywhere")
        + "</tr>"
        for row in explained.workers[:ROWS]
    )
    table = markup.table(markup.header(("worker", "left"), ("verdict", "left")), body) if body else ""
    return markup.frame(markup.note(explained), table, markup.more(len(explained.workers) - ROWS, "workers"))


def _problems(worker: WorkerStatus) -> list[str]:
    """Return why *worker* cannot be used, and for what it is set aside."""
    return [*([worker.reason] if worker.reason is not None else []), *aside_texts(worker)]


def _chips(worker: WorkerStatus) -> str:
    style = f"display:inline-block;border:1px solid {markup.LINE};border-radius:8px;padding:0 7px;margin:1px 3px 1px 0"
    style += f";{markup.CODE}"
    tags = [tag if value is None else f"{tag}={value}" for tag, value in worker.tags.items()]
    chips = "".join(f'<span style="{style}">{markup.outside(tag, 80)}</span>' for tag in tags[:TAGS])
    return chips + markup.more(len(tags) - TAGS, "tags")


def _failures(found: Sequence[Reason], count: int) -> str:
    rows = [
        markup.row(
            f'<span style="{markup.RED_WORDS}">{reason.times:,} × </span>{markup.code(reason.text, 160)} '
            f'<span style="{markup.MUTED}">{escape(reason.where)}</span>'
        )
        for reason in found
    ]
    rest = count - sum(reason.times for reason in found)
    if found and rest > 0:
        rows.append(markup.row(f"and {rest:,} more", markup.MUTED))
    return markup.row("".join(rows), "padding-top:2px") if rows else ""
