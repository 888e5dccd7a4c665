"""What a project and its items may be: everything that can be refused before it is stored. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from .. import tags
from ..codec import is_json
from ..errors import InvalidOption
from ..jobs import check_name, check_shapes
from ..options import check
from ..verbs import ItemsSubmission, Options, ProjectSpec, StageSpec
from .submissions import check_size

KEY_LIMIT = 1000  #: characters of a key
SECONDS_LIMIT = 1e9


def check_project(spec: ProjectSpec) -> None:
    """Raise `InvalidOption` or another error for a project that cannot be declared."""
    check_name("the project's name", spec.name)
    if spec.name == "functions":
        raise InvalidOption("the project's name", repr(spec.name), "another one: this is the built-in project")
    if not spec.stages:
        raise InvalidOption("stages", "missing", "at least one: decorate a function with @project.stage")
    for name in _twice(stage.name for stage in spec.stages):
        raise InvalidOption("the stage's name", repr(name), "one that no other stage of the project has")
    for stage in spec.stages:
        _check_stage(stage)
    check_shapes([(stage.name, stage.shape) for stage in spec.stages])


def _check_stage(stage: StageSpec) -> None:
    check_name("the stage's name", stage.name)
    if stage.title:
        check_name("the stage's title", stage.title)
    tags.parse(stage.tags)
    limits = Options(
        tags=stage.tags, retries=stage.retries, crash_retries=stage.crash_retries, timeout=stage.timeout,
        priority=stage.priority,
    )  # fmt: skip
    check(limits)
    _check_kind(stage)
    limits_of = (("lease_seconds", stage.lease_time, 1.0), ("back_off", stage.back_off, 0.0))
    for name, seconds, least in (*limits_of, ("back_off_limit", stage.back_off_limit, 0.0)):
        if not (math.isfinite(seconds) and least <= seconds <= SECONDS_LIMIT):
            raise InvalidOption(f"{name} of stage {stage.name!r}", str(seconds), f"seconds from {least:g} on")
    if not 1 <= stage.votes_needed <= 1000:
        raise InvalidOption(f"votes of stage {stage.name!r}", str(stage.votes), "a number from 1 to 1000")
    if not 0 <= stage.generations <= 1000:
        raise InvalidOption(f"generations of stage {stage.name!r}", str(stage.generations), "a number from 0 to 1000")


def _check_kind(stage: StageSpec) -> None:
    if stage.kind == "lease":
        if stage.function is not None:
            raise InvalidOption(f"the lease stage {stage.name!r}", "given a function", "none: outside workers do it")
        if stage.shape != "map":
            raise InvalidOption(f"the lease stage {stage.name!r}", f"a stage that {stage.shape}s", "a function stage")
    elif stage.function is None:
        raise InvalidOption(f"the stage {stage.name!r}", "without a function", "a function, or a lease stage")
    else:
        check_size(f"the function of stage {stage.name!r}", len(stage.function.code))


def check_items(submission: ItemsSubmission, values: Sequence[bytes], *, is_outside: bool = False) -> None:
    """Raise `InvalidOption` for items that cannot be added; *is_outside*: outside workers are the first to get them."""
    limits = Options(priority=submission.priority, not_before=submission.not_before, keep=submission.keep)
    check(limits)
    if is_outside:
        for place, value in enumerate(values, 1):
            if not is_json(value):
                raise InvalidOption(f"item {place}", "a pickled value", "a JSON value: outside workers are to get it")
    if submission.keys is None:
        return
    if len(submission.keys) != len(values):
        raise InvalidOption("keys", f"{len(submission.keys)} in number", f"one for each of the {len(values)} items")
    for key in submission.keys:
        if not 0 < len(key) <= KEY_LIMIT:
            raise InvalidOption("a key", repr(key[:50]), f"1 to {KEY_LIMIT} characters")


def _twice(names: Iterable[str]) -> Iterator[str]:
    """Yield the names that came before."""
    seen = set[str]()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
