"""The suite for authors of protocols, against those that ship with dcengine; and how projects find theirs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import requests

import dcengine
from dcengine import protocols
from dcengine.errors import InvalidOption
from dcengine.protocols import Protocol
from dcengine.testing import ProtocolSuite, served
from tests.engines import embedded


class TestDistCompute(ProtocolSuite):
    name = "distcompute"


class TestP2p(ProtocolSuite):
    name = "p2p"


def test_a_project_with_an_unknown_protocol_is_refused_by_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with embedded(tmp_path / "x.db", workers=0, processes=False):
        project = dcengine.Project("laion", protocol="carrier-pigeon")
        project.lease_stage("a")

        with pytest.raises(InvalidOption, match=r"'carrier-pigeon'.*installed: .*distcompute"):
            project.add([1])


def test_a_protocol_that_cannot_be_loaded_is_refused_by_name_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib.metadata import EntryPoint

    broken = EntryPoint("broken", "dcengine_plugins.nowhere:protocol", protocols.GROUP)
    there = protocols.entry_points(group=protocols.GROUP)

    def found(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in [*there, broken] if name in (None, entry.name)]

    monkeypatch.setattr(protocols, "entry_points", found)

    with pytest.raises(InvalidOption, match=r"'broken'.*ModuleNotFoundError"):
        protocols.load("broken")
    assert isinstance(protocols.load("distcompute"), Protocol)
    with served("distcompute", is_open=True) as url:
        assert requests.get(f"{url}/", timeout=20).status_code == 200


def test_a_project_without_a_protocol_says_so_and_an_unknown_one_too(tmp_path: Path) -> None:
    with embedded(tmp_path / "x.db", workers=0, processes=False) as engine:
        plain = dcengine.Project("plain", is_open=True)
        plain.lease_stage("a")
        plain.add([1])
        base = engine.url.partition("/?")[0]

        answers = [requests.get(f"{base}/p/{name}/api/jobCount?stage=a", timeout=20) for name in ("plain", "nobody")]
        plain.cancel()

    assert [answer.status_code for answer in answers] == [404, 404]
    assert "speaks no protocol" in answers[0].text
    assert "no project 'nobody'" in answers[1].text


def test_what_the_protocol_says_of_lease_stages_holds_where_their_author_says_nothing(tmp_path: Path) -> None:
    with embedded(tmp_path / "x.db", workers=0, processes=False):
        project = dcengine.Project("laion", protocol="distcompute", is_open=True)
        project.lease_stage("a")
        project.lease_stage("b", lease_seconds="1h", votes=2)
        project.add([1])
        project.cancel()

    with closing(sqlite3.connect(tmp_path / "x.db")) as file:
        stages = file.execute(
            "SELECT lease_seconds, votes FROM stage WHERE kind = 'lease' ORDER BY position"
        ).fetchall()
    assert stages == [(7200.0, 5), (3600.0, 2)]


def test_importing_dcengine_loads_no_protocol() -> None:
    code = "import sys, dcengine; print([name for name in sys.modules if name.startswith('dcengine_plugins')])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert answer.stdout.strip() == "[]", answer.stderr
