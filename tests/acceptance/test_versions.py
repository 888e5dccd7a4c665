"""Other versions of a package on a worker: warned of, required, or ignored."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine import api
from tests.acceptance.test_joining import joined, ready
from tests.engines import environment, eventually, served

NAME = "frobnicator"


def install(folder: Path, version: str) -> Path:
    """Install the package in *version* into a new folder, which is returned."""
    site = folder / version / "site-packages"
    site.mkdir(parents=True)
    (site / f"{NAME}.py").write_text(f"VERSION = {version!r}\n")
    info = site / f"{NAME}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n")
    return site


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine with a worker w1 that lacks the package and a worker box that has 1.0; here it is 2.0."""
    folder = tmp_path_factory.mktemp("versions")
    old, new = install(folder, "1.0"), install(folder, "2.0")
    path = os.pathsep.join([str(old), environment()["PYTHONPATH"]])
    with (
        served(folder / "work.db", "--worker-tags", "cpu", workers=1) as told,
        joined(told["url"], "--name", "box", "--tags", "site==lab", more={"PYTHONPATH": path}),
    ):
        eventually(lambda: ready() == ["box", "w1"])
        sys.path.insert(0, str(new))
        yield
        sys.path.remove(str(new))
        sys.modules.pop(NAME, None)


def new_function() -> Callable[[], str]:
    """Return a function that uses the package and that no test has used before."""
    number = next(_numbers)

    def version() -> str:
        import frobnicator

        return f"{frobnicator.VERSION} {number}"[:3]

    return version


_numbers = iter(range(1000))


def test_other_versions_are_warned_of_once_for_each_function_and_worker(box: None) -> None:
    function = new_function()

    with pytest.warns(dcengine.VersionWarning, match=f"{NAME} is 2.0 here, 1.0 on box, missing on w1") as caught:
        job = dcengine.submit(function, tags="site==lab | cpu")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = dcengine.submit(function, tags="site==lab")
    with pytest.warns(dcengine.VersionWarning):
        dcengine.map(new_function_of_one(), [1], tags="site==lab").wait(30)

    assert again.result(30) == "1.0"  # only warned of
    job.cancel()


def new_function_of_one() -> Callable[[int], str]:
    inner = new_function()
    return lambda _: inner()


def test_only_workers_that_match_are_compared(box: None) -> None:
    with pytest.warns(dcengine.VersionWarning, match=f"^{NAME} is 2.0 here, 1.0 on box$"):
        dcengine.submit(new_function(), tags="site==lab")
    with pytest.warns(dcengine.VersionWarning, match=f"^no worker has {NAME}, which is 2.0 here$"):
        dcengine.submit(new_function(), tags="cpu").cancel()


def test_other_versions_are_ignored_if_asked_to(box: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dcengine.submit(new_function(), tags="site==lab", versions="ignore").result(30) == "1.0"


def test_a_stage_is_warned_of_too(box: None) -> None:
    project = dcengine.Project("versions")
    project.stage(name="look", tags="site==lab")(new_function_of_one())

    with pytest.warns(dcengine.VersionWarning, match="1.0 on box"):
        project.add([1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert project.run().results(30) == ["1.0"]


def test_a_version_that_is_required_is_waited_for(box: None, tmp_path: Path) -> None:
    with pytest.warns(dcengine.NoMatchWarning, match=rf"pkg.{NAME}==2.0; nearest: box \(it has pkg.{NAME}=1.0\)"):
        job = dcengine.submit(new_function(), versions="require")
    assert f"pkg.{NAME}==2.0" in job.why()
    refused = dcengine.map(new_function_of_one(), [1], versions="require", on_no_match="fail")
    assert refused.wait(30).failed == 1

    url = api.current().verbs.url + "?token=" + str(api.current().verbs.token)  # type: ignore[attr-defined]
    path = os.pathsep.join([str(install(tmp_path, "2.0")), environment()["PYTHONPATH"]])
    with joined(url, "--name", "new", more={"PYTHONPATH": path}):
        assert job.result(60) == "2.0"  # who joins is asked for it at once
        assert job.status().worker == "new"
