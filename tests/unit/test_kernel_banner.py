"""What the kernel's banner says of the engine in use: from files and settings alone, in no time, and no secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import dcengine
from dcengine import api, owner
from dcengine.owner import Lock
from dcengine_kernel.banner import banner, engine
from tests.engines import serving

SHELL = SimpleNamespace(extension_manager=SimpleNamespace(loaded={"dcengine"}))
SHELL_WITHOUT = SimpleNamespace(extension_manager=SimpleNamespace(loaded=set()))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and a front that nobody has told anything."""
    monkeypatch.chdir(tmp_path)
    for name in ("DCENGINE_URL", "DCENGINE_TOKEN", "DCENGINE_DB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(api, "front", api.Front())
    monkeypatch.setattr(owner, "_start", None)  # nothing may be started
    return tmp_path


def test_it_says_that_the_first_job_starts_an_engine(folder: Path) -> None:
    assert engine() == f"no engine runs for {folder / 'dcengine.db'} yet; the first job starts one"
    assert list(folder.iterdir()) == []


def test_it_names_the_owner_of_the_file_without_its_token(folder: Path) -> None:
    lock = Lock(folder / "dcengine.db")
    starting = engine()
    lock.say("http://127.0.0.1:8787/")
    running = engine()
    lock.release()

    assert "starting or stopping" in starting
    assert running == f"the engine of {folder / 'dcengine.db'} at http://127.0.0.1:8787/ (process {os.getpid()})"
    assert "no engine runs" in engine()


@pytest.mark.parametrize(
    "url",
    ["http://lab:8787/?token=secret", "http://lab:8787/", "http://me:secret@lab:8787/", "http://lab:8787/#secret"],
)
def test_it_names_the_engine_of_the_settings_without_its_token(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCENGINE_URL", url)
    monkeypatch.setenv("DCENGINE_TOKEN", "secret")

    assert engine() == "the engine at http://lab:8787/"


def test_a_file_named_in_the_program_goes_before_the_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCENGINE_URL", "http://lab:8787/")
    api.front.use_db(folder / "other.db")

    assert engine() == f"no engine runs for {folder / 'other.db'} yet; the first job starts one"


def test_an_engine_asked_for_by_name_goes_before_the_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCENGINE_URL", "http://lab:8787/")
    with serving(folder / "farm.db", workers=0) as (_, told):
        url = str(told["url"])
        api.front.connect(url, None)

        assert engine() == f"the engine at {url.partition('?')[0]}"
        api.front.forget()


def test_what_is_wrong_with_the_settings_is_told(folder: Path) -> None:
    (folder / "dcengine.toml").write_text("workers = 'many'\n")

    assert "workers" in engine()
    assert "\n" not in banner(SHELL)


@pytest.mark.parametrize("url", ["http://me:secret@[lab/", "http://me:secret@la\u2100b/"])
def test_an_address_that_cannot_be_read_is_told_without_its_secrets(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCENGINE_URL", url)

    assert engine() == "the engine at an address that cannot be read"


def test_settings_that_are_no_text_are_told(folder: Path) -> None:
    (folder / "dcengine.toml").write_bytes(b"db = '\xff'")

    assert banner(SHELL)


def test_what_would_steer_a_terminal_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "find_owner", lambda db: None)
    monkeypatch.setenv("DCENGINE_DB", "/tmp/\x1b[31mred.db")

    assert "\x1b" not in banner(SHELL)
    assert "\\x1b[31mred.db" in banner(SHELL)


def test_a_missing_extension_is_told() -> None:
    assert banner(SHELL).startswith(f"dcengine {dcengine.__version__}: ")
    assert "%load_ext dcengine" not in banner(SHELL)
    assert "%load_ext dcengine" in banner(SHELL_WITHOUT)


def test_it_loads_neither_the_network_nor_the_store() -> None:
    script = (
        "import sys, dcengine_kernel.banner as banner\nbanner.engine()\n"
        "print({'aiohttp', 'cloudpickle', 'dask', 'dcengine.api', 'dcengine.store', 'ipywidgets'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert answer.stdout == "set()\n", answer.stderr
