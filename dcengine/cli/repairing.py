"""``dcengine jobs failed``, ``retry``, ``edit`` and ``history``: what went wrong in projects, and another try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from .. import codec
from ..errors import InvalidOption
from ..handles import check_editable
from ..histories import StageRecord
from ..lists import DeadLetter, dead_letters
from ..verbs import HistoryEntry, JobStatus, StageOutput
from .choosing import Json, Link, with_engine
from .ends import presentable
from .jobs import JobName, id_of, job_name, say
from .showing import show_json, show_line, show_table

Stage = Annotated[str | None, typer.Option(metavar="NAME", help="Only those that failed at this stage.")]


@with_engine
def failed(
    engine: Link,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's name.")],
    stage: Stage = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List the jobs of a project that failed, with their reasons; they stay so until somebody retries them."""
    if stage is not None:
        engine.call("outputs", project, stage, limit=1)  # it raises `NotFound` for a stage that there is not
    letters = [
        (letter, engine.call("job", letter.id))
        for letter in dead_letters(islice(_failed(engine, project, stage), limit))
    ]
    if as_json:
        show_json([_letter_facts(*each) for each in letters])
    elif letters:
        rows = [(f"{project}/{one.number}", one.stage, job.attempt, job.worker, one.reason) for one, job in letters]
        show_table(f"Failed jobs of {project}", ["job", "stage", "runs", "worker", "reason"], rows)
        show_line(f"`dcengine jobs retry --project {project}` runs them all again; `jobs edit ID` corrects an input")
    else:
        show_line(f"no job of {project} has failed" + (f" at {stage}" if stage else ""))


def _failed(engine: Link, project: str, stage: str | None) -> Iterator[StageOutput]:
    after = 0
    while page := engine.call("failed_jobs", project, after=after):
        yield from (end for end in page if stage in (None, end.stage))
        after = page[-1].number


def _letter_facts(letter: DeadLetter, job: JobStatus) -> dict[str, object]:
    return {
        "number": letter.number, "id": letter.id, "stage": letter.stage, "runs": job.attempt, "errors": job.errors,
        "worker": job.worker, "reason": letter.reason, "parent": letter.parent,
    }  # fmt: skip


@with_engine
def retry(
    engine: Link,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", parser=job_name, help="Ids, or places in a project: photos/17."),
    ] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="All failed jobs of this project.")] = None,
    stage: Stage = None,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Its cancelled jobs too.")] = False,
    as_json: Json = False,
) -> None:
    """Run failed and cancelled jobs again where they ended."""
    if bool(names) == (project is not None):
        raise typer.BadParameter("give the IDs of jobs, or --project NAME")
    if project is None and (stage is not None or cancelled):
        raise typer.BadParameter("--stage and --cancelled go with --project")
    if project is not None:
        retried = engine.call("retry_project", project, stage=stage, cancelled=cancelled)
    else:
        retried = engine.call("retry", [id_of(engine, name) for name in names or ()])
    none = "" if retried else "; only those that failed or were cancelled do"
    say({"retried": retried}, f"jobs that run again: {retried:,}{none}", as_json=as_json)


@with_engine
def edit(
    engine: Link,
    name: JobName,
    json_text: Annotated[str | None, typer.Option("--json", metavar="TEXT", help="As JSON.")] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="As it is, a text.")] = None,
) -> None:
    """Give a job another input at the stage where it is or ended, and queue it there."""
    if (json_text is None) == (text is None):
        raise typer.BadParameter("give the input with --json or with --text")
    value = text if json_text is None else _parsed(json_text)
    id = id_of(engine, name)
    check_editable(engine.call("job", id))
    status: JobStatus = engine.call("edit", id, codec.pack_json(value, what="the input"))
    show_line(f"job {status.id} has another input at stage {status.stage}; it is {status.task_state}")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidOption("--json", f"{text[:100]!r} ({error})", "a JSON value; --text takes any text") from None


@with_engine
def history(engine: Link, name: JobName, as_json: Json = False) -> None:
    """Show what each stage made of a job, in each generation."""
    id = id_of(engine, name)
    entries: list[HistoryEntry] = engine.call("history", id)
    records = [StageRecord(id, entry, lambda record: record.parts) for entry in entries]
    if as_json:
        show_json([_entry_facts(*each) for each in zip(records, entries, strict=True)])
        return
    columns = ["stage", "generation", "state", "worker", "finished", "parts", "input", "output", "remarks"]
    show_table(f"History of job {name}", columns, [_record_row(*each) for each in zip(records, entries, strict=True)])


def _record_row(record: StageRecord, entry: HistoryEntry) -> list[object]:
    finished = record.finished and datetime.fromtimestamp(record.finished).isoformat(" ", "seconds")
    parts = len(record.parts) or None
    put_in, made = _shown(entry.input), _shown(entry.output if record.state != "failed" else None)
    return [
        record.stage, record.generation, record.state, record.worker, finished, parts, put_in, made, record.remarks,
    ]  # fmt: skip


def _entry_facts(record: StageRecord, entry: HistoryEntry) -> dict[str, object]:
    return {
        "stage": record.stage, "generation": record.generation, "state": record.state, "runs": record.runs,
        "worker": record.worker, "contributor": record.contributor, "finished": record.finished,
        "input": _json_of(entry.input), "output": _json_of(entry.output if record.state != "failed" else None),
        "parts": record.parts, "tries": record.tries, "flags": record.flags, "remarks": record.remarks,
    }  # fmt: skip


def _shown(data: bytes | None) -> str:
    """Return a packed value as Python writes it, shortened."""
    value = repr(_unpacked(data)) if data else ""
    return value if len(value) <= 60 else f"{value[:59]}…"


def _json_of(data: bytes | None) -> object:
    return presentable(_unpacked(data)) if data else None


def _unpacked(data: bytes) -> object:
    """Return the value in *data*; what it needs may be on the workers alone."""
    try:
        return codec.loads(data)
    except Exception as error:  # unpickling runs the code of whoever made the value
        return f"(cannot be shown here: {error})"
