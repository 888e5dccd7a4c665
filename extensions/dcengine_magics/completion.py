"""What the Tab key offers behind the line magics. It asks an engine that was asked before, briefly, and starts none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NoAnswer
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .lines import NAMES

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

PATIENCE = 0.5  #: seconds that somebody who pressed Tab waits
OFFERED = 200  #: names at most


def register(shell: InteractiveShell) -> None:
    """Have *shell* complete the words behind our line magics."""
    for name in NAMES:
        shell.set_hook("complete_command", partial(_complete, name), str_key=f"%{name}")


def _complete(name: str, shell: InteractiveShell, event: SimpleNamespace) -> list[str]:
    """Return what may stand at the end of ``event.line``; called by IPython when Tab is pressed."""
    before = event.line[: len(event.line) - len(event.symbol)].split()
    option = before[-1] if len(before) > 1 else ""
    return [word for word in _words(name, option, shell) if word.startswith(event.symbol)]


def _words(name: str, option: str, shell: InteractiveShell) -> list[str]:
    from .line_answers import SPANS, STATES

    values: dict[str, Callable[[], list[str]]] = {
        "--state": lambda: STATES, "--span": lambda: SPANS, "--project": _projects,
        **dict.fromkeys(("--stage", "--submitter", "--worker", "--text", "--before", "-n"), list),
    }  # fmt: skip
    if option in values:
        return values[option]()
    here: dict[str, Callable[[], list[str]]] = {
        "jobs": lambda: ["--state", "--project", "--stage", "--submitter", "--worker", "--text", "--before", "-n"],
        "job": lambda: [*_handles(shell), *_open_jobs()],
        "project": _projects,
        "workers": _tags,
        "why": lambda: [*_handles(shell), *_open_jobs()],
        "leaderboard": lambda: ["--span", *_projects()],
    }
    return here[name]()


def _handles(shell: InteractiveShell) -> list[str]:
    from dcengine.handles import JobHandle

    return [name for name, value in shell.user_ns.items() if isinstance(value, JobHandle) and not name.startswith("_")]


def _open_jobs() -> list[str]:
    from dcengine.lists import job_name

    return [job_name(job) for job in _asked("jobs", state="open", limit=OFFERED)]


def _projects() -> list[str]:
    return [project.name for project in _asked("projects")][:OFFERED]


def _tags() -> list[str]:
    return sorted({tag for worker in _asked("workers") for tag in worker.tags})[:OFFERED]


def _asked(verb: str, **options: Any) -> list[Any]:
    """Return what the engine at hand answers; nothing without one, or from one that takes its time."""
    from dcengine.api import front
    from dcengine.errors import DcengineError

    link = front.at_hand()
    if link is None:
        return []
    question = link.start(verb, **options)
    try:
        return list(question.result(PATIENCE))
    except (DcengineError, NoAnswer, CancelledError, OSError):
        return []
    finally:
        question.cancel()
