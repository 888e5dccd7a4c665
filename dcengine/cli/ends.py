"""The end of a job on the terminal: its value, or what became of it instead."""

from __future__ import annotations

import json
import time

import typer

from .. import codec
from ..errors import JobCancelled
from ..verbs import JobResult
from .choosing import Link
from .showing import show_error, show_json, show_note

POLL_SECONDS = 20.0  #: the longest single wait


def end_of(engine: Link, id: int, *, wait: float) -> JobResult | None:
    """Return the end of job *id*; None if it has none within *wait* seconds."""
    deadline = time.monotonic() + wait
    while True:
        left = deadline - time.monotonic()
        end: JobResult | None = engine.call("result", id, wait=max(0.0, min(left, POLL_SECONDS)))
        if end is not None or left <= POLL_SECONDS:
            return end


def show_end(id: int, end: JobResult, *, as_json: bool) -> None:
    """Print the value of job *id* as Python writes it; where there is none, say why and end with status 1."""
    if end.state == "succeeded":
        value = _value(id, end.data)
        if as_json:
            show_json({"id": id, "state": end.state, "result": presentable(value)})
        else:
            typer.echo(repr(value))
        return
    failure = codec.unpack_failure(end.data) if end.data else codec.failure_from(JobCancelled(id))
    if as_json:
        show_json({"id": id, "state": end.state, "error": failure.sentence, "traceback": failure.traceback})
    else:
        if failure.traceback:
            show_note(failure.traceback.rstrip())
        show_error(f"job {id} {end.state}: {failure.sentence}")
    raise typer.Exit(1)


def _value(id: int, data: bytes) -> object:
    """Return the value in *data*, which may need modules that only the workers have."""
    try:
        return codec.loads(data)
    except (ImportError, AttributeError) as error:
        show_error(
            f"job {id} succeeded, but its value cannot be shown here: {error}; run this command "
            "in an environment and a folder that have what the value is made of"
        )
        raise typer.Exit(1) from None


def presentable(value: object) -> object:
    """Return *value*, or its text where JSON has no form for it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value
