"""``dcengine join``: this machine as a worker of an engine, or of a foreign Dask scheduler."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from .choosing import told
from .showing import show_note

if TYPE_CHECKING:
    from ..cluster.join import Joining


@told
def join(
    target: Annotated[
        str, typer.Argument(metavar="URL", help="The engine's, with its token, or tcp://... of a Dask scheduler.")
    ],
    tags: Annotated[str, typer.Option(help="What this worker offers, such as gpu,site=lab.")] = "",
    nickname: Annotated[str, typer.Option(help="Who earns the credit.", show_default="user@host")] = "",
    slots: Annotated[int, typer.Option(min=1, help="How many tasks it runs side by side.")] = 1,
    name: Annotated[str | None, typer.Option(help="The worker's name.", show_default="made up")] = None,
) -> None:
    """Bring this machine as a worker; it stays until Ctrl-C."""
    from ..cluster.join import join as join_cluster  # late: it loads Dask

    async def stay() -> None:
        work = asyncio.ensure_future(
            join_cluster(target, tags=tags, nickname=nickname, slots=slots, name=name, on_event=_tell)
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, work.cancel)
        await asyncio.wait([work])
        if work.cancelled():
            show_note("left; what it was doing goes to other workers")
        else:
            work.result()

    asyncio.run(stay())


def _tell(step: Joining) -> None:
    """Say what became of the worker, where results would not be looked for."""
    if step.kind == "joined":
        show_note(f"joined {step.scheduler} as {step.name}; Ctrl-C leaves")
    elif step.kind == "left":
        show_note(f"{step.name} left: {step.reason}")
    else:
        show_note(f"{step.name} will try again: {step.reason}")
