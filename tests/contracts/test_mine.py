"""What holders of tokens are told of themselves, and of contributors everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.api import current
from dcengine.errors import InvalidTags, NotFound
from dcengine.verbs import Completion, Grant, LeaseRequest, TokenSpec, brought_with
from dcengine.verbs.access import mark_of
from tests.engines import embedded


@pytest.fixture(scope="module", autouse=True)
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    """An engine with two projects of outside workers."""
    path: Path = tmp_path_factory.mktemp("mine") / "jobs.db"
    with embedded(path, workers=1, processes=False) as engine:
        for name in ("crawl", "look"):
            project = dcengine.Project(name)
            project.lease_stage("a")
            project.add(range(50))
            project.run()
        yield engine


def lease(project: str, worker: str, nickname: str, n: int = 1, grant: int | None = None) -> list[str]:
    wish = LeaseRequest(project=project, stage="a", worker=worker, nickname=nickname, n=n, grant=grant)
    return [task.token for task in current().call("lease", wish)]


def do(project: str, nickname: str, n: int, grant: int | None = None) -> None:
    tokens = lease(project, f"{nickname}-1", nickname, n, grant)
    current().call("complete", [Completion(token=token) for token in tokens])


def test_a_report_adds_up_what_a_contributor_earned_in_all_projects() -> None:
    do("crawl", "ann", 3)
    do("look", "ann", 2)
    do("look", "bob", 1)

    report = current().call("contributor", "ann")

    assert [(each.project, each.units, each.day) for each in report.projects] == [("crawl", 3, 3), ("look", 2, 2)]
    assert [(each.project, each.stage, each.units) for each in report.stages] == [("crawl", "a", 3), ("look", "a", 2)]
    assert (len(report.hours), sum(report.hours), len(report.newest)) == (720, 5, 5)
    assert (report.places["all"].units, report.places["all"].rank) == (5, 1)
    first = current().call("leaderboard", "")[0]
    assert (first.nickname, first.tasks) == ("ann", 5)
    assert [worker.name for worker in report.workers] == ["ann-1", "ann-1"]


def test_a_banned_contributor_is_shown_as_such_and_nobody_unknown_is_shown() -> None:
    do("crawl", "eve", 2)
    current().call("ban_contributor", "eve")

    report = current().call("contributor", "eve")

    assert report.banned is not None
    assert (report.projects, report.newest, sum(report.hours)) == ([], [], 0)
    with pytest.raises(NotFound):
        current().call("contributor", "never met")


def test_a_token_of_one_project_is_told_of_no_other() -> None:
    do("look", "gus", 4)
    grant = Grant(role="worker", project="crawl", id=71)
    do("crawl", "gus", 1, grant=71)
    held = lease("crawl", "gus-2", "gus", 2, grant=71)

    mine = current().call("mine", grant=grant)

    assert [[each.project for each in report.projects] for report in mine.contributors] == [["crawl"]]
    assert (mine.held, {task.project for task in mine.holding}) == (2, {"crawl"})
    assert {worker.project for worker in mine.workers} == {"crawl"}
    current().call("release", held)
    assert current().call("mine", grant=Grant(role="worker", project="crawl", id=72)).workers == []


def test_jobs_are_known_by_the_token_that_was_shown_for_them() -> None:
    token = current().call("create_token", TokenSpec(role="submit"))
    grant = Grant(role="submit", id=token.status.id)

    assert mark_of(brought_with("ann@lab", grant)) == grant.id
    assert brought_with("ann@lab", None) == brought_with("ann@lab", Grant(role="admin")) == "ann@lab"
    assert mark_of("ann (token 3) smith") is None
    job = dcengine.submit(abs, -1)
    assert job.id not in [each.id for each in current().call("my_jobs", grant=grant).jobs]
    assert job.id in [each.id for each in current().call("my_jobs").jobs]


def test_workers_are_found_by_what_they_offer() -> None:
    lease("crawl", "small", "s")
    wish = LeaseRequest(project="crawl", stage="a", worker="large", nickname="l", n=1, tags={"ram": "64"})
    current().call("lease", wish)

    assert [each.name for each in current().call("outside_workers", tags="ram>=32")] == ["large"]
    assert [each.name for each in current().call("outside_workers", name="small")] == ["small"]
    assert current().call("workers", tags="nothing.like.it") == []
    with pytest.raises(InvalidTags):
        current().call("workers", tags="(")
