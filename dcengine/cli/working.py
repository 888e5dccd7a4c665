"""``dcengine worker``: this machine does tasks of a project by a command in any language."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from .. import times
from ..config import load
from ..errors import InvalidOption
from ..tags.quantities import quantity
from .choosing import told
from .showing import show_note
from .work_shown import teller, told_troubles

if TYPE_CHECKING:
    from ..worker.worker import AsyncWorker
    from ..worker.workshop import Workshop

CLOSE_SECONDS = 5.0  #: to hand in and hand back, where somebody waits for the end
INTERRUPTED = 130  #: the exit code of what Ctrl-C has ended
ENDING = "taking no more tasks; what runs is ended and handed back; once more ends it at once"


@told
def worker(
    url: Annotated[str, typer.Argument(metavar="URL", help="The engine's, with or without a token in it.")],
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help="What does a task; {input} and so on are filled in."),
    ],
    project: Annotated[str, typer.Option(help="The project.")],
    stage: Annotated[str, typer.Option(help="Its stage, one for outside workers.")],
    token: Annotated[
        str | None, typer.Option(help="The token, unless it stands in the URL.", show_default="DCENGINE_TOKEN")
    ] = None,
    nickname: Annotated[str | None, typer.Option(help="Who earns the credit.", show_default="user@host")] = None,
    tags: Annotated[str, typer.Option(help="What this machine offers, such as gpu,memory=64GiB.")] = "",
    name: Annotated[str | None, typer.Option(help="The worker's name.", show_default="made up")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Commands side by side.")] = 1,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tasks asked for at once.", show_default="as many as --jobs")
    ] = None,
    prefetch: Annotated[int, typer.Option(min=0, help="Tasks held ahead of those that run.")] = 0,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="For one command, such as 10m.")] = None,
    max_time: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Begin no task after it; what runs goes on to its end.")
    ] = None,
    exit_when_idle: Annotated[
        str | None, typer.Option(metavar="DURATION", help="End after so long without a task.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do one task; the exit code tells what became of it.")] = False,
    idle_only: Annotated[
        bool, typer.Option("--idle-only", help="Work only while the owner of this machine does not use it.")
    ] = False,
    idle_after: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the owner must be away for that.")
    ] = "5m",
    json_output: Annotated[
        bool, typer.Option("--json-output", help="What the command writes is a JSON value, not text.")
    ] = False,
    max_output: Annotated[str, typer.Option(metavar="SIZE", help="What a command may write as output.")] = "64MiB",
    as_json: Annotated[bool, typer.Option("--json", help="Print what happens as lines of JSON, for programs.")] = False,
) -> None:
    """Do tasks of a project's stage on this machine, by a command in any language, which stands behind --.

    It gets the input on stdin, or as {input} or {file} among its arguments, and writes the output to stdout.
    Exit code 0: done; 65: the input is bad; any other: failed, with the end of stderr as the reason.

    `dcengine workers` lists the workers that an engine has; `dcengine join` brings one for Python functions.
    """
    from ..worker.commands import CommandLine  # late: `dcengine --help` needs none of it
    from ..worker.errands import Rules
    from ..worker.idle import owner_watch
    from ..worker.worker import AsyncWorker
    from ..worker.workshop import Terms, Workshop

    line = CommandLine(command)
    rules = Rules(timeout=_seconds("--timeout", timeout), output_limit=_bytes(max_output), as_json=json_output)
    terms = Terms(
        jobs=1 if once else jobs,
        once=once,
        max_time=_seconds("--max-time", max_time),
        exit_when_idle=_seconds("--exit-when-idle", exit_when_idle),
        idle_after=times.seconds("--idle-after", idle_after),
    )
    watch = owner_watch() if idle_only else None

    def source() -> AsyncWorker:
        return AsyncWorker(
            url,
            project=project,
            stage=stage,
            nickname=nickname,
            tags=tags,
            token=_token(url, token),
            batch=max(batch or 1, terms.jobs),
            prefetch=0 if once else prefetch,
            limit=1 if once else None,
            name=name,
        )

    with teller(project, jobs=terms.jobs, as_json=as_json) as tell, told_troubles(tell):
        code = asyncio.run(
            _work(source, partial(Workshop, command=line, rules=rules, terms=terms, tell=tell, watch=watch))
        )
    raise typer.Exit(code)


async def _work(source: Callable[[], AsyncWorker], opened: Callable[[AsyncWorker], Workshop]) -> int:
    """Work until there is a reason to end; return the exit code that tells it."""
    leases = source()
    workshop = opened(leases)
    signals: list[int] = []

    def stop(number: int) -> None:
        show_note(ENDING if not signals else "at once")
        workshop.kill() if signals else workshop.stop()
        signals.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            loop.add_signal_handler(number, stop, number)
    try:
        await workshop.run()
    finally:
        await leases.close(CLOSE_SECONDS if signals else None)
    return INTERRUPTED if signal.SIGINT in signals else workshop.exit_code


def _token(url: str, token: str | None) -> str | None:
    """Return the token that was given, in whatever way; the settings' where it was in none."""
    from ..connection import split_address  # late: it loads aiohttp

    return token or split_address(url)[1] or load().token


def _seconds(option: str, text: str | None) -> float | None:
    return None if text is None else times.seconds(option, text)


def _bytes(text: str) -> int:
    found = quantity(text)
    if found is None or found < 0:
        raise InvalidOption("--max-output", repr(text), "bytes, or a size such as 16MiB")
    return int(found)
