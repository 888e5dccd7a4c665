"""What an engine can be asked to make: workloads that packages add, found by name through entry points.

An entry of the group ``dcengine.workloads`` is a function without arguments that returns a `Workload`: parameters, and
the project that they make. It is imported when somebody needs it, not before; `dcengine.testing` holds the suite that
each of them passes. Its parameters are at once the arguments of ``dcengine.workloads.NAME(...)``, the options of the
command ``dcengine NAME``, and the fields of a form in the dashboard.
"""

from __future__ import annotations

import hashlib
import inspect
import keyword
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .errors import DcengineError, InvalidOption, WorkloadBroken
from .parameters import ACCEPTED, LOCAL, Field, File, fields_of, shown
from .projects import Project
from .verbs import ProjectStatus

logger = logging.getLogger(__name__)

GROUP = "dcengine.workloads"
#: What the command of a workload is told beside its parameters.
RESERVED = frozenset({"db", "debug", "help", "json", "no_wait", "token", "url", "wait"})
STEM_LETTERS = 40  #: of a project's name that say what it is about

__all__ = ["LOCAL", "Field", "File", "Run", "Workload", "load", "name_for", "names", "start"]


class Workload(NamedTuple):
    """What can be made, and of which parameters."""

    name: str
    title: str  #: one sentence for people
    parameters: type[msgspec.Struct]  #: each field with ``msgspec.Meta(description=...)``
    project: Callable[[Any], Project]  #: declares the project of these parameters and fills it; does not run it
    save: Callable[[Project, Any], Sequence[Path]] | None = None  #: puts what came of it where the parameters say

    @property
    def fields(self) -> list[Field]:
        """What can be asked, in order."""
        return fields_of(self.parameters)

    def checked(self, given: dict[str, Any]) -> Any:
        """Return the parameters *given*, a path or bytes for a file; raises `InvalidOption`.

        A path is read here, by whoever runs this: what others send must be bytes.
        """
        known = {field.name: field for field in self.fields}
        for name in given.keys() - known.keys():
            nearest = get_close_matches(str(name), known, 1) or list(known)
            raise InvalidOption(f"a parameter of {self.name}", shown(name), " or ".join((", ".join(nearest),)))
        for field in known.values():
            if field.is_needed and field.name not in given:
                raise InvalidOption(field.name, "left out", f"{field.expected}. {field.description}")
        values = {name: known[name].taken(value) for name, value in given.items()}
        try:
            return self.parameters(**values)
        except DcengineError:
            raise
        except (ValueError, TypeError) as error:  # what their __post_init__ says of several together
            raise InvalidOption(f"the parameters of {self.name}", "these", str(error)) from error


class Run:
    """A workload that runs: its project, and what comes of it."""

    def __init__(self, workload: Workload, project: Project, parameters: Any) -> None:
        self.workload, self.project, self.parameters = workload, project, parameters

    def __repr__(self) -> str:
        return f"<dcengine {self.workload.name}: project {self.project.name!r}>"

    def status(self) -> ProjectStatus:
        """Return its project as it stands."""
        return self.project.status()

    @property
    def progress(self) -> ProjectStatus:
        """How far it is: at which stage, done, failed, when it will be done."""
        return self.status()

    def done(self) -> bool:
        """Tell whether all of it has ended, in whatever way."""
        return self.project.done()

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until it is done; return it.

        Raises the error of the first job that failed, and `ResultNotReady` after *timeout* seconds.
        """
        status = self.project.wait(timeout)
        if status.failed or status.cancelled:  # else what came of it, perhaps much, need not come here
            self.project.results()
        return self

    def results(self, timeout: float | None = None) -> list[Any]:
        """Wait, then return what the last stage of its project made of each job. Raises what `wait` raises."""
        return self.project.results(timeout)

    def save(self, timeout: float | None = None) -> Sequence[Path]:
        """Wait, then put what came of it where its parameters say; return the files. Raises what `wait` raises."""
        self.wait(timeout)
        return self.workload.save(self.project, self.parameters) if self.workload.save is not None else ()

    def cancel(self) -> int:
        """Cancel every job that has not ended; return how many that were."""
        return self.project.cancel()


def names() -> list[str]:
    """Return the names of the installed workloads; nothing is imported."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load(name: str) -> Workload:
    """Return the workload called *name*.

    Raises `InvalidOption` that names those installed, and `WorkloadBroken` for one that cannot be used.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        installed = names()
        nearest = get_close_matches(str(name), installed, 1) or installed
        expected = f"one of those installed: {', '.join(nearest)}" if nearest else "installed: there is none"
        raise InvalidOption("the workload", shown(name), expected)
    return _loaded(found[0])


def start(name: str, /, **parameters: Any) -> Run:
    """Start the workload called *name*, and return at once. Raises what `load` and `Workload.checked` raise."""
    workload = load(name)
    checked = workload.checked(parameters)
    return Run(workload, workload.project(checked).run(), checked)


def name_for(workload: str, parameters: msgspec.Struct, about: str = "") -> str:
    """Return a name for the project of *parameters*: the same for the same request, and for no other.

    Where results go (`LOCAL`) makes no difference. *about* is for people: what the request is about.
    """
    asked = [
        [field.name, _digest(getattr(parameters, field.name))]
        for field in fields_of(type(parameters))
        if not field.is_local
    ]
    digest = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", about).strip("-")[:STEM_LETTERS]
    return "-".join(filter(None, (workload, stem, digest)))


def _digest(value: Any) -> Any:
    """Return *value* with a digest in place of each file."""
    if isinstance(value, File):
        return [value.name, hashlib.sha256(value.content).hexdigest()]
    return [_digest(each) for each in value] if isinstance(value, (list, tuple)) else value


# ---- loading -------------------------------------------------------------------------------


@cache
def _loaded(entry: EntryPoint) -> Workload:
    try:
        workload = entry.load()()
    except Exception as error:  # a package of somebody else's
        logger.debug("the workload %r cannot be loaded", entry.name, exc_info=True)
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    if problem := next(_problems(entry.name, workload), None):
        raise _broken(entry, problem)
    checked: Workload = workload
    return checked


def _broken(entry: EntryPoint, problem: str) -> WorkloadBroken:
    package = entry.dist.name if entry.dist else entry.value
    return WorkloadBroken(entry.name, package, problem, f"install {package} anew, or tell its authors")


def _problems(name: str, workload: Any) -> Iterator[str]:
    """Yield what keeps *workload* from being called by *name*, in Python and on the command line."""
    if not isinstance(workload, Workload):
        yield f"its entry point returns {shown(workload)}, no Workload"
        return
    if workload.name != name:
        yield f"it calls itself {shown(workload.name)}"
    if not name.isidentifier() or keyword.iskeyword(name) or name in globals():
        yield "in dcengine.workloads its name means something else, or nothing"
    try:
        fields = workload.fields
        unknown = [field.name for field in fields if field.kind is None]
    except Exception as error:  # what msgspec and typing say of types that they do not know
        yield f"its parameters cannot be read: {error}"
        return
    if taken := sorted(RESERVED.intersection(field.name for field in fields)):
        yield f"its parameter {taken[0]!r} has the name of an option that every command has"
    if unknown:
        yield f"its parameter {unknown[0]!r} has a type that no command line has; there are {ACCEPTED}"


# ---- as functions of this module -----------------------------------------------------------


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; installed are: {', '.join(names())}")
    return _starter(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *names(), *(name for name in globals() if name.startswith("__"))])


def _starter(name: str) -> Callable[..., Run]:
    """Return a function that starts the workload, with its parameters for help() and editors to show."""

    def starter(*values: Any, **named: Any) -> Run:
        return start(name, **_by_name(load(name), values, named))

    starter.__name__ = starter.__qualname__ = name
    try:
        workload = load(name)
    except WorkloadBroken as error:  # whoever calls it is told
        starter.__doc__ = f"Cannot be used: {error}."
        return starter
    begin = (workload.title, "", "Returns at once: a `Run`, to be waited for.", "", "Args:")
    starter.__doc__ = "\n".join((*begin, *(f"    {field.name}: {_told(field)}" for field in workload.fields)))
    starter.__signature__ = _signature(workload)  # type: ignore[attr-defined]
    return starter


def _by_name(workload: Workload, values: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, by the names of the parameters; raises `InvalidOption`."""
    first = next((field.name for field in workload.fields if field.is_needed), None)
    if not values:
        return named
    if first is None or len(values) > 1 or first in named:
        expected = f"{first} and the others by their names" if first else "all of them by their names"
        raise InvalidOption(f"the parameters of {workload.name}", f"{len(values)} without a name", expected)
    return {first: values[0], **named}


def _signature(workload: Workload) -> inspect.Signature:
    fields = sorted(workload.fields, key=lambda field: not field.is_needed)
    parameters = [_parameter(field, is_first=field is fields[0] and field.is_needed) for field in fields]
    return inspect.Signature(parameters, return_annotation=Run)


def _parameter(field: Field, *, is_first: bool) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if is_first else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, kind, default=field.default, annotation=field.type)


def _told(field: Field) -> str:
    is_plain = field.kind in (str, bool, int, float) and not field.is_many
    return field.told if is_plain else f"{field.told} {field.expected[:1].upper()}{field.expected[1:]}."
