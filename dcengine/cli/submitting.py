"""``dcengine submit``: a function of a module, its arguments from the command line."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Literal

import typer

from ..calls import submission_of
from ..cautions import sentence_of
from ..errors import InvalidOption
from ..verbs import JobResult, JobStatus
from .choosing import Json, Link, with_engine
from .ends import POLL_SECONDS, end_of, show_end
from .showing import show_json, show_note


@with_engine
def submit(
    engine: Link,
    function: Annotated[
        str,
        typer.Argument(metavar="MODULE:FUNCTION", help="Such as math:factorial; modules of this folder are found too."),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENT", help="JSON where it parses, else text; `--` goes before a negative number."),
    ] = None,
    tags: Annotated[str, typer.Option(help="The tags that a worker must have, such as 'gpu.memory>=16GiB'.")] = "",
    retries: Annotated[int, typer.Option(min=0, help="How many errors of the function are forgiven.")] = 0,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds that one run may take.")] = None,
    priority: Annotated[int, typer.Option(help="Higher runs earlier.")] = 0,
    key: Annotated[str | None, typer.Option(help="The same key gives the same job.")] = None,
    on_no_match: Annotated[
        Literal["wait", "fail"], typer.Option(help="What to do where no worker has the tags.")
    ] = "wait",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the result and print it.")] = False,
    as_json: Json = False,
) -> None:
    """Run a function on a worker; print the job's id, or its result."""
    called = _function(function)
    options = {
        "tags": tags, "retries": retries, "timeout": timeout, "priority": priority, "key": key,
        "on_no_match": on_no_match,
    }  # fmt: skip
    job = engine.call("submit", submission_of(called, tuple(map(_value, arguments or [])), {}, options))
    if job.warning:
        show_note(job.warning)
    for other in job.other_versions:
        show_note(sentence_of(other))
    if wait:
        end = _end_of(engine, job)
        show_end(job.id, end, as_json=as_json)
    elif as_json:
        show_json(job)
    else:
        typer.echo(job.id)


def _function(address: str) -> Callable[..., Any]:
    """Return the function at ``module:function``; modules of the working directory are found too."""
    module_name, _, name = address.partition(":")
    if not module_name or not name:
        raise InvalidOption("the function", repr(address), "MODULE:FUNCTION, such as math:sqrt")
    sys.path.insert(0, os.getcwd())
    try:
        found = attrgetter(name)(importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        where = f"a module that can be imported from {os.getcwd()}: {error}"
        raise InvalidOption("the module", repr(module_name), where) from error
    except AttributeError as error:
        raise InvalidOption("the function", repr(address), f"a name in that module: {error}") from error
    if not callable(found):
        raise InvalidOption("the function", repr(address), f"something to call, not a {type(found).__name__}")
    called: Callable[..., Any] = found
    return called


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _end_of(engine: Link, job: JobStatus) -> JobResult:
    show_note(f"job {job.id}")
    try:
        end = None
        while end is None:
            end = end_of(engine, job.id, wait=POLL_SECONDS)
        return end
    except KeyboardInterrupt:
        show_note(f"job {job.id} goes on; `dcengine jobs {job.id}` shows it, `dcengine jobs cancel {job.id}` ends it")
        raise typer.Exit(130) from None
