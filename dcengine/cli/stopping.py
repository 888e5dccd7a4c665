"""``dcengine stop``: the end of an engine of this machine, in the background or under another terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..config import load
from ..errors import EngineError
from ..owner import Owner, bare, find_owner, lock_path
from .choosing import Json, told
from .showing import show_json, show_line

PATIENCE = 60.0  #: seconds that an engine has to hand back what its workers do, and to close its file


@told
def stop(
    db: Annotated[str | None, typer.Option("--db", help="Stop the engine of this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Stop the engine of a file; its jobs are kept, and the next engine goes on with them."""
    path = _file(db)
    owner = find_owner(path)
    if owner is not None:
        _end(path, owner)
    if as_json:
        show_json({"db": str(path), "stopped": None if owner is None else owner.pid})
    elif owner is None:
        show_line(f"no engine runs for {path}")
    else:
        show_line(f"stopped the engine of {path} (process {owner.pid}); its jobs are kept")


def _file(db: str | None) -> Path:
    settings = load(db=db)
    if db is None and settings.url:
        raise EngineError(
            f"the engine in use is the one at {bare(settings.url)}, which is stopped where it runs; "
            "--db FILE stops that of a file of this machine"
        )
    return Path(settings.db).resolve()


def _end(path: Path, owner: Owner) -> None:
    """Have *owner* end as Ctrl-C would, and wait until the file is free; raises `EngineError` where that cannot be."""
    import psutil  # late: every other command does without

    whose = f"the engine of {path} is process {owner.pid}"
    try:
        if not _holds(owner.pid, lock_path(path)):
            if not _still_owns(path, owner):
                return
            raise EngineError(f"{whose} of another system, a container or another machine: stop it there")
        if not owner.is_program:
            raise EngineError(
                f"{whose}, a notebook or another program with an engine in it, which is not ended for that: "
                "close the engine there, by its close() or the end of its with block"
            )
        psutil.Process(owner.pid).terminate()
    except psutil.NoSuchProcess:
        pass  # it has just ended
    except psutil.AccessDenied:
        raise EngineError(f"{whose} of another user, who can stop it") from None
    _until_free(path, owner)


def _holds(pid: int, lock: Path) -> bool:
    """Tell whether process *pid* of this system has the file *lock* open: others may count their processes anew."""
    import psutil

    return pid > 0 and psutil.pid_exists(pid) and str(lock) in {one.path for one in psutil.Process(pid).open_files()}


def _still_owns(path: Path, owner: Owner) -> bool:
    now = find_owner(path)
    return now is not None and now.pid == owner.pid


def _until_free(path: Path, owner: Owner) -> None:
    deadline = time.monotonic() + PATIENCE
    while _still_owns(path, owner):
        if time.monotonic() > deadline:
            raise EngineError(
                f"the engine of {path} (process {owner.pid}) was asked to stop and has not within {PATIENCE:g} s: "
                "its jobs are safe however it ends"
            )
        time.sleep(0.02)
