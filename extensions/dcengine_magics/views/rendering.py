"""What is known of jobs, batches, projects, contributors and workers as HTML. No input, no output.

Inline styles only, so that a saved notebook, an exported page and a widget look alike; colours are those of the
theme around it (JupyterLab's, VS Code's), the rest is mixed from the colour of its text. Text from outside comes in
through `_outside` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
from dcengine.plain import clean
from dcengine.verbs import (
    BatchStatus,
    FailedItem,
    JobStatus,
    LeaderboardRow,
    ProjectStatus,
    Span,
    StageStatus,
    WorkerStatus,
)

from . import figures
from .figures import Figure, Reason

GREEN = "var(--jp-success-color1, var(--vscode-charts-green, #3a9d5d))"
BLUE = "var(--jp-brand-color1, var(--vscode-charts-blue, #3b82c4))"
RED = "var(--jp-error-color1, var(--vscode-charts-red, #d64545))"
RED_WORDS = f"color:color-mix(in srgb, {RED} 75%, currentColor)"  #: legible on dark grounds too
COLOURS = {"succeeded": GREEN, "running": BLUE, "failed": RED, "cancelled": "currentColor"}
GREY = "rgba(128,128,128,.6)"
DOTS = {
    "ready": GREEN, "unfit": RED, "succeeded": GREEN, "failed": RED,
    **dict.fromkeys(["cancelled", "queued", "waiting", "blocked"], GREY),
}  # fmt: skip
FADED = {"running": 0.55, "cancelled": 0.35}  #: parts of a bar that are not the last word

FRAME = (
    "max-width:44em;padding:4px 0 6px;line-height:1.5;color:inherit;"
    "font:13px/1.5 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));"
    "font-variant-numeric:tabular-nums"
)
CODE = (
    "font-family:var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, monospace));font-size:12px"
)
MUTED = "opacity:.65"
ROW = '<tr style="background:none">'
ROWS, TAGS = 100, 60  #: of a table, and of one worker, that are shown

Part = tuple[str, float]  #: what of a bar, and how much of it, 0 to 1


# ---- jobs, batches, projects ---------------------------------------------------------------


def batch_html(status: BatchStatus, failed: Sequence[FailedItem] = ()) -> str:
    """Return a batch: a bar, its figures, its failures by reason."""
    warning = "" if status.warning is None or status.is_final else _note(f"no worker matches: {status.warning}")
    return _frame(
        _head(status.name, f"batch {status.id}"),
        _bar(batch_parts(status)),
        _line(figures.of_batch(status)),
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
    reason = "" if status.reason is None else _row(_code(status.reason, 400), f"{RED_WORDS};padding-top:2px")
    return _frame(
        _head(status.name, f"job {status.id}"),
        _bar(job_parts(status)),
        _line(figures.of_job(status)),
        "" if status.is_final or not why else _note(why),
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


def project_html(status: ProjectStatus, per_second: float = 0.0, failed: Sequence[FailedItem] = ()) -> str:
    """Return a project: a bar for each stage, the figures of all below, failed jobs by reason."""
    cells = "".join(map(_stage_cells, status.stages, figures.wholes(status.stages)))
    grid = "display:grid;grid-template-columns:fit-content(14em) minmax(6em,1fr) fit-content(16em);gap:2px 12px;"
    return _frame(
        _head(status.name, "project"),
        f'<div style="{grid}align-items:center;padding:2px 0">{cells}</div>',
        _line(figures.of_project(status, per_second)),
        "" if status.warning is None else _note(status.warning),
        _failures(figures.reasons(failed, "job"), status.failed),
    )


def _stage_cells(stage: StageStatus, whole: int) -> str:
    kinds = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "leased": "running"}
    parts = [(kind, stage.counts.get(state, 0) / whole) for state, kind in kinds.items()]
    return f"<div>{_code(stage.label, 40)}</div><div>{_bar(parts)}</div>{_line(figures.of_stage(stage))}"


# ---- jobs, many of them -------------------------------------------------------------------


def jobs_html(jobs: JobList) -> str:
    """Return jobs, and batches where those were asked for too, each on a row."""
    if not jobs and not jobs.batches:
        return _frame(_note("no jobs"))
    rows = "".join(map(_batch_row, jobs.batches[:ROWS]))
    columns = (("function", "left"), ("done", "left"), ("", "left"), ("submitted", "right"))
    batches = _table(_header(("batch", "right"), *columns), rows) if rows else ""
    rows = "".join(_job_row(job, jobs.project) for job in jobs[:ROWS])
    columns = (("state", "left"), ("worker", "left"), ("tags", "left"), ("submitted", "right"))
    table = _table(_header(("job", "right"), (jobs.subject, "left"), *columns), rows) if rows else ""
    rest = _more(len(jobs.batches) - ROWS, "batches"), _more(len(jobs) - ROWS, "jobs")
    return _frame(batches, rest[0], table, rest[1])


def _batch_row(batch: BatchStatus) -> str:
    text = f"{batch.done:,} of {batch.count:,}" + (f", {batch.failed:,} failed" if batch.failed else "")
    return (
        ROW
        + _cell(str(batch.id), "text-align:right")
        + _cell(_code(batch.name, 40), "white-space:nowrap")
        + _cell(escape(text), "white-space:nowrap")
        + _cell(_bar(batch_parts(batch)), "min-width:9em;width:40%;padding-top:6px")
        + _cell(clock(batch.created), f"text-align:right;white-space:nowrap;{MUTED}")
        + "</tr>"
    )


def _job_row(job: JobStatus, project: str | None) -> str:
    errors = f" after {job.errors:,} error{'' if job.errors == 1 else 's'}" if job.errors else ""
    state, progress = state_text(job), progress_text(job)
    done = f", {_outside(progress, 60)}" if progress else ""
    reason = "" if job.reason is None else f"{ROW}<td></td>{_wide_cell(_code(job.reason, 160), RED_WORDS)}</tr>"
    return (
        ROW
        + _cell(_outside(job_name(job, project), 80), "text-align:right")
        + _cell(_code(what_text(job), 40), "white-space:nowrap")
        + _cell(f"{_dot(state)}{escape(state)}{done}{errors}", "")
        + _cell(_code(job.worker or "", 40), "white-space:nowrap")
        + _cell(_code(job.tags, 80), "")
        + _cell(clock(job.created), f"text-align:right;white-space:nowrap;{MUTED}")
        + f"</tr>{reason}"
    )


def sentence_html(text: str) -> str:
    """Return what an engine says."""
    return _frame(_row(_outside(text, SENTENCE)))


# ---- contributors and workers --------------------------------------------------------------


def leaderboard_html(rows: Sequence[LeaderboardRow], project: str, span: Span = "all") -> str:
    """Return the contributors of a project with a bar for the share of each."""
    if not rows:
        return _frame(_note(f"no contributor of {project} has credit{SPANS[span]}"))
    body = "".join(
        ROW
        + _cell(f"{place}", f"{MUTED};text-align:right")
        + _cell(_outside(row.nickname, 40), "overflow-wrap:anywhere;max-width:18em")
        + _cell(f"{row.tasks:,}", "text-align:right")
        + _cell(f"{row.share:.1%}", f"text-align:right;{MUTED}")
        + _cell(_bar([("succeeded", row.share)]), "min-width:9em;width:40%;padding-top:6px")
        + "</tr>"
        for place, row in enumerate(rows[:ROWS], 1)
    )
    head = _header(("", "right"), ("contributor", "left"), ("credit", "right"), ("share", "right"), ("", "left"))
    when = "" if span == "all" else SPANS[span]
    return _frame(_head(f"leaderboard{when}", project), _table(head, body), _more(len(rows) - ROWS, "contributors"))


def workers_html(rows: Sequence[WorkerStatus]) -> str:
    """Return the workers with their tags."""
    if not rows:
        return _frame(_note("no workers: dcengine serve --workers N starts some, dcengine join brings one"))
    body = "".join(
        ROW
        + _cell(f"{_dot(row.state)}{_code(row.name, 40)}", "white-space:nowrap")
        + _cell(f"{row.busy} of {row.slots}" if row.state == "ready" else escape(row.state), "white-space:nowrap")
        + _cell(_outside(row.contributor, 40), "overflow-wrap:anywhere;max-width:14em")
        + _cell(_chips(row) + "".join(map(_note, _problems(row))), "overflow-wrap:anywhere")
        + "</tr>"
        for row in rows[:ROWS]
    )
    head = _header(("worker", "left"), ("busy", "left"), ("contributor", "left"), ("tags", "left"))
    busy, slots = sum(row.busy for row in rows), sum(row.slots for row in rows)
    return _frame(
        _head("workers", f"{busy:,} of {slots:,} slots busy"), _table(head, body), _more(len(rows) - ROWS, "workers")
    )


def explanation_html(explained: Explained) -> str:
    """Return which workers match a tag expression, and what the others lack."""
    body = "".join(
        ROW
        + _cell(f"{_dot('ready' if row.matches else 'unfit')}{_code(row.name, 40)}", "white-space:nowrap")
        + _cell(_outside(verdict_text(row), 400), "overflow-wrap:anywhere")
        + "</tr>"
        for row in explained.workers[:ROWS]
    )
    table = _table(_header(("worker", "left"), ("verdict", "left")), body) if body else ""
    return _frame(_note(explained), table, _more(len(explained.workers) - ROWS, "workers"))


def _dot(state: str) -> str:
    colour = DOTS.get(state, BLUE)
    style = f"display:inline-block;width:8px;height:8px;border-radius:4px;margin-right:6px;background:{colour}"
    return f'<span style="{style}"></span>'


def _problems(worker: WorkerStatus) -> list[str]:
    """Return why *worker* cannot be used, and for what it is set aside."""
    return [*([worker.reason] if worker.reason is not None else []), *aside_texts(worker)]


def _chips(worker: WorkerStatus) -> str:
    style = f"display:inline-block;border:1px solid {LINE};border-radius:8px;padding:0 7px;margin:1px 3px 1px 0;{CODE}"
    tags = [tag if value is None else f"{tag}={value}" for tag, value in worker.tags.items()]
    chips = "".join(f'<span style="{style}">{_outside(tag, 80)}</span>' for tag in tags[:TAGS])
    return chips + _more(len(tags) - TAGS, "tags")


# ---- parts ---------------------------------------------------------------------------------

LINE = "var(--jp-border-color2, var(--vscode-widget-border, rgba(128,128,128,.35)))"


def plain_html(text: str) -> str:
    """Return *text* as it would stand in a terminal."""
    return f'<pre style="{CODE};margin:0">{escape(text)}</pre>'


def with_note(html: str, note: str) -> str:
    """Return *html* with a remark below it."""
    return f'<div style="{FRAME}">{html}{_note(note)}</div>'


def _outside(text: str, limit: int) -> str:
    """Return *text* from outside as HTML that says it and does nothing else; it keeps its direction to itself."""
    return f"<bdi>{escape(clean(text, limit))}</bdi>"


def _code(text: str, limit: int) -> str:
    return f'<span style="{CODE};overflow-wrap:anywhere">{_outside(text, limit)}</span>'


def _frame(*rows: str) -> str:
    return f'<div style="{FRAME}">{"".join(rows)}</div>'


def _row(html: str, style: str = "") -> str:
    return f'<div style="{style}">{html}</div>'


def _head(name: str, what: str) -> str:
    return _row(
        f'<b style="font-weight:600;overflow-wrap:anywhere">{_outside(name, 80)}</b>'
        f'<span style="{MUTED};white-space:nowrap">{_outside(what, 80)}</span>',
        "display:flex;justify-content:space-between;gap:12px;align-items:baseline",
    )


def _note(text: str) -> str:
    return _row(_outside(text, 400), MUTED)


def _more(count: int, what: str) -> str:
    return _note(f"and {count:,} more {what}") if count > 0 else ""


def _line(said: Iterable[Figure]) -> str:
    words = [
        f'<span style="{RED_WORDS}">{escape(figure.text)}</span>' if figure.kind == "failed" else
        f"<bdi>{escape(figure.text)}</bdi>"
        for figure in said
    ]  # fmt: skip
    return _row(", ".join(words), "opacity:.85")


def _bar(parts: Iterable[Part]) -> str:
    pieces, taken = [], 0.0
    for kind, share in parts:
        size = min(max(share, 0.0), 1.0 - taken) if math.isfinite(share) else 0.0
        taken += size
        if size > 0:
            pieces.append(
                f'<div style="width:{100 * size:.2f}%;min-width:2px;background:{COLOURS[kind]};'
                f'opacity:{FADED.get(kind, 1)}"></div>'
            )
    track = '<div style="position:absolute;inset:0;background:currentColor;opacity:.13"></div>'
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * taken:.0f}" '
        'style="position:relative;height:6px;border-radius:3px;overflow:hidden;margin:4px 0">'
        f'{track}<div style="position:relative;display:flex;height:100%">{"".join(pieces)}</div></div>'
    )


def _failures(found: Sequence[Reason], count: int) -> str:
    rows = [
        _row(
            f'<span style="{RED_WORDS}">{reason.times:,} × </span>{_code(reason.text, 160)} '
            f'<span style="{MUTED}">{escape(reason.where)}</span>'
        )
        for reason in found
    ]
    rest = count - sum(reason.times for reason in found)
    if found and rest > 0:
        rows.append(_row(f"and {rest:,} more", MUTED))
    return _row("".join(rows), "padding-top:2px") if rows else ""


def _header(*columns: tuple[str, str]) -> str:
    return "".join(
        f'<th style="text-align:{side};font-weight:400;{MUTED};padding:2px 14px 2px 0;background:none">{name}</th>'
        for name, side in columns
    )


def _table(head: str, body: str) -> str:
    # Notebooks give tables stripes and columns of one width.
    style = "border-collapse:collapse;table-layout:auto;width:100%;margin:2px 0;font-size:13px"
    style += ";color:inherit;background:none"
    return f'<table style="{style}"><thead><tr style="background:none">{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(html: str, style: str) -> str:
    return (
        f'<td style="padding:3px 14px 3px 0;border-top:1px solid {LINE};vertical-align:top;text-align:left;'
        f'line-height:1.5;background:none;{style}">{html}</td>'
    )


def _wide_cell(html: str, style: str) -> str:
    return f'<td colspan="5" style="padding:0 14px 3px 0;text-align:left;background:none;{style}">{html}</td>'
