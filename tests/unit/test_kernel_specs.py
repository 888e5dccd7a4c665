"""``dcengine kernel``: what it writes, removes and says, in folders of its own."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from typer.testing import CliRunner, Result

import dcengine
from dcengine.cli import app
from dcengine.endpoints import EndpointSettings
from dcengine.errors import InvalidTags
from dcengine_kernel import specs
from dcengine_kernel.endpoint.kernelspecs import kernelspecs
from dcengine_kernel.tagged import PROVISIONER, tags_in


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


# ---- kernels on workers --------------------------------------------------------------------


def provisioner_in(root: Path, name: str) -> object:
    metadata: Any = spec_in(root, name)["metadata"]
    return metadata.get("kernel_provisioner")


def test_with_tags_it_is_named_after_them_and_started_by_our_provisioner(user_data: Path) -> None:
    result = kernel("install", "--tags", "gpu.memory>=16GiB & site=lab")

    assert result.exit_code == 0, result.output
    name = "dcengine-gpu-memory-16gib-site-lab"
    assert spec_in(user_data, name)["display_name"] == "dcengine (gpu.memory>=16GiB & site=lab)"
    assert provisioner_in(user_data, name) == {
        "provisioner_name": "dcengine",
        "config": {"tags": "gpu.memory>=16GiB & site=lab"},
    }
    assert "needs dcengine too" in result.stderr


def test_without_tags_no_provisioner_is_needed(user_data: Path) -> None:
    kernel("install")

    assert provisioner_in(user_data, "dcengine") is None


def test_the_list_says_what_runs_on_workers(user_data: Path) -> None:
    kernel("install")
    kernel("install", "--tags", "gpu", "--name", "big")

    tags = {one["name"]: one["tags"] for one in json.loads(kernel("list", "--json").stdout)}
    assert tags == {"big": "gpu", "dcengine": ""}
    assert spec_in(user_data, "big")["display_name"] == "big"


def test_tags_that_cannot_be_are_refused(user_data: Path) -> None:
    result = kernel("install", "--tags", "gpu >=")

    assert result.exit_code == 1
    assert "gpu >=" in result.stderr
    assert not user_data.exists()


def test_the_provisioner_is_found_by_its_name() -> None:
    (entry,) = entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER)

    assert issubclass(entry.load(), LocalProvisioner)


def test_the_endpoint_has_a_kernel_for_each_expression_in_the_settings() -> None:
    found = kernelspecs(EndpointSettings(kernel_tags=("gpu", "gpu>1", "gpu<1", "日本", "gpu")))

    tagged = {
        name: (spec.display_name, tags_in(spec.metadata)) for name, spec in found.items() if tags_in(spec.metadata)
    }
    assert next(iter(found)) == "dcengine"
    assert list(tagged.values()) == [(f"dcengine ({tags})", tags) for tags in ("gpu", "gpu>1", "gpu<1", "日本")]
    assert list(tagged)[:2] == ["dcengine-gpu", "dcengine-gpu-1"]


def test_the_endpoints_own_kernel_can_be_started_with_tags_too() -> None:
    own = kernelspecs(EndpointSettings())["dcengine"]

    assert own.metadata["kernel_provisioner"] == {"provisioner_name": "dcengine", "config": {}}


def test_expressions_that_cannot_be_are_refused_before_an_engine_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidTags):
        dcengine.Engine(tmp_path / "jobs.db", workers=0, kernel_tags=["gpu >="])
