from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# In pieces, so that this file does not contain what it looks for.
REGISTRY = re.compile(
    "|".join(
        ["--(extra-)?" + "index-url", "--find" + "-links ", r"pypi\." + "org", "python" + "hosted", "/simple" + "/"]
    )
)


def kept_files() -> list[Path]:
    """Return the files that git keeps or would keep; all of them where git is not at work."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file() and not {".venv", ".git"} & set(path.parts)]
    return [path for path in (ROOT / name for name in listing.stdout.split("\0") if name) if path.is_file()]


def test_no_file_names_a_package_registry() -> None:
    texts = {path: path.read_bytes().decode("utf-8", "replace") for path in kept_files()}

    assert ROOT / "constraints.txt" in texts
    assert [str(path) for path, text in texts.items() if REGISTRY.search(text)] == []


def test_constraints_are_pins_and_nothing_else() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.lstrip().startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( ; [\w.<>=!*'\" ()]+)?", line)] == []


def test_every_dependency_is_locked() -> None:
    declared = set(re.findall(r'"([A-Za-z_][\w.-]*)(?:[><=~!][^"]*)"', (ROOT / "pyproject.toml").read_text()))
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))

    assert "distributed" in declared
    assert {name.lower().replace("_", "-") for name in declared} - locked == set(), "run `make lock`"


@pytest.mark.parametrize("path", [".ci/run"])
def test_program_can_be_run(path: str) -> None:
    assert (ROOT / path).stat().st_mode & 0o111


def test_continuous_integration_runs_exactly_make_test() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()

    assert lines[-1] == "exec make test"
