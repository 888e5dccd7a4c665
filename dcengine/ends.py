"""How jobs ended, as those see it who asked for them: a value, or an error that is raised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .codec import exception_from, loads, unpack, unpack_failure
from .errors import JobCancelled, NotFound, ResultExpired
from .verbs import JobResult, Report


def ends_of(report: Report) -> Iterator[tuple[int, JobResult]]:
    """Yield index and end of each item of *report*."""
    values = unpack(report.data) if report.data else [b""] * report.count
    for index, value in enumerate(values, report.first):
        yield index, JobResult(report.state, value)


def value_of(job: int, end: JobResult) -> Any:
    """Return the value of *end*, or raise its error."""
    if end.state == "succeeded" and end.data:  # the values of an item that has expired are empty
        return loads(end.data)
    raise error_of(job, end)


def error_of(job: int, end: JobResult) -> BaseException:
    """Return the error of *end* as it is raised here."""
    if end.state in ("succeeded", "expired"):
        return ResultExpired(job)
    if end.state == "missing":
        return NotFound("job", job)
    return exception_from(unpack_failure(end.data)) if end.data else JobCancelled(job)
