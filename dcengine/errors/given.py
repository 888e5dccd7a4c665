"""What the caller handed in."""

from __future__ import annotations

from .base import DcengineError


class InvalidTags(DcengineError, ValueError):
    """A tag expression does not parse."""

    def __init__(self, expression: str, position: int, problem: str) -> None:
        super().__init__(expression, position, problem)
        self.expression, self.position, self.problem = expression, position, problem

    def __str__(self) -> str:
        return (
            f"{self.problem} at character {self.position + 1} of the tag expression {self.expression!r}; "
            "an expression looks like 'gpu.memory>=16GiB & cuda>=12 & !preemptible | site==lab'"
        )


class InvalidOption(DcengineError, ValueError):
    """An option or setting has a value it cannot have."""

    def __init__(self, option: str, value: str, expected: str) -> None:
        super().__init__(option, value, expected)
        self.option, self.value, self.expected = option, value, expected

    def __str__(self) -> str:
        return f"{self.option} cannot be {self.value}; expected {self.expected}"


class WorkloadBroken(DcengineError, RuntimeError):
    """A workload that is installed cannot be used."""

    def __init__(self, workload: str, package: str, problem: str, way_out: str) -> None:
        super().__init__(workload, package, problem, way_out)
        self.workload, self.package, self.problem, self.way_out = workload, package, problem, way_out

    def __str__(self) -> str:
        return f"the workload {self.workload!r} of {self.package} cannot be used: {self.problem}; {self.way_out}"


class DevicesShared(DcengineError, ValueError):
    """A call asks for a part of a worker's devices, but has no process of its own in which it would see no others."""

    def __init__(self, function: str, kind: str, count: int, worker: str, present: int) -> None:
        super().__init__(function, kind, count, worker, present)
        self.function, self.kind, self.count, self.worker, self.present = function, kind, count, worker, present

    def __str__(self) -> str:
        return (
            f"{self.function} asks for {self.count} {self.kind} of the {self.present} of worker {self.worker}, but "
            f"runs in that worker's own process (isolate=False, processes=False), where it would see {self.present}; "
            f"let it have a process, or ask for all {self.present}"
        )


class NotPicklable(DcengineError, TypeError):
    """A value cannot travel to a worker or back."""

    def __init__(self, what: str, kind: str, reason: str) -> None:
        super().__init__(what, kind, reason)
        self.what, self.kind, self.reason = what, kind, reason

    def __str__(self) -> str:
        way_out = "Create it inside the function, or pass the data it is made from"
        if self.kind in ("generator", "async_generator"):
            way_out = "Make a list of what it yields"
        return f"{self.what} (of type {self.kind}) cannot be pickled, so it cannot travel: {self.reason}. {way_out}"


class NotJson(DcengineError, TypeError):
    """A value that outside workers are to get, or have given, is not JSON."""

    def __init__(self, what: str, kind: str, reason: str) -> None:
        super().__init__(what, kind, reason)
        self.what, self.kind, self.reason = what, kind, reason

    def __str__(self) -> str:
        return (
            f"{self.what} (of type {self.kind}) cannot be written as JSON, which is what outside workers get and "
            f"give: {self.reason}. Make it of texts, numbers, True, False, None, and lists and dicts of them"
        )


class NotIterable(DcengineError, TypeError):
    """An expand returned something that has no items to open jobs for."""

    def __init__(self, function: str, kind: str) -> None:
        super().__init__(function, kind)
        self.function, self.kind = function, kind

    def __str__(self) -> str:
        return (
            f"{self.function} returned a value of type {self.kind}, but an expand opens one job for each item of "
            "what it returns: return a list, or yield the items; [value] opens a single one"
        )


class NothingExpanded(DcengineError, ValueError):
    """An expand returned no items, so that its job would end without a word."""

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.function = function

    def __str__(self) -> str:
        return (
            f"{self.function} returned or yielded no items, but an expand opens one job for each item: "
            "return [None] to go on with one, or raise dcengine.InvalidInput if its input is bad"
        )


class TooManyParts(DcengineError, ValueError):
    """An expand returned more items than one job may have parts."""

    def __init__(self, function: str, limit: int) -> None:
        super().__init__(function, limit)
        self.function, self.limit = function, limit

    def __str__(self) -> str:
        return (
            f"{self.function} returned or yielded more than {self.limit:,} items, and an expand opens a job for each: "
            "let one job do several of them (yield lists), or expand in two stages"
        )


class PayloadTooLarge(DcengineError, ValueError):
    """A value is larger than one row may hold."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, size, limit)
        self.what, self.size, self.limit = what, size, limit

    def __str__(self) -> str:
        return (
            f"{self.what} is {self.size:,} bytes, the limit is {self.limit:,}; "
            "write it to a file that the workers can read and pass the path"
        )


class BodyTooSlow(DcengineError, TimeoutError):
    """The body of a request came too slowly, or stopped in the middle."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(size, seconds)
        self.size, self.seconds = size, seconds

    def __str__(self) -> str:
        return (
            f"only {self.size:,} bytes of the request body came within {self.seconds:.0f} s; send it again, or in parts"
        )


class NotFound(DcengineError, LookupError):
    """There is no such thing in this engine's file."""

    def __init__(self, kind: str, id: int | str) -> None:
        super().__init__(kind, id)
        self.kind, self.id = kind, id

    def __str__(self) -> str:
        way_out = "`dcengine jobs` lists what there is"
        if self.kind == "project":
            way_out = (
                "`dcengine project list` shows those there are; a new project needs a stage before all else, declared "
                "with @project.stage or by `dcengine project create`"
            )
        elif self.kind == "stage":
            way_out = "`dcengine project show PROJECT` lists those of a project"
        elif self.kind == "worker":
            way_out = "it has left, or was silent for too long: let it register again"
        elif self.kind == "contributor":
            way_out = "`dcengine leaderboard PROJECT` lists who has earned something"
        elif self.kind == "token":
            way_out = "`dcengine token list` shows those there are"
        return f"no {self.kind} {self.id} in this engine's file; {way_out}"


class ProjectInUse(DcengineError):
    """A project with open jobs cannot get other stages, or the same in another order."""

    def __init__(self, project: str, stages: str, open: int) -> None:
        super().__init__(project, stages, open)
        self.project, self.stages, self.open = project, stages, open

    def __str__(self) -> str:
        return (
            f"project {self.project!r} has the stages {self.stages} and {self.open:,} open job(s) on their "
            "way through them; declare these stages in this order, wait for its jobs or cancel them, "
            "or take another name"
        )


class StageRetired(DcengineError):
    """A job cannot go on at a stage that its project was declared without since."""

    def __init__(self, job: int, stage: str, project: str) -> None:
        super().__init__(job, stage, project)
        self.job, self.stage, self.project = job, stage, project

    def __str__(self) -> str:
        return (
            f"job {self.job} ended at stage {self.stage!r}, which project {self.project!r} no longer has; "
            "declare the project with that stage again, then retry the job"
        )


class InvalidSource(DcengineError, ValueError):
    """What is to be imported cannot be read as what it should be."""

    def __init__(self, source: str, problem: str, added: int = 0, is_named: bool = True) -> None:
        super().__init__(source, problem, added, is_named)
        self.source, self.problem, self.added, self.is_named = source, problem, added, is_named

    def __str__(self) -> str:
        if not self.added:
            return f"{self.source}: {self.problem}; nothing was added. Put it right and try again"
        way_out = (
            "Put it right, and the same command goes on after them"
            if self.is_named
            else "Bring only what comes after them the next time: an import without a name does not know them again"
        )
        return f"{self.source}: {self.problem}; the {self.added:,} item(s) before it are in the project. {way_out}"


class InvalidPattern(DcengineError, ValueError):
    """A brace pattern does not parse."""

    def __init__(self, pattern: str, position: int, problem: str) -> None:
        super().__init__(pattern, position, problem)
        self.pattern, self.position, self.problem = pattern, position, problem

    def __str__(self) -> str:
        return (
            f"{self.problem} at character {self.position + 1} of the pattern {self.pattern[:200]!r}; one looks like "
            r"'s3://bucket/{00000..41454}.tar' or '{train,test}/{a..z}'; \{ stands for a brace itself"
        )


class ImportChanged(DcengineError, ValueError):
    """What is to be imported does not go on where the import of that name stands."""

    def __init__(self, name: str, items: int) -> None:
        super().__init__(name, items)
        self.name, self.items = name, items

    def __str__(self) -> str:
        return (
            f"the import {self.name!r} stands at {self.items:,} item(s), and what it is given now does not begin with "
            "them: they have changed, or another import of this name is running; nothing more was added. "
            "--import OTHERNAME adds all of it under another name, --again once more under this one"
        )


class InvalidTransition(DcengineError):
    """A task cannot move from its state to the one asked for."""

    def __init__(self, task: int, before: str, after: str) -> None:
        super().__init__(task, before, after)
        self.task, self.before, self.after = task, before, after

    def __str__(self) -> str:
        return f"task {self.task} is {self.before} and cannot become {self.after}"


class NotEditable(InvalidTransition):
    """A job cannot get another input as it stands."""

    def __init__(self, job: int, state: str, after: str = "QUEUED") -> None:
        super().__init__(job, state, after)

    def __str__(self) -> str:
        reason = "takes its input from its parts, or from a call: edit the part that failed, or submit another call"
        if self.before == "SUCCEEDED":
            reason = "has succeeded, and its input stays what it was: add the other one as a new item"
        elif self.before == "LEASED":
            reason = "is running; cancel it first, or wait for its end"
        return f"job {self.task} {reason}"
