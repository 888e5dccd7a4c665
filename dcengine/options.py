"""What may be asked of a call beside its function and arguments: each option once, for all who take them. No I/O.

A new option is a field below, a reader, and where the engine is to know of it a field of `verbs.Options`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

import msgspec

from . import tags, times
from .errors import InvalidOption
from .verbs import OnNoMatch, Options

Moment: TypeAlias = float | datetime | timedelta | str  #: what `times.moment` reads
Duration: TypeAlias = float | timedelta | str  #: what `times.seconds` reads
Versions: TypeAlias = Literal["warn", "require", "ignore"]
Reader: TypeAlias = "Callable[[str, Any], Any]"  #: takes what an option is called and what was given for it
F = TypeVar("F", bound="Callable[..., Any]")

PRIORITY_LIMIT = 1_000_000
RETRIES_LIMIT = 1000
TIME_LIMIT = 253_402_300_800  #: Unix seconds: the year 10000, which no clock shows


# ---- what there is -------------------------------------------------------------------------


class RunOptions(TypedDict, total=False):
    """How any task is to be run; a duration is a number of seconds, a timedelta, or a text such as 10m."""

    tags: str  #: expression that a worker must satisfy, such as "gpu.memory>=16GiB & cuda>=12"
    retries: int  #: further runs allowed after the function raised
    crash_retries: int  #: the same after its process ended under it: a segfault, out of memory
    timeout: Duration | None  #: that one run may take
    priority: int  #: higher runs earlier


class FunctionOptions(RunOptions, total=False):
    """The same for a function, wherever it is called."""

    devices: Mapping[str, int]  #: for the call alone, such as {"gpu": 1}
    speculative: bool  #: safe to run twice at once: a straggler gets a second worker, the first result counts
    isolate: bool  #: False: in the worker's own process, where nothing can be interrupted
    versions: Versions  #: of the packages it uses: "warn" of other ones, "require" the same, or "ignore" them


class CallOptions(FunctionOptions, total=False):
    """The same for single calls, and for each call of a batch by itself."""

    on_no_match: OnNoMatch  #: when no worker has the tags, "wait" for one (and warn) or "fail" the job
    not_before: Moment | None  #: when it may begin: a datetime, Unix seconds, a timedelta from now
    keep: Duration | Literal["remote"] | None  #: values, how long after its end; None: for ever; "remote": there


class SubmitOptions(CallOptions, total=False):
    """The same for one call."""

    key: str | None  #: a name of your own; the same key gives the same job, not a second one
    session: str | None  #: run in the one process of this name, in which what calls keep in modules stays


# ---- how each is read ----------------------------------------------------------------------


def one_of(kind: Any, expected: str) -> Reader:
    """Return the reader of an option whose values are of *kind*."""

    def read(option: str, value: Any) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise InvalidOption(option, repr(value)[:100], expected) from None

    return read


def unless_none(reader: Reader) -> Reader:
    """Return *reader* for an option that may be None too."""
    return lambda option, value: None if value is None else reader(option, value)


def _keep(option: str, value: Any) -> float | Literal["remote"] | None:
    return value if value is None or value == "remote" else times.seconds(option, value)


TEXT = one_of(str, "a text")
WHOLE = one_of(int, "a whole number")
YES_OR_NO = one_of(bool, "True or False")

READERS: Mapping[str, Reader] = {
    "tags": one_of(str, "a tag expression such as 'gpu & cuda>=12'"),
    "retries": WHOLE,
    "crash_retries": WHOLE,
    "timeout": unless_none(times.seconds),
    "priority": WHOLE,
    "devices": one_of(dict[str, int], "a number for each kind, such as {'gpu': 1}"),
    "speculative": YES_OR_NO,
    "isolate": YES_OR_NO,
    "versions": one_of(Versions, "'warn', 'require' or 'ignore'"),
    "on_no_match": one_of(OnNoMatch, "'wait' or 'fail'"),
    "not_before": unless_none(times.moment),
    "keep": _keep,
    "key": one_of(str | None, "a text"),
    "session": one_of(str | None, "a name"),
}


def options_of(given: Mapping[str, Any]) -> Options:
    """Return what was asked for as one value, but for key and versions; raises `InvalidOption` or `InvalidTags`."""
    read = {name: READERS[name](name, value) for name, value in given.items() if name not in ("key", "versions")}
    if devices := read.pop("devices", None):
        read["tags"] = tags.with_devices(read.get("tags", ""), devices)
    if read.get("keep") == "remote":
        read["keep"], read["remote"] = None, True
    asked = Options(**read)
    check(asked)
    return asked


def versions_of(given: Mapping[str, Any]) -> Versions:
    """Return what is to be done about other versions of packages; raises `InvalidOption`."""
    versions: Versions = READERS["versions"]("versions", given.get("versions", "warn"))
    return versions


def check(options: Options) -> None:
    """Raise `InvalidTags` or `InvalidOption` for what cannot be asked."""
    tags.parse(options.tags)
    if not 0 <= options.retries <= RETRIES_LIMIT:
        raise InvalidOption("retries", str(options.retries), f"a number from 0 to {RETRIES_LIMIT}")
    if not 0 <= options.crash_retries <= RETRIES_LIMIT:
        raise InvalidOption("crash_retries", str(options.crash_retries), f"a number from 0 to {RETRIES_LIMIT}")
    if options.timeout is not None and not 0 < options.timeout < 1e9:
        raise InvalidOption("timeout", str(options.timeout), "a positive number of seconds, or None for no limit")
    if abs(options.priority) > PRIORITY_LIMIT:
        raise InvalidOption("priority", str(options.priority), f"a number within +-{PRIORITY_LIMIT}")
    if options.not_before is not None and not 0 <= options.not_before < TIME_LIMIT:
        raise InvalidOption("not_before", str(options.not_before), "a time in Unix seconds")
    if options.session is not None:
        _check_session(options.session, options)
    elif tags.session_of(options.tags) is not None:
        raise InvalidOption("tags", f"with {options.tags!r}", "session='NAME' in place of session(NAME)")
    if options.keep is not None and not 0 <= options.keep < 1e10:
        raise InvalidOption("keep", str(options.keep), "a number of seconds from 0 on, or None for ever")


def _check_session(name: str, options: Options) -> None:
    if not tags.SESSION.fullmatch(name):
        raise InvalidOption("session", repr(name)[:100], "up to 64 letters, digits and _ . -, the first no dot or dash")
    if tags.session_of(options.tags) is not None:
        raise InvalidOption("tags", f"with {options.tags!r}", "no session(...) beside session=")
    if not options.isolate or options.speculative:
        asked = "isolate=False" if not options.isolate else "speculative=True"
        raise InvalidOption(f"session={name!r}", f"together with {asked}", "one of the two: a session is one process")


# ---- who takes which -----------------------------------------------------------------------


def taken_out(kwargs: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of *kind* in *kwargs*, and the rest, which is for the function."""
    known = kind.__annotations__.keys()
    given = {name: value for name, value in kwargs.items() if name in known}
    return given, {name: value for name, value in kwargs.items() if name not in known}


def check_names(given: Mapping[str, Any], kind: type, whose: str) -> None:
    """Raise `TypeError` for an option that *kind* does not have, as Python does for any function."""
    for name in given:
        if name not in kind.__annotations__:
            nearest = get_close_matches(name, kind.__annotations__, 1)
            meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise TypeError(f"{whose} has no option {name!r}{meant}")


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Options)}


def takes(kind: type, *, and_others: bool = False) -> Callable[[F], F]:
    """Have ``help``, notebooks and `inspect` show the options of *kind*, which a function takes as keywords."""

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        rest = [each for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD and and_others]
        keywords = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_DEFAULTS.get(name),
                annotation=getattr(annotation, "__forward_arg__", annotation),
            )
            for name, annotation in kind.__annotations__.items()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *keywords, *rest])  # type: ignore[attr-defined]
        return function

    return show
