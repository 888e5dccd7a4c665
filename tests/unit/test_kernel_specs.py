"""``dcengine kernel``: what it writes, removes and says, in folders of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dcengine.cli import app
from dcengine_kernel import specs


@pytest.fixture
def user_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which Jupyter looks, as if it were the user's."""
    folder = tmp_path / "user"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder))
    monkeypatch.setattr(specs, "jupyter_path", lambda *parts: [str(Path(folder, *parts))])
    return folder


def kernel(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["kernel", *arguments])


def spec_in(root: Path, name: str = "dcengine") -> dict[str, object]:
    content: dict[str, object] = json.loads((root / "kernels" / name / "kernel.json").read_text())
    return content


def test_it_is_installed_for_the_user_unless_told_otherwise(user_data: Path) -> None:
    result = kernel("install")

    assert result.exit_code == 0, result.output
    assert str(user_data / "kernels/dcengine") in result.stdout
    assert "jupyter console --kernel dcengine" in result.stdout
    assert spec_in(user_data)["display_name"] == "dcengine"
    assert len(list((user_data / "kernels/dcengine").glob("logo-*"))) == 3


def test_it_starts_the_interpreter_that_installed_it(user_data: Path) -> None:
    kernel("install", "--user")

    assert spec_in(user_data)["argv"] == [sys.executable, "-m", "dcengine_kernel", "-f", "{connection_file}"]


@pytest.mark.usefixtures("user_data")
def test_it_is_installed_below_a_prefix_and_says_how_jupyter_finds_it(tmp_path: Path) -> None:
    result = kernel("install", "--prefix", str(tmp_path / "other"))

    assert spec_in(tmp_path / "other/share/jupyter")["language"] == "python"
    assert f"JUPYTER_PATH={tmp_path / 'other/share/jupyter'}" in result.stdout


@pytest.mark.usefixtures("user_data")
def test_it_is_installed_into_the_environment_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))

    kernel("install", "--sys-prefix")

    assert spec_in(tmp_path / "environment/share/jupyter")["language"] == "python"


def test_it_may_have_another_name(user_data: Path) -> None:
    kernel("install", "--name", "lab", "--display-name", "The lab's")
    kernel("install", "--name", "field")

    assert spec_in(user_data, "lab")["display_name"] == "The lab's"
    assert spec_in(user_data, "field")["display_name"] == "field"


def test_installing_again_replaces_it(user_data: Path) -> None:
    kernel("install", "--display-name", "the first")
    result = kernel("install", "--display-name", "the second")

    assert result.exit_code == 0
    assert spec_in(user_data)["display_name"] == "the second"


def test_a_kernel_of_another_program_is_not_replaced(user_data: Path) -> None:
    foreign = user_data / "kernels/python3/kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["python", "-m", "ipykernel_launcher"], "display_name": "Python 3"}')
    before = foreign.read_text()

    installing, removing = kernel("install", "--name", "python3"), kernel("uninstall", "--name", "python3")

    assert (installing.exit_code, removing.exit_code) == (1, 1)
    assert "is not dcengine's" in installing.stderr
    assert "no dcengine kernel named 'python3'" in removing.stderr
    assert foreign.read_text() == before


@pytest.mark.usefixtures("user_data")
@pytest.mark.parametrize("name", ["", "..", "a/b", "Übung", "two words", "../../etc"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    result = kernel("install", "--name", name)

    assert result.exit_code == 1
    assert "--name cannot be" in result.stderr


@pytest.mark.parametrize(
    "two", [["--user", "--sys-prefix"], ["--user", "--prefix", "/x"], ["--sys-prefix", "--prefix", "/x"]]
)
def test_only_one_place_can_be_named(user_data: Path, two: list[str]) -> None:
    for command in ("install", "uninstall"):
        result = kernel(command, *two)

        assert result.exit_code == 1
        assert "one of them" in result.stderr
    assert not user_data.exists()


@pytest.mark.usefixtures("user_data")
def test_a_place_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    result = kernel("install", "--prefix", str(tmp_path / "file"))

    assert result.exit_code == 1
    assert f"{tmp_path / 'file'}/share/jupyter/kernels/dcengine cannot be changed: Not a directory" in result.stderr
    assert "--user" in result.stderr


def test_the_list_has_ours_only(user_data: Path) -> None:
    empty = kernel("list")
    kernel("install")
    for name, text in (("foreign", '{"argv": ["R"], "display_name": "R"}'), ("broken", "{"), ("odd", "[]")):
        (user_data / "kernels" / name).mkdir()
        (user_data / "kernels" / name / "kernel.json").write_text(text)
    listed, for_programs = kernel("list"), kernel("list", "--json")

    assert "dcengine kernel install" in empty.stderr
    assert str(user_data / "kernels/dcengine") in listed.stdout
    assert [one["name"] for one in json.loads(for_programs.stdout)] == ["dcengine"]


def test_it_is_removed_from_where_jupyter_finds_it(user_data: Path) -> None:
    kernel("install")
    first, second = kernel("uninstall"), kernel("uninstall")

    assert f"removed the kernel dcengine from {user_data / 'kernels/dcengine'}" in first.stdout
    assert not (user_data / "kernels/dcengine").exists()
    assert second.exit_code == 1
    assert "no dcengine kernel named 'dcengine'" in second.stderr


def test_another_one_of_the_same_name_that_is_found_first_is_named(
    user_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = specs.install(tmp_path / "first")
    spec = json.loads((first / "kernel.json").read_text())
    (first / "kernel.json").write_text(json.dumps({**spec, "argv": ["/elsewhere/python", *spec["argv"][1:]]}))
    roots = [tmp_path / "first", user_data]
    monkeypatch.setattr(specs, "jupyter_path", lambda *parts: [str(Path(root, *parts)) for root in roots])

    installed, removed = kernel("install"), kernel("uninstall")

    assert f"goes on using the one in {first}, of /elsewhere/python" in installed.stdout
    assert f"removed the kernel dcengine from {first}" in removed.stdout
    assert f"Jupyter still finds the one in {user_data / 'kernels/dcengine'}" in removed.stdout
