"""The suite for authors of workloads finds what authors get wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import SkipTest

import msgspec
import pytest

import dcengine
from dcengine import Project, workloads
from dcengine.errors import InvalidOption
from dcengine.testing import WorkloadSuite
from dcengine.workloads import Workload, name_for
from tests.engines import embedded
from tests.unit import toys
from tests.unit.toys import Parameters


class Suite(WorkloadSuite):
    __test__ = False
    name = "toy"

    def sample(self, folder: Path) -> dict[str, Any]:
        return {"parts": [b"wood"], "out": folder / "toy"}

    @contextmanager
    def _running(self) -> Iterator[dcengine.Engine]:
        yield ENGINE[0]


ENGINE: list[dcengine.Engine] = []


@pytest.fixture(scope="module", autouse=True)
def _engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with embedded(tmp_path_factory.mktemp("suite") / "work.db", processes=False) as engine:
        ENGINE[:] = [engine]
        yield


@pytest.fixture
def suite() -> Iterator[Suite]:
    Suite.setup_class()
    yield Suite()
    Suite.teardown_class()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the toy be one that its author has changed."""

    def changed(**changes: Any) -> None:
        workload = toys.toy()._replace(**changes)
        entry = EntryPoint("toy", "tests.unit.toys:toy", workloads.GROUP)
        monkeypatch.setattr(workloads, "entry_points", lambda **_: [entry])
        monkeypatch.setattr(workloads, "_loaded", lambda _: workload)

    return changed


def test_a_good_one_passes(suite: Suite, offer: Callable[..., None], tmp_path: Path) -> None:
    offer()

    suite.test_it_is_installed_under_the_name_that_it_says()
    suite.test_every_parameter_is_described_in_a_sentence()
    suite.test_a_parameter_that_it_does_not_have_is_refused()
    suite.test_a_parameter_that_it_needs_is_missed()
    suite.test_odd_values_are_taken_or_refused_by_errors_of_dcengine_which_leave_no_project(tmp_path)
    suite.test_a_sample_runs_to_its_end_and_what_it_saves_is_where_it_says()
    suite.test_the_same_request_again_is_the_same_project()


def test_a_project_that_is_there_before_the_refusal_is_found(
    suite: Suite, offer: Callable[..., None], tmp_path: Path
) -> None:
    def hasty(asked: Parameters) -> Project:
        project = toys.project_of(asked)
        if not asked.wheels:
            raise InvalidOption("wheels", "False", "some")
        return project

    offer(project=hasty)
    with pytest.raises(AssertionError, match="left a project behind"):
        suite.test_odd_values_are_taken_or_refused_by_errors_of_dcengine_which_leave_no_project(tmp_path)


def test_an_error_that_is_none_of_ours_is_found(suite: Suite, offer: Callable[..., None], tmp_path: Path) -> None:
    def careless(asked: Parameters) -> Project:
        return toys.project_of(asked) if asked.wheels else [][0]

    offer(project=careless)
    with pytest.raises(IndexError):
        suite.test_odd_values_are_taken_or_refused_by_errors_of_dcengine_which_leave_no_project(tmp_path)


def test_a_project_for_each_call_is_found(suite: Suite, offer: Callable[..., None]) -> None:
    numbers = itertools.count()

    def new(asked: Parameters) -> Project:
        project = Project(name_for("toy", asked, about=f"try {next(numbers)}"))
        project.stage(name="glue")(toys.glue)
        project.add([b"wood"])
        return project

    offer(project=new)
    with pytest.raises(AssertionError):
        suite.test_the_same_request_again_is_the_same_project()


def test_jobs_that_are_added_again_are_found(suite: Suite, offer: Callable[..., None]) -> None:
    def more(asked: Parameters) -> Project:
        project = toys.project_of(asked)
        project.add([b"iron"])
        return project

    offer(project=more)
    with pytest.raises(AssertionError):
        suite.test_the_same_request_again_is_the_same_project()


def test_a_file_that_was_not_written_is_found(suite: Suite, offer: Callable[..., None]) -> None:
    offer(save=lambda project, asked: [Path(asked.out)])

    with pytest.raises(AssertionError):
        suite.test_a_sample_runs_to_its_end_and_what_it_saves_is_where_it_says()


def test_a_sample_is_skipped_with_the_reason_where_nobody_could_run_it(
    suite: Suite, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer()
    monkeypatch.setattr(Suite, "needs", "wings>=2")

    with pytest.raises(SkipTest, match="the sample needs wings>=2: 2 workers, none has wings>=2"):
        suite.test_a_sample_runs_to_its_end_and_what_it_saves_is_where_it_says()


def test_a_title_and_descriptions_are_asked_for(suite: Suite, offer: Callable[..., None]) -> None:
    class Bare(msgspec.Struct):
        size: int = 3

    offer(title="Toys", parameters=Bare)
    with pytest.raises(AssertionError):
        suite.test_it_is_installed_under_the_name_that_it_says()
    with pytest.raises(AssertionError, match="size"):
        suite.test_every_parameter_is_described_in_a_sentence()
    assert isinstance(suite.workload, Workload)
