"""The stages of a project as its author writes them in Python. Nothing is sent from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import msgspec

from . import times
from .calls import packed_with_versions, submitter
from .codec import keys_in, name_of
from .errors import InvalidOption
from .jobs import CreditBy, OnFailedPart, Shape, StageKind, check_name, check_shapes
from .options import READERS as READERS_FOR_CALLS
from .options import (
    TEXT,
    WHOLE,
    YES_OR_NO,
    Duration,
    FunctionOptions,
    RunOptions,
    Versions,
    check_names,
    one_of,
    versions_of,
)
from .references import refuse_results
from .tags import with_devices
from .verbs import ProjectSpec, StageSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

F = TypeVar("F", bound=Callable[[Any], Any])

READERS = {
    **{name: reader for name, reader in READERS_FOR_CALLS.items() if name in FunctionOptions.__annotations__},
    "title": TEXT,
    "lease_seconds": times.seconds,
    "back_off": times.seconds,
    "back_off_limit": times.seconds,
    "votes": WHOLE,
    "generations": WHOLE,
    "credit": one_of(CreditBy, "'task' or 'unit'"),
    "on_failed_part": one_of(OnFailedPart, "'fail', 'skip' or 'wait'"),
    "paused": YES_OR_NO,
}  #: the options of a stage, and what makes values of them


class LeaseOptions(RunOptions, total=False):
    """How the tasks of a stage are to be run; a duration is a number of seconds, a timedelta, or a text such as 10m."""

    title: str  #: for people, where it is not the name
    lease_seconds: Duration  #: that an outside worker may keep a task without a word
    back_off: Duration  #: before the second run, at most; doubled with each error
    back_off_limit: Duration  #: between two runs, at most
    votes: int  #: distinct voters that send a job back a stage
    generations: int  #: times that this stage may send a job back before the job fails
    credit: CreditBy  #: one for each task, or the units its worker reports
    paused: bool  #: its tasks are not handed out at first


class StageOptions(LeaseOptions, FunctionOptions, total=False):
    """The same for a function."""

    name: str  #: by default that of the function


class GatherOptions(StageOptions, total=False):
    """The same for a gather."""

    on_failed_part: OnFailedPart  #: fail with it, go on without it, or wait until it is run again


class _Step(NamedTuple):
    """A stage as it was declared; its function is packed when it is sent, with what it refers to by then."""

    spec: StageSpec
    function: Callable[[Any], Any] | None
    versions: Versions = "warn"


class Pipeline:
    """The row of stages of one project.

    Old clients speak *protocol* to it at ``/p/NAME/``; with *is_open* anybody may lease its tasks, without a token.
    """

    def __init__(self, name: str, *, protocol: str = "", is_open: bool = False) -> None:
        check_name("the project's name", name)
        self.name, self.protocol, self.is_open = name, protocol, is_open
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
        if callable(name):
            raise InvalidOption("a lease stage", f"given {name_of(name)}", "a name: outside workers do its tasks")
        check_names(options, LeaseOptions, "a lease stage")
        self._steps[name] = _Step(stage_spec(name, "lease", "map", options), None)

    def _decorator(self, shape: Shape, function: Any, options: dict[str, Any]) -> Any:
        check_names(options, GatherOptions if shape == "gather" else StageOptions, "a stage")
        name = options.pop("name", None)

        def declare(function: F) -> F:
            own_name = _name_for(function) if name is None else name
            spec = stage_spec(own_name, "function", shape, options)
            self._steps[own_name] = _Step(spec, function, versions_of(options))
            return function

        return declare if function is None else declare(function)

    def spec(self) -> ProjectSpec:
        """Return the stages as they are sent, their functions packed; raises `InvalidOption`, `NotPicklable`."""
        check_shapes([(name, step.spec.shape) for name, step in self._steps.items()])
        stages = [
            spec if function is None else with_function(spec, function, versions)
            for spec, function, versions in self._steps.values()
        ]
        return ProjectSpec(
            name=self.name, stages=stages, submitter=submitter(), protocol=self.protocol, is_open=self.is_open
        )


def _name_for(function: Any) -> str:
    """Return the name of the stage that *function* is."""
    if not callable(function):
        raise InvalidOption("a stage", repr(function)[:100], "a function of one value")
    name = str(getattr(function, "__name__", name_of(function)))
    if name == "<lambda>":  # a second one would silently take the place of the first
        raise InvalidOption("the name of a stage that is a lambda", "missing", "name='...'")
    return name


def with_function(spec: StageSpec, function: Callable[..., Any], versions: Versions) -> StageSpec:
    """Return the stage *spec* with its *function* packed; raises `NotPicklable`."""
    packed, tags, packages = packed_with_versions(function, spec.tags, versions)
    refuse_results(keys_in(packed.code), "a value inside the function of a stage")
    return msgspec.structs.replace(spec, function=packed, tags=tags, packages=packages)


def stage_spec(name: object, kind: StageKind, shape: Shape, given: Mapping[str, Any]) -> StageSpec:
    """Return what was asked for as one value, without a function; raises `InvalidOption`."""
    check_name("the stage's name", name)
    if kind == "lease" and shape != "map":
        expected = "a function: outside workers take one value and give one"
        raise InvalidOption(f"the {shape} {name!r}", "a lease stage", expected)
    values = {option: READERS[option](f"{option} of stage {name!r}", value) for option, value in given.items()}
    values.pop("versions", None)  # known by their effect, once there is a function
    if "paused" in values:
        values["is_paused"] = values.pop("paused")
    if devices := values.pop("devices", None):
        values["tags"] = with_devices(values.get("tags", ""), devices)
    return StageSpec(name=str(name), kind=kind, shape=shape, **values)
