"""Every job can say why it is not running, whatever the reason."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

import dcengine
from dcengine import api
from dcengine.verbs import LeasedTask, LeaseRequest, TaskAnswer, TaskFlag
from tests.engines import eventually

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def project() -> dcengine.Project:
    """A project that no other test has."""
    return dcengine.Project(f"why-{uuid.uuid4().hex[:8]}")


def ask(verb: str, *arguments: Any) -> Any:
    return api.current().call(verb, *arguments)


def lease(project: dcengine.Project, stage: str, nickname: str) -> list[LeasedTask]:
    request = LeaseRequest(project=project.name, stage=stage, worker=f"{nickname}-1", nickname=nickname, n=10)
    tasks: list[LeasedTask] = ask("lease", request)
    return tasks


def test_nobody_has_its_tags_with_the_nearest_worker_and_what_it_lacks() -> None:
    with pytest.warns(dcengine.NoMatchWarning):
        job = dcengine.submit(abs, -1, tags="gpu>=4")

    assert "gpu>=4" in job.why()
    assert "gpu=2" in job.why()
    job.cancel()


def test_it_backs_off_after_an_error(project: dcengine.Project) -> None:
    @project.stage(retries=1, back_off=3600)
    def fail(item: int) -> None:
        raise ValueError(item)

    project.add([1])
    job = project.run().job(1)

    eventually(lambda: "before its next try, after 1 error(s)" in job.why())
    project.cancel()


def test_it_is_not_to_run_before_its_time(project: dcengine.Project) -> None:
    project.stage(name="work")(lambda item: item)
    project.add([1], not_before=time.time() + 3600)
    single = dcengine.submit(abs, -1, not_before=time.time() + 3600)
    several = dcengine.map(abs, [-1, -2], not_before=time.time() + 3600)
    project.run()

    item = dcengine.job(several.status().first_job)
    for job in (project.job(1), single, item):
        assert "it is not to run before" in job.why()
    project.cancel()
    single.cancel()
    several.cancel()


def test_others_are_before_it(project: dcengine.Project) -> None:
    project.lease_stage("a")
    project.add(["low"])
    project.add(["high", "higher"], priority=5)
    project.run()

    assert "is queued behind 2 others for outside workers of stage 'a'" in project.job(1).why()
    assert "is queued behind 1 other for" in project.job(3).why()
    assert "nobody has asked for one yet" in project.job(1).why()
    project.cancel()


def test_its_project_or_its_stage_is_paused(project: dcengine.Project) -> None:
    project.lease_stage("a")
    project.add(["x"])
    assert "is paused; run() lets it go on" in project.job(1).why()

    project.run().pause(stage="a")

    assert "because stage 'a'" in project.job(1).why()
    assert lease(project, "a", "alice") == []
    project.resume(stage="a")
    assert len(lease(project, "a", "alice")) == 1
    project.cancel()


def test_it_waits_for_so_many_parts(project: dcengine.Project) -> None:
    project.expand(name="split")(range)
    project.lease_stage("work")
    project.gather(name="join")(len)
    project.add([3])
    job = project.run().job(1)

    eventually(lambda: "waits for 3 of its 3 parts at stage 'join'" in job.why())
    (task, *_) = eventually(lambda: lease(project, "work", "alice"))  # type: ignore[misc]
    ask("release", [task.token])
    project.cancel()


def test_it_was_flagged_and_needs_others(project: dcengine.Project) -> None:
    project.lease_stage("a", votes=5)
    project.add(["x"])
    project.run()
    for voter in ("alice", "bob"):
        (task,) = lease(project, "a", voter)
        (answer,) = ask("flag", [TaskFlag(token=task.token, reason="404")])
        assert isinstance(answer, TaskAnswer)
        assert answer.is_accepted

    assert "was flagged 2 of 5 times (by alice, bob) and needs other workers" in project.job(1).why()
    assert lease(project, "a", "alice") == []
    assert len(lease(project, "a", "carol")) == 1
    project.cancel()


def test_it_runs_or_has_ended(project: dcengine.Project) -> None:
    project.lease_stage("a")
    project.add(["x"])
    project.run()
    (task,) = lease(project, "a", "alice")

    assert "is running on alice-1" in project.job(1).why()
    project.job(1).cancel()
    assert "was cancelled" in project.job(1).why()
    (answer,) = ask("release", [task.token])
    assert not answer.is_accepted
