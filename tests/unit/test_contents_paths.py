"""Paths that front ends say: what is one, what is hidden, what is an engine's, and that none leads out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcengine_kernel.endpoint.contents import folder_for, paths
from dcengine_kernel.endpoint.contents.files import Files
from dcengine_kernel.endpoint.contents.folder import Folder
from dcengine_kernel.endpoint.contents.kept import Kept
from dcengine_kernel.endpoint.contents.paths import checkpoint_of, clean, is_engines_own, is_hidden, is_listed, parts_of
from dcengine_kernel.endpoint.refusing import Refused

ODD = ["..", ".", "", "a", "sub", "link", "dcengine.db", "dcengine.db.lock", "~", "..\\..", "C:", "x" * 300]
SEGMENTS = st.one_of(
    st.sampled_from(ODD), st.text(max_size=6), st.characters(codec=None).map(lambda character: f"..{character}")
)
STARTS = st.sampled_from(["", "/", "//"])
PATHS = st.builds(lambda parts, start: start + "/".join(parts), st.lists(SEGMENTS, max_size=5), STARTS)
PATHS_THERE = ["", "/", "a", "/a/b.txt/", "ä/ö ü", "a+b%20", "...", "~", "con", "x" * 255, "ﬀ/👩‍👩‍👧"]
NO_PATHS = ["..", "a/../b", ".", "a/.", "a//b", "a\\b", "\x00", "a\nb", "a\x1bb", "\ud800", "x" * 256, "ä" * 128]
OWN = [
    "dcengine.db",
    "DCengine.DB-wal",
    "a/dcengine.db.lock",
    "dcengine.db.blobs/a/b",
    "dcengine.toml",
    "dcengine.toml~",
]
OTHERS = ["dcengine", "dcengine.dbx", "my dcengine.db", "dcengine.db's notes.txt", "dcengine.ipynb", "dcengine.tomlin"]


@pytest.mark.parametrize("path", PATHS_THERE)
def test_a_path_below_the_root_is_one(path: str) -> None:
    assert clean(path) == path.strip("/")


@pytest.mark.parametrize("path", [*NO_PATHS, "a/" * 3000 + "a"])
def test_what_is_no_path_is_refused_with_the_reason(path: str) -> None:
    with pytest.raises(Refused, match="is no path here: ") as refused:
        clean(path)

    assert (refused.value.status, refused.value.reason) == (400, "bad path")
    refused.value.message.encode()  # can be told


def test_names_with_a_dot_are_hidden_and_so_is_what_lies_below_them() -> None:
    assert [path for path in ("", "a", "a.b/c", ".a", "b/.a", ".a/b", "a/.b/c") if is_hidden(path)] == [
        ".a", "b/.a", ".a/b", "a/.b/c",
    ]  # fmt: skip
    assert [name for name in ("a", ".a", "a~", "a.pyc", "__pycache__", "a.py") if is_listed(name)] == ["a", "a.py"]


def test_files_of_engines_are_known_by_their_names() -> None:
    assert [path for path in OWN + OTHERS if is_engines_own(path)] == OWN


def test_a_number_goes_before_the_endings_of_a_name() -> None:
    assert [parts_of(name) for name in ("a.tar.gz", "a.b.ipynb", "a", ".ipynb")] == [
        ("a", ".tar.gz"), ("a.b", ".ipynb"), ("a", ""), ("", ".ipynb"),
    ]  # fmt: skip


def test_a_checkpoint_lies_hidden_beside_its_file_however_long_that_is_called() -> None:
    assert checkpoint_of("a/n.ipynb") == "a/.ipynb_checkpoints/n-checkpoint.ipynb"
    assert checkpoint_of("n") == ".ipynb_checkpoints/n-checkpoint"
    assert len(paths.name_of(checkpoint_of("x" * 255))) <= 255


# ---- on a disk -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    around = tmp_path_factory.mktemp("around")
    (around / "files" / "sub").mkdir(parents=True)
    (around / "outside.txt").write_text("secret")
    (around / "files" / "link").symlink_to("..")
    (around / "files" / "dcengine.db").write_text("secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(around.with_name(f"{around.name}-home")))
        patch.setenv("JUPYTER_DATA_DIR", str(around.with_name(f"{around.name}-home")))
        yield around / "files"


@pytest.fixture(scope="module")
def files(root: Path) -> Files:
    return Files(Folder(str(root), Kept(str(root / "dcengine.db"))))


@settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=PATHS, second=PATHS, kind=st.sampled_from(["file", "directory", "notebook"]))
def test_whatever_is_asked_nothing_outside_is_seen_or_changed(
    root: Path, files: Files, first: str, second: str, kind: str
) -> None:
    model: dict[str, Any] = {"type": "file", "format": "text", "content": "mine"}
    told, refusals = [], []
    for question in (
        lambda: files.get(first),
        lambda: files.put(first, model),
        lambda: files.post(first, {"type": kind}),
        lambda: files.post("sub", {"copy_from": second}),
        lambda: files.patch(first, {"path": second}),
        lambda: files.checkpoints.create(clean(second)),
        lambda: files.delete(second),
    ):
        try:
            told.append(repr(question()))
        except Refused as refused:
            refusals.append((refused.status, refused.message.encode()))

    assert [refusal for refusal in refusals if not 400 <= refusal[0] < 500] == []
    assert "secret" not in "".join(told)
    assert sorted(os.listdir(root.parent)) == ["files", "outside.txt"]
    assert (root.parent / "outside.txt").read_text() == "secret"
    assert (root / "dcengine.db").read_text() == "secret"


def test_a_folder_of_large_values_is_the_engines_own(tmp_path: Path) -> None:
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "abc").write_text("secret")
    (tmp_path / "link").symlink_to("values")
    files = Files(Folder(str(tmp_path), Kept(str(tmp_path / "work.db"), str(tmp_path / "values"))))

    for path in ("values", "values/abc", "link/abc"):
        with pytest.raises(Refused, match="belongs to an engine"):
            files.get(path)
    assert files.get("")["content"] == []


def test_a_kernel_starts_in_the_folder_of_its_notebook(tmp_path: Path) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "out").symlink_to("/")
    root = str(tmp_path / "files")

    assert folder_for(root, "sub/nb.ipynb") == f"{root}/sub"
    assert folder_for(root, "/sub") == f"{root}/sub"
    assert folder_for(root, "nb.ipynb") == root
    assert folder_for(root, "sub/nowhere/nb.ipynb") == f"{root}/sub"
    assert folder_for(root, "../nb.ipynb") == root
    assert folder_for(root, "a\x00b") == root
    assert folder_for(root, "out/etc/nb.ipynb") == root
    assert folder_for(f"file://{root}", "sub/nb.ipynb") == f"{root}/sub"
    assert folder_for("memory://files", "sub/nb.ipynb") is None
    assert folder_for(f"{root}/nowhere", "nb.ipynb") is None
