"""Tags as workers offer them, find them on demand, and are given them while they run."""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import dcengine
from tests.engines import eventually

pytestmark = pytest.mark.usefixtures("engine")


def where() -> int:
    return os.getpid()


def tags_of(name: str) -> dict[str, str | None]:
    return next(worker.tags for worker in dcengine.workers() if worker.name == name)


@pytest.fixture
def retagged() -> Iterator[None]:
    """Gives both workers their tags back."""
    yield
    dcengine.tag_worker("w1", "cpu")
    dcengine.tag_worker("w2", "gpu=2,site=lab")


# ---- found on demand -----------------------------------------------------------------------


def test_a_job_runs_where_its_packages_and_programs_are() -> None:
    tags = f"pkg.msgspec=={version('msgspec')} & pkg.packaging>=20 & exe.sh & site==lab"

    job = dcengine.submit(where, tags=tags)

    assert job.result(30)
    assert job.status().worker == "w2"


def test_a_package_is_known_by_the_name_that_is_imported_too() -> None:
    expression = f"pkg.PyYAML & pkg.yaml=={version('PyYAML')}"

    assert eventually(lambda: dcengine.explain(expression) == "2 of 2 workers match")


def test_what_is_missing_matches_once_that_is_known_and_not_before() -> None:
    assert dcengine.submit(where, tags=f"!pkg.no-{uuid.uuid4().hex} & !exe.no-{uuid.uuid4().hex}").result(30)

    never_mentioned = "pkg.CloudPickle"  # names of packages have no case
    with pytest.raises(dcengine.NoMatchingWorker):
        dcengine.submit(where, tags=f"!{never_mentioned}", on_no_match="fail").result(30)


def test_a_package_that_nobody_has_is_said_at_submit_and_by_why() -> None:
    name = f"pkg.no-{uuid.uuid4().hex}"
    with pytest.warns(dcengine.NoMatchWarning, match=f"2 workers, none has {name}"):
        job = dcengine.submit(where, tags=name)

    assert f"none has {name}" in job.why()
    assert name not in tags_of("w1")
    job.cancel()


def test_a_version_that_nobody_has_is_told_with_the_one_that_is_there() -> None:
    with pytest.raises(dcengine.NoMatchingWorker, match=r"none has pkg.msgspec>=99; nearest: w1 \(it has pkg.msgspec="):
        dcengine.submit(where, tags="pkg.msgspec>=99", on_no_match="fail").result(30)


def test_a_stage_finds_its_packages_too() -> None:
    project = dcengine.Project(f"tags-{uuid.uuid4().hex[:8]}")
    project.stage(tags="pkg.cloudpickle & exe.sh", name="double")(lambda n: 2 * n)
    project.add([1, 2])

    assert project.run().results(30) == [2, 4]


def test_a_batch_finds_its_packages_too() -> None:
    assert dcengine.map(abs, [-1, -2], tags="pkg.aiohttp").results(30) == [1, 2]


# ---- explained -----------------------------------------------------------------------------


def test_an_explanation_is_a_text_with_a_verdict_on_each_worker() -> None:
    explained = dcengine.explain("gpu>=9 & site==lab & pkg.msgspec")

    assert explained.startswith("2 workers, none has gpu>=9")
    assert {verdict.name: verdict.lacking for verdict in explained.workers} == {
        "w1": ["gpu>=9", "site==lab"],
        "w2": ["gpu>=9 (it has gpu=2)"],
    }
    assert [verdict.matches for verdict in dcengine.explain("site==lab").workers] == [False, True]
    assert "lacks gpu>=9 (it has gpu=2)" in repr(explained)
    assert pickle.loads(pickle.dumps(explained)).workers == explained.workers


# ---- given while it runs -------------------------------------------------------------------


def test_a_job_that_waits_begins_when_a_worker_is_given_its_tags(retagged: None) -> None:
    with pytest.warns(dcengine.NoMatchWarning):
        waiting = dcengine.submit(where, tags="site==moon & gpu")

    status = dcengine.tag_worker("w1", "gpu,site=moon")

    assert waiting.result(30)
    assert waiting.status().worker == "w1"
    assert (status.tags["site"], status.tags["gpu"]) == ("moon", None)
    assert status.tags["cpu.count"] == tags_of("w2")["cpu.count"]  # what it found by itself stays
    assert "cpu" not in status.tags


def test_a_job_whose_worker_loses_its_tags_waits(retagged: None, tmp_path: Path) -> None:
    def hold(path: str) -> None:
        import time

        while not os.path.exists(path):
            time.sleep(0.01)

    running = dcengine.submit(hold, str(tmp_path / "go"), tags="site==lab")
    eventually(lambda: running.status().task_state == "leased")
    behind = dcengine.submit(where, tags="site==lab")

    dcengine.tag_worker("w2", "site=moon")
    (tmp_path / "go").touch()
    running.result(30)

    assert "none has site==lab" in behind.why()
    assert behind.status().task_state == "queued"
    dcengine.tag_worker("w1", "site=lab")
    assert behind.result(30)
    assert behind.status().worker == "w1"


def test_found_tags_outlast_given_ones(retagged: None) -> None:
    dcengine.explain("pkg.msgspec")

    dcengine.tag_worker("w1", "")

    assert tags_of("w1")["pkg.msgspec"] == version("msgspec")


def test_a_worker_that_is_not_there_or_tags_that_are_none_are_refused() -> None:
    with pytest.raises(dcengine.NotFound, match="nobody"):
        dcengine.tag_worker("nobody", "gpu")
    with pytest.raises(dcengine.InvalidTags):
        dcengine.tag_worker("w1", "gpu & site==lab")
    assert tags_of("w1")["cpu"] is None


# ---- versions ------------------------------------------------------------------------------


def test_versions_that_are_required_are_tags() -> None:
    def encode() -> bytes:
        import msgspec

        return msgspec.json.encode([1])

    job = dcengine.submit(encode, tags="site==lab | cpu", versions="require")

    assert job.result(30) == b"[1]"
    assert job.status().tags == f"(site==lab | cpu) & pkg.msgspec=={version('msgspec')}"


def test_what_is_to_be_done_about_versions_is_one_of_three() -> None:
    with pytest.raises(dcengine.InvalidOption, match="'warn', 'require' or 'ignore'"):
        dcengine.submit(where, versions="maybe")
