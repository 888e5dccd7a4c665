"""A page of jobs as HTML and as text: what was looked for, what was found, and how to go on."""

from __future__ import annotations

import shlex

from dcengine.lists import JobList, job_name, state_text, what_text
from dcengine.plain import clean
from dcengine.verbs import JobFilter, JobStatus

from . import markup, rendering

WORDS = ("project", "stage", "state", "submitter", "worker", "text")  #: of a filter, as options are called


def page_html(found: JobList, problem: str = "") -> str:
    """Return a page of jobs, below what was looked for, and the line that shows the next one."""
    if problem:
        return markup.frame(markup.row(markup.outside(problem, 400), markup.RED_WORDS))
    looked_for = looked_for_text(found.wanted)
    heading = markup.frame(markup.note(f"jobs with {looked_for}")) if looked_for else ""
    older = found.older is not None and markup.frame(markup.note(f"older ones: {line_of(found.wanted, found.older)}"))
    return heading + rendering.jobs_html(found) + (older or "")


def page_text(found: JobList, problem: str = "") -> str:
    """Return a page of jobs."""
    return clean(problem, 400) if problem else repr(found)


def looked_for_text(wanted: JobFilter) -> str:
    """Return a filter in words."""
    told = ((word, getattr(wanted, word)) for word in WORDS)
    return ", ".join(f"{word} {clean(value, 60)}" for word, value in told if value)


def line_of(wanted: JobFilter, before: int | None) -> str:
    """Return the magic that shows the jobs *wanted* before that id."""
    told = ((word, getattr(wanted, word)) for word in WORDS)
    options = [f"--{word} {shlex.quote(clean(value, 60))}" for word, value in told if value]
    return " ".join(["%jobs", *options, *([] if before is None else [f"--before {before}"])])


def choice_text(job: JobStatus) -> str:
    """Return *job* as one of several to choose from."""
    return clean(f"{job_name(job)}  {what_text(job)}  {state_text(job)}", 80)
