"""What a caller is warned of: nobody has the tags, workers have other versions of packages."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from .plain import clean
from .verbs import BatchStatus, BatchSubmission, JobStatus, OtherVersions, Submission

Told: TypeAlias = "set[tuple[object, str]]"  #: functions, each with a worker whose versions were warned of


class NoMatchWarning(UserWarning):
    """No worker has the tags that a job needs: it waits for one."""


class VersionWarning(UserWarning):
    """Workers have other versions of the packages that a function uses, or lack them."""


def warn_of(told: Told, submission: Submission | BatchSubmission, status: JobStatus | BatchStatus) -> None:
    """Warn of what the submitter of a call should know now."""
    if status.warning is not None:
        message = f"no worker matches {status.tags!r} yet, the job waits: {status.warning}"
        warnings.warn(message, NoMatchWarning, stacklevel=_frames_of_ours())
    warn_of_versions(told, submission.function.digest, status.other_versions)


def warn_of_versions(told: Told, what: object, others: Iterable[OtherVersions]) -> None:
    """Warn of the workers that have *others* than the versions here, of each once for *what* it is about."""
    new = [only for other in others if (only := _without(other, {name for each, name in told if each == what}))]
    if new:
        told.update((what, name) for other in new for name in other.there)
        warnings.warn("; ".join(map(sentence_of, new)), VersionWarning, stacklevel=_frames_of_ours())


def _without(other: OtherVersions, known: set[str]) -> OtherVersions | None:
    """Return *other* for the workers that were not *known* already; None if there are none."""
    there = {name: version for name, version in other.there.items() if name not in known}
    return msgspec.structs.replace(other, there=there) if there else None


def sentence_of(other: OtherVersions) -> str:
    """Say which version of a package is here, and which are on the workers."""
    if len(other.there) == other.compared and not any(other.there.values()):
        return f"no worker has {other.package}, which is {other.here} here"
    by_version: dict[str | None, list[str]] = {}
    for name, version in other.there.items():
        by_version.setdefault(version, []).append(clean(name, 40))
    there = [f"{clean(version or 'missing', 40)} on {' and '.join(names)}" for version, names in by_version.items()]
    return f"{other.package} is {other.here} here, {', '.join(there)}"


def _frames_of_ours() -> int:
    """Return how many frames lie between the line of `warnings.warn` and the one that the warning is about."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame, count = frame.f_back, count + 1
    return count
