"""The page about plug-ins: its example is built, installed into a folder, and found there by other processes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.testing import ProtocolSuite
from tests.engines import environment, served

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/dcengine-wordcount"
PAGE = (ROOT / "docs/plugins.md").read_text()

pytestmark = pytest.mark.timeout(120)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Return how a process ended that finds what this one finds."""
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=100)


def pip(*arguments: str | Path, cwd: Path) -> None:
    quiet = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    done = run(sys.executable, "-m", "pip", arguments[0], *quiet, *arguments[1:], cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder where the example is installed, and a package of the page's short samples."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copytree(EXAMPLE, folder / "source")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "source", cwd=folder)
    (wheel,) = folder.glob("dcengine_wordcount-*.whl")
    pip("install", "--target", folder / "site", wheel, cwd=folder)
    _write_samples(folder / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "site")
        yield folder / "site"


def _write_samples(site: Path) -> None:
    """Have *site* hold the short samples of the page as one module, with the entry points that the page names."""
    _, *samples = blocks("py")  # the first one is about using the example
    (site / "my_package.py").write_text("\n\n".join(samples))
    _, *groups = blocks("toml")
    entries = "\n".join(groups).replace('"', "").replace("project.entry-points.", "")
    entries += "\n[dcengine.endpoints]\ngreeting = my_package:endpoint\n"
    (site / "my_package-1.0.dist-info").mkdir()
    (site / "my_package-1.0.dist-info/entry_points.txt").write_text(entries)
    (site / "my_package-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")


@pytest.fixture(scope="module")
def url(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an engine, whose processes find what is installed."""
    with served(tmp_path_factory.mktemp("engine") / "work.db", workers=1) as told:
        yield str(told["url"])


def test_the_page_shows_the_code_of_the_example_and_all_of_it() -> None:
    *code, test = blocks("python")
    module = (EXAMPLE / "src/dcengine_wordcount/__init__.py").read_text()

    assert [line for block in code for line in block.splitlines() if line] == [*filter(None, module.splitlines())]
    assert test == (EXAMPLE / "tests/test_wordcount.py").read_text()
    assert blocks("toml")[0] == (EXAMPLE / "pyproject.toml").read_text()


def test_an_installed_workload_is_a_command(url: str, tmp_path: Path) -> None:
    (tmp_path / "whale.txt").write_text("Call me Ishmael. Call me\n")

    done = run(sys.executable, "-m", "dcengine", "wordcount", "whale.txt", "--letters", "4", "--url", url, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "words.csv\n"), done.stderr
    assert (tmp_path / "words.csv").read_text().splitlines() == ["word,count", "call,2", "ishmael,1"]


def test_an_installed_workload_is_a_function(url: str, tmp_path: Path) -> None:
    (tmp_path / "whale.txt").write_text("Call me Ishmael. Call me\n")
    script = f"import dcengine\ndcengine.connect({url!r})\n{blocks('py')[0]}\nprint(run.results())\n"

    done = run(sys.executable, "-c", script, cwd=tmp_path)

    assert done.stdout == "[Counter({'call': 2, 'ishmael': 1})]\n", done.stderr
    assert (tmp_path / "words.csv").exists()


def test_the_suite_of_the_example_passes_where_it_is_installed(site: Path) -> None:
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests", cwd=site.parent / "source")

    assert re.search(r"\b9 passed\b", done.stdout), done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_the_samples_of_a_protocol_an_endpoint_and_a_command_do_what_the_page_says(url: str, tmp_path: Path) -> None:
    base, _, token = url.partition("/?token=")
    project = dcengine.Project("laion", protocol="counter", is_open=True)
    project.lease_stage("a")
    project.add([1, 2, 3])

    def got(path: str) -> str:
        request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    assert got("/p/laion/left") == '{"left": 3}'
    assert got("/greeting") == "1 workers"
    idle = run(sys.executable, "-m", "dcengine", "idle", "--url", url, cwd=tmp_path)
    assert idle.stdout.strip().isdigit(), idle.stderr
    project.cancel()


@pytest.mark.usefixtures("site")
class TestCounter(ProtocolSuite):
    name = "counter"
