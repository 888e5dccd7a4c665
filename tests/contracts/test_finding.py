"""Jobs are found by what people know of them, and failed ones by what they have in common."""

from __future__ import annotations

from typing import Any

import pytest

import dcengine
from dcengine.api import current
from dcengine.errors import InvalidOption, NotFound
from dcengine.verbs import FailureGroups, JobFilter, JobPage, LeaseRequest
from tests.engines import eventually


def find(before: int | None = None, limit: int = 50, **wanted: str) -> JobPage:
    page: JobPage = current().call("find_jobs", JobFilter(**wanted), before=before, limit=limit)
    return page


def groups(**options: Any) -> FailureGroups:
    found: FailureGroups = current().call("failure_groups", **options)
    return found


def refuse(item: int) -> int:
    if item % 2:
        raise ValueError(f"{item} is odd")
    raise OSError(f"cannot read '/data/{item}.jpg'")


@pytest.fixture(scope="module")
def failing(engine: str) -> dcengine.Project:
    """A project in which ten jobs have failed for two reasons, and one is open at its second stage."""
    project = dcengine.Project("failing")
    project.stage(refuse, name="look", retries=0)
    project.add(range(10), keys=[f"photo-{n}" for n in range(10)])
    project.run()
    eventually(lambda: project.status().failed == 10)
    return project


def test_jobs_are_found_by_project_stage_state_and_text(failing: dcengine.Project) -> None:
    assert [job.number for job in find(project="failing").jobs] == list(range(10, 0, -1))
    assert len(find(project="failing", stage="look", state="failed").jobs) == 10
    assert find(project="failing", state="succeeded") == JobPage([], None)
    assert find(project="failing", stage="elsewhere").jobs == []
    (found,) = find(project="failing", text="PHOTO-7").jobs
    assert found.key == "photo-7"
    assert found.number == 8
    assert found.id in [job.id for job in find(text=str(found.id)).jobs]
    assert {job.name.rpartition(".")[2] for job in find(text="refuse").jobs} == {"refuse"}


def test_jobs_are_found_by_who_brought_and_who_ran_them(failing: dcengine.Project) -> None:
    some = find(project="failing").jobs[0]
    assert some.worker is not None

    assert some.id in [job.id for job in find(worker=some.worker).jobs]
    assert len(find(project="failing", submitter=some.submitter).jobs) == 10
    assert find(submitter="nobody@nowhere").jobs == []
    assert find(worker="'; DROP TABLE job; --").jobs == []


def test_what_is_found_comes_in_pages(failing: dcengine.Project) -> None:
    first = find(project="failing", limit=4)
    second = find(project="failing", limit=4, before=first.before)
    third = find(project="failing", limit=4, before=second.before)

    assert [job.number for job in [*first.jobs, *second.jobs, *third.jobs]] == list(range(10, 0, -1))
    assert third.before is None


def test_what_cannot_be_is_refused(engine: str) -> None:
    with pytest.raises(InvalidOption, match="state"):
        find(state="sleeping")
    with pytest.raises(NotFound):
        find(project="nobody")
    with pytest.raises(NotFound):
        groups(project="nobody")


def test_failures_are_grouped_by_what_they_have_in_common(failing: dcengine.Project) -> None:
    found = groups(project="failing")

    assert found.looked_at == 10
    assert found.is_all
    assert {group.pattern: group.count for group in found.groups} == {
        "ValueError: N is odd": 5,
        "OSError: cannot read '…'": 5,
    }
    odd = next(group for group in found.groups if "odd" in group.pattern)
    assert odd.reason == "ValueError: 9 is odd"
    assert [dcengine.job(job).status().number for job in odd.jobs] == [10, 8, 6, 4, 2]
    assert odd.oldest <= odd.newest
    assert (odd.project, odd.stage) == ("failing", "look")


def test_a_whole_group_is_queued_again_and_no_other_job(failing: dcengine.Project) -> None:
    odd = next(group for group in groups(project="failing").groups if "odd" in group.pattern)
    before = {job.id: job.attempt for job in find(project="failing").jobs}

    again = current().call("retry_failures", odd.project, odd.stage, odd.pattern)

    assert again == 5
    eventually(lambda: project_failed(failing) == 10)
    after = {job.id: job.attempt for job in find(project="failing").jobs}
    assert {job for job in after if after[job] > before[job]} == set(odd.jobs)
    assert current().call("retry_failures", odd.project, odd.stage, "what nobody has said") == 0


def test_an_open_job_can_be_brought_forward(engine: str) -> None:
    project = dcengine.Project("line")
    project.lease_stage("look")
    project.add(["a", "b", "c"])
    project.run()
    third = find(project="line", text="3").jobs[0]

    assert current().call("prioritize", [third.id], 5) == 1

    assert dcengine.job(third.id).status().priority == 5
    (leased,) = current().call("lease", LeaseRequest(project="line", stage="look", worker="w", n=1))
    assert leased.number == 3
    with pytest.raises(InvalidOption, match="priority"):
        current().call("prioritize", [third.id], 10**9)
    with pytest.raises(NotFound):
        current().call("prioritize", [10**15], 1)


def project_failed(project: dcengine.Project) -> int:
    return project.status().failed
