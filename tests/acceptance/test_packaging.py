"""Wheel, sdist and editable installs, as people get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import dcengine

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "dcengine": ROOT / "dcengine",
    "dcengine_kernel": ROOT / "kernel/dcengine_kernel",
    "dcengine_magics": ROOT / "extensions/dcengine_magics",
    "dcengine_plugins": ROOT / "plugins/dcengine_plugins",
}


def run(*command: str | Path, cwd: Path) -> str:
    """Return what *command* prints; the checkout is not on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The interpreter of a new environment that finds the dependencies, but not dcengine."""
    folder = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/python"


def install(python: Path, *what: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--force-reinstall", "--no-deps"]
    run(*pip, "--no-build-isolation", *what, cwd=python.parent)


def assert_usable(python: Path) -> None:
    """Check that dcengine is imported from where it was installed, that its command answers, and that it does a job."""
    script = "import dcengine, dcengine_kernel, dcengine_magics, dcengine_plugins; print(dcengine.__version__)"
    assert run(python, "-c", script, cwd=python.parent).strip() == dcengine.__version__
    assert "serve" in run(python.with_name("dcengine"), "--help", cwd=python.parent)
    job = "import dcengine\nwith dcengine.Engine('w.db', workers=1): print(dcengine.submit(pow, 2, 10).result(60))"
    assert run(python, "-c", job, cwd=python.parent).strip() == "1024"
    assert_known_to_jupyter(python)


def assert_known_to_jupyter(python: Path) -> None:
    """Check that Jupyter of the environment finds the kernel by name, and that its command is there."""
    listed = json.loads(run(python, "-m", "jupyter_client.kernelspecapp", "list", "--json", cwd=python.parent))
    kernel = listed["kernelspecs"]["dcengine"]
    assert kernel["resource_dir"] == str(python.parent.parent / "share/jupyter/kernels/dcengine")
    assert kernel["spec"]["argv"][:3] == ["python", "-m", "dcengine_kernel"]
    found = json.loads(run(python.with_name("dcengine"), "kernel", "list", "--json", cwd=python.parent))
    assert [one["folder"] for one in found] == [kernel["resource_dir"]]


def source_files() -> set[str]:
    """Return the names that all files of our packages have once installed."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_our_four_packages_whole_and_nothing_else_but_the_kernelspec(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    shared = {name.partition(".data/data/")[2] for name in names if ".data/" in name}
    files = ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]
    assert shared == {f"share/jupyter/kernels/dcengine/{file}" for file in files}
    installed = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert installed == source_files()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_is_needed_to_test_and_build_again(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    wanted = {"pyproject.toml", "setup.cfg", "Makefile", "constraints.txt", "README.md", "tests/unit/test_tags.py"}
    assert wanted - names == set()


def test_an_installed_wheel_is_usable(built: Path, environment: Path) -> None:
    (wheel,) = built.glob("*.whl")

    install(environment, wheel)

    where = run(environment, "-c", "import dcengine; print(dcengine.__file__)", cwd=environment.parent)
    assert str(environment.parent.parent) in where
    assert_usable(environment)


def test_an_editable_install_is_usable(environment: Path) -> None:
    install(environment, "--editable", ROOT)

    where = run(environment, "-c", "import dcengine; print(dcengine.__file__)", cwd=environment.parent)
    assert Path(where.strip()) == ROOT / "dcengine/__init__.py"
    assert_usable(environment)
