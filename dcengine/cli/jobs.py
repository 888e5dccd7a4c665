"""``dcengine jobs``: what there is, one job, its result, why it waits, cancel. More of it stands in `repairing`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..verbs import BatchStatus, JobStatus, Progress
from .choosing import Json, Link, with_engine
from .ends import end_of, show_end
from .showing import ago, duration, show_error, show_facts, show_json, show_line, show_table


def job_name(text: str) -> str:
    """Check that *text* names a job: an id, or a project and a number."""
    project, slash, number = text.rpartition("/")
    if not (number.isascii() and number.isdigit() and int(number) > 0) or bool(project) != bool(slash):
        raise typer.BadParameter(f"{text!r} is neither an id such as 17 nor a job of a project such as photos/17")
    return text


JobName = Annotated[
    str, typer.Argument(metavar="ID", parser=job_name, help="The job's id, or its place in a project: photos/17.")
]
Batch = Annotated[bool, typer.Option("--batch", help="ID is that of a batch.")]


class _JobsGroup(TyperGroup):
    """``dcengine jobs`` is ``jobs list``, and ``dcengine jobs 17`` is ``jobs show 17``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].rpartition("/")[2].isdigit():
            args = ["show", *args]
        elif not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


jobs = typer.Typer(
    cls=_JobsGroup,
    help="List jobs and batches; `jobs ID` shows one, `jobs result ID` what it returned.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@jobs.command("list")
@with_engine
def list_jobs(
    engine: Link,
    state: Annotated[
        str | None, typer.Option(help="Only jobs in this state: open, succeeded, failed, cancelled.")
    ] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs of this project.")] = None,
    before: Annotated[int | None, typer.Option(min=1, metavar="ID", help="Only jobs older than this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the newest jobs and batches. Also what `dcengine jobs` alone does."""
    found: list[JobStatus] = engine.call("jobs", state=state, project=project, before=before, limit=limit)
    batches: list[BatchStatus] = [
        batch
        for batch in (engine.call("batches", limit=limit) if project is None else [])
        if state in (None, batch.state)
    ]
    if as_json:
        show_json({"jobs": found, "batches": batches})
        return
    if not found and not batches:
        show_line("no jobs yet; `dcengine submit MODULE:FUNCTION` or dcengine.submit() makes one")
    if batches:
        columns = ["batch", "function", "state", "done", "of", "failed", "rate", "tags", "submitted"]
        show_table("Batches", columns, map(_batch_row, batches))
    if found:
        what = "function" if all(job.project == "functions" for job in found) else "stage" if project else "what"
        columns = ["job", what, "state", "worker", "progress", "errors", "tags", "submitted"]
        show_table("Jobs", columns, map(_job_row, found))


@jobs.command("show")
@with_engine
def show(engine: Link, name: JobName, batch: Batch = False, as_json: Json = False) -> None:
    """Show one job and what it printed. Also what `dcengine jobs ID` does."""
    if batch:
        _show_batch(engine.call("batch", _batch_id(name)), as_json=as_json)
        return
    id = id_of(engine, name)
    job: JobStatus = engine.call("job", id)
    output: str = engine.call("output", id)
    if as_json:
        show_json({"job": job, "output": output})
        return
    show_facts(
        [
            ("job", f"{job.id} ({job.project}/{job.number})"),
            ("function", job.name),
            ("stage", job.stage),
            ("part of", job.parent),
            ("generation", job.generation or None),
            ("flags", job.flags or None),
            ("state", _state(job)),
            ("reason", job.reason),
            ("warning", job.warning),
            ("worker", job.worker),
            ("progress", _progress(job.progress)),
            ("tags", job.tags),
            ("priority", job.priority or None),
            ("batch", job.batch),
            ("runs", job.attempt),
            ("errors", job.errors or None),
            ("submitted", ago(job.created)),
            ("took", duration(job.finished - job.created) if job.finished else None),
            ("result", f"dcengine jobs result {job.id}" + ("" if job.is_final else " --wait SECONDS")),
        ]
    )
    if output:
        show_line("output", style="bold")
        show_line(output.rstrip("\n"))


def _show_batch(batch: BatchStatus, *, as_json: bool) -> None:
    if as_json:
        show_json({"batch": batch})
        return
    show_facts(
        [
            ("batch", f"{batch.id} (jobs {batch.first_job} to {batch.first_job + batch.count - 1})"),
            ("function", batch.name),
            ("state", batch.state),
            ("done", f"{batch.done:,} of {batch.count:,}"),
            ("failed", batch.failed or None),
            ("cancelled", batch.cancelled or None),
            ("running", batch.running or None),
            ("workers", ", ".join(batch.workers)),
            ("warning", batch.warning),
            ("tags", batch.tags),
            ("submitted", ago(batch.created)),
            ("took", duration(batch.finished - batch.created) if batch.finished else None),
        ]
    )


@jobs.command("result")
@with_engine
def result(
    engine: Link,
    name: JobName,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for it.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Print what a job returned, or the error with which it ended."""
    id = id_of(engine, name)
    end = end_of(engine, id, wait=wait)
    if end is not None:
        show_end(id, end, as_json=as_json)
        return
    why = engine.call("why", id)
    if as_json:
        show_json({"id": id, "state": "open", "why": why})
    else:
        show_error(f"{why}; --wait SECONDS waits for its end")
    raise typer.Exit(1)


@jobs.command("why")
@with_engine
def why(engine: Link, name: JobName, as_json: Json = False) -> None:
    """Say why a job is not running."""
    id = id_of(engine, name)
    reason = engine.call("why", id)
    if as_json:
        show_json({"id": id, "why": reason})
    else:
        show_line(reason)


@jobs.command("cancel")
@with_engine
def cancel(
    engine: Link,
    name: Annotated[
        str | None,
        typer.Argument(metavar="ID", parser=job_name, help="The job's id, or its place in a project: photos/17."),
    ] = None,
    batch: Batch = False,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Every open job of this project.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Every job and batch that has not ended.")] = False,
    as_json: Json = False,
) -> None:
    """Cancel a job, a batch, a project's jobs, or all that has not ended."""
    if [name is not None, project is not None, unfinished].count(True) != 1:
        raise typer.BadParameter("give the ID of a job, or --project NAME, or --unfinished")
    if name is None:
        cancelled = engine.call("cancel_unfinished") if unfinished else engine.call("cancel_project", project)
        say({"cancelled": cancelled}, f"unfinished jobs cancelled: {cancelled:,}", as_json=as_json)
        return
    id = _batch_id(name) if batch else id_of(engine, name)
    status: JobStatus | BatchStatus = engine.call("cancel_batch" if batch else "cancel", id)
    kind = "batch" if batch else "job"
    say({kind: status}, f"{kind} {id} is {status.state}", as_json=as_json)


def id_of(engine: Link, name: str) -> int:
    """Return the id of the job called *name*."""
    project, _, number = name.rpartition("/")
    return int(engine.call("find_job", project, int(number)) if project else number)


def _batch_id(name: str) -> int:
    if not name.isdigit():
        raise typer.BadParameter("the ID of a batch is a number")
    return int(name)


def say(value: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(value)
    else:
        show_line(text)


def _job_row(job: JobStatus) -> list[object]:
    id, what = (job.id, job.name) if job.project == "functions" else (f"{job.project}/{job.number}", job.stage)
    progress, errors = _progress(job.progress), job.errors or None
    return [id, what, _state(job), job.worker, progress, errors, job.tags, ago(job.created)]


def _batch_row(batch: BatchStatus) -> list[object]:
    rate = f"{batch.rate:,.1f}/s" if batch.rate else None
    done, count = f"{batch.done:,}", f"{batch.count:,}"
    return [batch.id, batch.name, batch.state, done, count, batch.failed or None, rate, batch.tags, ago(batch.created)]


def _state(job: JobStatus) -> str:
    return job.state if job.is_final else job.task_state


def _progress(progress: Progress | None) -> str | None:
    if progress is None:
        return None
    share = f"{progress.done:g} of {progress.total:g}" if progress.total else f"{progress.done:g}"
    return f"{share} {progress.text}".rstrip()
