"""What the line magics ask, and how their lines are read."""

from __future__ import annotations

import argparse
import inspect
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import dcengine
from dcengine.errors import DcengineError
from dcengine.handles import JobHandle
from dcengine.jobs import JobState
from dcengine.lists import FUNCTIONS, Explained, JobList, Leaderboard, Sentence, WorkerList
from dcengine.plain import clean
from dcengine.verbs import Span

from .cells.tracebacks import rendered
from .views.past import JobPast

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

STATES = [state.text for state in JobState]
SPANS = list(get_args(Span))
MOST = 1000  #: jobs of one list


class InvalidLine(DcengineError, ValueError):
    """What stands behind a line magic makes no sense."""

    def __init__(self, magic: str, problem: str) -> None:
        super().__init__(magic, problem)
        self.magic, self.problem = magic, problem

    def __str__(self) -> str:
        return f"%{self.magic}: {self.problem}; %{self.magic}? says what may stand there"


def answer(shell: InteractiveShell, name: str, line: str) -> Any:
    """Return what magic *name* shows for *line*; raise what is wrong with it, without frames of ours."""
    try:
        if line.split() in (["-h"], ["--help"]):
            print(inspect.getdoc(shell.find_line_magic(name)))
            return None
        return ANSWERS[name](line, shell.user_ns)
    except DcengineError as error:
        raise rendered(error) from None


def jobs(line: str, names: Mapping[str, Any]) -> JobList:
    """Return the newest jobs that *line* asks for."""
    words = Words("jobs")
    words.add_argument("--state", choices=STATES)
    for option in ("--project", "--stage", "--submitter", "--worker", "--text"):
        words.add_argument(option)
    words.add_argument("--before", type=_id)
    words.add_argument("-n", dest="limit", type=_count, default=20)
    return dcengine.list_jobs(**vars(words.read(line)))


def job(line: str, names: Mapping[str, Any]) -> JobPast:
    """Return the past of the job on *line*."""
    found = JobPast(_job_on("job", line, names))
    found.handle.status()  # raises for one that there is not
    return found


def project(line: str, names: Mapping[str, Any]) -> dcengine.Project:
    """Return the project on *line*."""
    words = Words("project")
    words.add_argument("NAME", nargs="?")
    name = words.read(line).NAME
    if name is None:
        known = [each.name for each in dcengine.api.current().call("projects")]
        raise InvalidLine("project", f"which one? There are: {clean(', '.join(known) or 'none', 400)}")
    found = names.get(name)
    if not isinstance(found, dcengine.Project):
        found = dcengine.Project(name)
        found.status()  # raises for one that there is not
    return found


def workers(line: str, names: Mapping[str, Any]) -> WorkerList | Explained:
    """Return the workers, or how they match the expression on *line*."""
    expression = line.strip().removeprefix("--tags ").strip()
    if expression[:1] in ("'", '"') and expression.find(expression[0], 1) == len(expression) - 1:
        expression = expression[1:-1]  # in quotation marks as a whole, as shells need it
    return dcengine.explain(expression) if expression else dcengine.workers()


def why(line: str, names: Mapping[str, Any]) -> Sentence:
    """Return why the job on *line* is not running."""
    return Sentence.of(_job_on("why", line, names).why())


def _job_on(magic: str, line: str, names: Mapping[str, Any]) -> JobHandle:
    """Return the job whose id, place in a project or handle stands on *line*."""
    words = Words(magic)
    words.add_argument("ID")
    name = words.read(line).ID
    handle = names.get(name)
    if handle is not None and not isinstance(handle, JobHandle):
        raise InvalidLine(magic, f"{name} is of type {type(handle).__name__}, and no handle of a job")
    return handle or dcengine.job(name)


def leaderboard(line: str, names: Mapping[str, Any]) -> Leaderboard:
    """Return the leaderboard that *line* asks for."""
    words = Words("leaderboard")
    words.add_argument("project", nargs="?", default=FUNCTIONS)
    words.add_argument("--span", choices=SPANS, default="all")
    return dcengine.leaderboard(**vars(words.read(line)))


ANSWERS: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
    "jobs": jobs, "job": job, "project": project, "workers": workers, "why": why, "leaderboard": leaderboard,
}  # fmt: skip


class Words(argparse.ArgumentParser):
    """The words behind a line magic; raises `InvalidLine`."""

    def __init__(self, magic: str) -> None:
        super().__init__(prog=f"%{magic}", add_help=False, allow_abbrev=False)
        self._magic = magic

    def read(self, line: str) -> argparse.Namespace:
        """Return what *line* says."""
        try:
            words = shlex.split(line)
        except ValueError as error:  # a quote that does not end
            self.error(str(error))
        return self.parse_args(words)

    def error(self, message: str) -> NoReturn:
        """Refuse what was asked for."""
        raise InvalidLine(self._magic, message)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST:,}")
    return int(text)


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no id of a job")
    return int(text)
