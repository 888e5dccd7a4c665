"""The stages of a project as its author writes them in Python. Nothing is sent from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, overload

import msgspec

from . import api, times
from .codec import name_of, pack_function
from .errors import InvalidOption
from .jobs import CreditBy, OnFailedPart, Shape, StageKind, check_name, check_shapes
from .verbs import ProjectSpec, StageSpec

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import Unpack

F = TypeVar("F", bound=Callable[[Any], Any])

WHOLE = "a whole number"
EXPECTED = {
    "title": "a text",
    "tags": "a tag expression such as 'gpu & cuda>=12'",
    "retries": WHOLE,
    "crash_retries": WHOLE,
    "timeout": times.DURATION,
    "priority": WHOLE,
    "lease_seconds": times.DURATION,
    "back_off": times.DURATION,
    "back_off_limit": times.DURATION,
    "votes": WHOLE,
    "generations": WHOLE,
    "credit": "'task' or 'unit'",
    "on_failed_part": "'fail', 'skip' or 'wait'",
    "paused": "true or false",
}  #: the options of a stage, and what each may be
DURATIONS = frozenset(option for option, expected in EXPECTED.items() if expected is times.DURATION)
TYPES = {field.name: field.type for field in msgspec.structs.fields(StageSpec)}


class LeaseOptions(TypedDict, total=False):
    """How the tasks of a stage are to be run; a duration is a number of seconds, a timedelta, or a text such as 10m."""

    title: str  #: for people, where it is not the name
    tags: str  #: expression that a worker must satisfy
    retries: int  #: further runs allowed after the function raised
    crash_retries: int  #: the same after its process ended under it
    timeout: float | str | timedelta | None  #: that one run may take
    priority: int  #: higher runs earlier
    lease_seconds: float | str | timedelta  #: that an outside worker may keep a task without a word
    back_off: float | str | timedelta  #: before the second run, at most; doubled with each error
    back_off_limit: float | str | timedelta  #: between two runs, at most
    votes: int  #: distinct voters that send a job back a stage
    generations: int  #: times that this stage may send a job back before the job fails
    credit: CreditBy  #: one for each task, or the units its worker reports
    paused: bool  #: its tasks are not handed out at first


class StageOptions(LeaseOptions, total=False):
    """The same for a function."""

    name: str  #: by default that of the function


class GatherOptions(StageOptions, total=False):
    """The same for a gather."""

    on_failed_part: OnFailedPart  #: fail with it, go on without it, or wait until it is run again


class _Step(NamedTuple):
    """A stage as it was declared; its function is packed when it is sent, with what it refers to by then."""

    spec: StageSpec
    function: Callable[[Any], Any] | None


class Pipeline:
    """The row of stages of one project."""

    def __init__(self, name: str) -> None:
        check_name("the project's name", name)
        self.name = name
        self._steps: dict[str, _Step] = {}

    @overload
    def stage(self, function: F, /) -> F: ...
    @overload
    def stage(self, /, **options: Unpack[StageOptions]) -> Callable[[F], F]: ...
    def stage(self, function: Any = None, /, **options: Any) -> Any:
        """Declare the decorated function of one value as the next stage; it stays callable as it is.

        A stage of the same *name*, by default that of the function, is replaced where it stands.
        The other options are those of `StageOptions`, for each task of the stage.
        """
        return self._decorator("map", function, options)

    @overload
    def expand(self, function: F, /) -> F: ...
    @overload
    def expand(self, /, **options: Unpack[StageOptions]) -> Callable[[F], F]: ...
    def expand(self, function: Any = None, /, **options: Any) -> Any:
        """Declare the decorated function as a stage that makes parts of a job: one for each item it returns or yields.

        The next stages take the items one by one, until a `gather` has them all.
        """
        return self._decorator("expand", function, options)

    @overload
    def gather(self, function: F, /) -> F: ...
    @overload
    def gather(self, /, **options: Unpack[GatherOptions]) -> Callable[[F], F]: ...
    def gather(self, function: Any = None, /, **options: Any) -> Any:
        """Declare the decorated function as a stage that takes the list of all parts' outputs, in their order.

        It ends what the last `expand` before it began; without one, its parts are all items of one `add`.
        With *on_failed_part* "fail" a failed part fails the whole; "skip" leaves it out; "wait" waits for its retry.
        """
        return self._decorator("gather", function, options)

    def lease_stage(self, name: str, /, **options: Unpack[LeaseOptions]) -> None:
        """Declare a stage that outside workers do: they lease its tasks over HTTP; values are JSON there."""
        check_options("map", options)
        if callable(name):
            raise InvalidOption("a lease stage", f"given {name_of(name)}", "a name: outside workers do its tasks")
        self._steps[name] = _Step(stage_spec(name, "lease", "map", options), None)

    def _decorator(self, shape: Shape, function: Any, options: dict[str, Any]) -> Any:
        name = options.pop("name", None)
        check_options(shape, options)

        def declare(function: F) -> F:
            own_name = _name_for(function) if name is None else name
            self._steps[own_name] = _Step(stage_spec(own_name, "function", shape, options), function)
            return function

        return declare if function is None else declare(function)

    def spec(self) -> ProjectSpec:
        """Return the stages as they are sent, their functions packed; raises `InvalidOption`, `NotPicklable`."""
        check_shapes([(name, step.spec.shape) for name, step in self._steps.items()])
        stages = [
            msgspec.structs.replace(spec, function=None if function is None else pack_function(function))
            for spec, function in self._steps.values()
        ]
        return ProjectSpec(name=self.name, stages=stages, submitter=api.submitter())


def _name_for(function: Any) -> str:
    """Return the name of the stage that *function* is."""
    if not callable(function):
        raise InvalidOption("a stage", repr(function)[:100], "a function of one value")
    name = str(getattr(function, "__name__", name_of(function)))
    if name == "<lambda>":  # a second one would silently take the place of the first
        raise InvalidOption("the name of a stage that is a lambda", "missing", "name='...'")
    return name


def check_options(shape: Shape, options: Mapping[str, object]) -> None:
    """Raise `TypeError` for an option that stages do not have, as Python does for any function."""
    for option in options:
        if option not in EXPECTED or (option == "on_failed_part" and shape != "gather"):
            nearest = get_close_matches(option, EXPECTED, 1)
            meant = f"; did you mean {nearest[0]!r}?" if nearest and nearest[0] != option else ""
            raise TypeError(f"a stage has no option {option!r}{meant}")


def stage_spec(name: object, kind: StageKind, shape: Shape, options: Mapping[str, Any]) -> StageSpec:
    """Return what was asked for as one value, without a function; raises `InvalidOption`."""
    check_name("the stage's name", name)
    if kind == "lease" and shape != "map":
        expected = "a function: outside workers take one value and give one"
        raise InvalidOption(f"the {shape} {name!r}", "a lease stage", expected)
    values = {
        "is_paused" if option == "paused" else option: _checked(str(name), option, value)
        for option, value in options.items()
    }
    return StageSpec(name=str(name), kind=kind, shape=shape, **values)


def _checked(stage: str, option: str, value: Any) -> Any:
    """Return *value* as the type that *option* has."""
    if option in DURATIONS and not (value is None and option == "timeout"):
        return times.seconds(f"{option} of stage {stage!r}", value)
    try:
        return msgspec.convert(value, TYPES["is_paused" if option == "paused" else option])
    except msgspec.ValidationError:
        raise InvalidOption(f"{option} of stage {stage!r}", repr(value)[:100], EXPECTED[option]) from None
