"""How ``serve`` starts, announces and ends an engine, and how ``join`` refuses; the engine itself is a double."""

from __future__ import annotations

import gc
import json
import os
import shlex
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dcengine.cli import app, serving
from dcengine.errors import DatabaseOwned

Opened = list["EmbeddedDouble"]


class EmbeddedDouble:
    """An engine that only notes what is done with it."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.db = settings["db"]
        self.url = "http://127.0.0.1:1/?token=T"
        self.token = "T"
        self.scheduler_address = "tls://127.0.0.1:2"
        self.life: list[str] = []
        self.finished: Any = threading.Event()
        self.failure: Any = None

    answers_front_ends = True
    ports: dict[str, str] = {}

    def start(self) -> None:
        self.life.append("start")

    def close(self) -> None:
        self.life.append("close")


class Meanwhile:
    """Something to wait for; waiting does *act*, which ends the wait."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def wait(self, _: float) -> None:
        self._act()
        assert not threading.Event().wait(20), "nothing ended the wait"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    """Put the double behind `dcengine.embed`; return the engines that were made. They are finished at once."""
    made: Opened = []

    def make(**settings: Any) -> EmbeddedDouble:
        made.append(EmbeddedDouble(**settings))
        made[-1].finished.set()
        return made[-1]

    monkeypatch.setattr("dcengine.embed.EmbeddedEngine", make)
    monkeypatch.chdir(tmp_path)
    return made


def test_serve_prints_its_url_and_the_line_that_joins_a_worker(opened: Opened) -> None:
    result = CliRunner().invoke(app, ["serve", "--db", "work.db"])

    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "http://127.0.0.1:1/?token=T" in lines
    (joining,) = [line for line in lines if line.startswith("dcengine join ")]
    assert shlex.split(joining)[2] == "http://127.0.0.1:1/?token=T"
    assert opened[0].life == ["start", "close"]


def test_json_is_exactly_one_line(opened: Opened) -> None:
    result = CliRunner().invoke(app, ["serve", "--db", "work.db", "--json"])

    (line,) = result.stdout.splitlines()
    assert json.loads(line) == {
        "url": "http://127.0.0.1:1/?token=T",
        "token": "T",
        "scheduler": "tls://127.0.0.1:2",
        "db": "work.db",
        "pid": os.getpid(),
    }


def test_ports_of_old_protocols_are_told(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedDouble, "ports", {"p2p": "127.0.0.1:9000"})

    told = [CliRunner().invoke(app, ["serve", "--db", "work.db", *more]).stdout for more in ([], ["--json"])]

    assert "speak p2p at 127.0.0.1:9000, without a token" in told[0]
    assert json.loads(told[1])["ports"] == {"p2p": "127.0.0.1:9000"}


def test_flags_reach_the_engine(opened: Opened) -> None:
    CliRunner().invoke(
        app,
        [
            *("serve", "--db", "work.db", "--host", "0.0.0.0", "--port", "0", "--workers", "2", "--insecure"),
            *("--worker-tags", "cpu; gpu,site=lab", "--cluster-host", "10.0.0.1", "--idle-exit", "5"),
            *("--blobs", "memory://values"),
            *("--allow-host", "a.example", "--allow-host", "b.example", "--threads"),
            *("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "127.0.0.1", "--prefix", "/farm"),
            *("--max-connections", "50", "--open-metrics", "--log-format", "json", "--log-level", "info"),
            *("--volunteer-rate", "5", "--volunteer-body-limit", "1000", "--private-webhooks"),
            *("--protocol-port", "p2p=9000", "--protocol-port", "other=[::1]:9001"),
            *("--no-kernels", "--files", "books", "--kernel-idle", "0", "--kernel-tags", "gpu; site=lab"),
        ],
    )

    assert opened[0].settings == {
        "db": "work.db",
        "host": "0.0.0.0",
        "port": 0,
        "workers": 2,
        "worker_tags": ["cpu", "gpu,site=lab"],
        "scheduler": None,
        "cluster_host": "10.0.0.1",
        "cluster_share": 0.5,
        "pilot_idle": 30.0,
        "worker_lease": 30.0,
        "output_limit": 16 << 20,
        "session_idle": 3600.0,
        "worker_values": 8 << 30,
        "grace": 1.0,
        "processes": False,
        "blobs": "memory://values",
        "idle_exit": 5.0,
        "allow_hosts": ["a.example", "b.example"],
        "trusted_proxies": ["10.0.0.0/8", "127.0.0.1"],
        "prefix": "/farm",
        "max_connections": 50,
        "open_metrics": True,
        "volunteer_rate": 5.0,
        "volunteer_body_limit": 1000,
        "protocol_ports": ["p2p=9000", "other=[::1]:9001"],
        "private_webhooks": True,
        "kernels": False,
        "files": "books",
        "kernel_idle": None,
        "kernel_tags": ["gpu", "site=lab"],
        "tls_cert": None,
        "tls_key": None,
        "insecure": True,
    }


def test_without_flags_the_engine_chooses_its_workers(opened: Opened) -> None:
    CliRunner().invoke(app, ["serve"])

    assert "workers" not in opened[0].settings
    assert opened[0].settings["port"] == 8787


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_engine_and_ends_well(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(
        EmbeddedDouble,
        "start",
        lambda self: setattr(self, "finished", Meanwhile(lambda: os.kill(os.getpid(), number))),
    )

    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 0
    assert "jobs are kept" in result.stderr
    assert opened[0].life == ["close"]
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_disturb_the_closing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(self: EmbeddedDouble) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        self.life.append("closed")

    monkeypatch.setattr(EmbeddedDouble, "close", close)
    monkeypatch.setattr(
        EmbeddedDouble,
        "start",
        lambda self: setattr(self, "finished", Meanwhile(lambda: os.kill(os.getpid(), signal.SIGINT))),
    )

    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 0
    assert opened[0].life == ["closed"]


def test_a_file_that_is_owned_is_a_paragraph_and_status_75(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: EmbeddedDouble) -> None:
        raise DatabaseOwned("work.db", 42, "http://127.0.0.1:1")

    monkeypatch.setattr(EmbeddedDouble, "start", start)

    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 75
    assert "process 42" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "99999"),
        ("--idle-exit", "-1"),
        ("--workers", "-2"),
        ("--tls-cert", "only.pem"),
        ("--log-format", "xml"),
        ("--log-level", "loud"),
        ("--max-connections", "0"),
    ],
)
def test_impossible_settings_are_refused_before_anything_starts(opened: Opened, arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["serve", *arguments])

    assert result.exit_code == 1
    assert "expected" in result.stderr
    assert opened == []


def test_join_refuses_wrong_tags_and_slots() -> None:
    wrong_tags = CliRunner().invoke(app, ["join", "http://127.0.0.1:1/?token=T", "--tags", "gpu=(("])
    no_slots = CliRunner().invoke(app, ["join", "http://127.0.0.1:1/?token=T", "--slots", "0"])

    assert wrong_tags.exit_code == 1
    assert "Traceback" not in wrong_tags.output
    assert no_slots.exit_code == 2


def test_garbage_is_put_away_however_few_objects_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GARBAGE_SECONDS", 0.01)
    finished = threading.Event()

    class Circle:
        def __init__(self) -> None:
            self.itself = self

    gc.disable()
    try:
        gone = weakref.ref(Circle(), lambda _: finished.set())
        late = threading.Timer(20.0, finished.set)
        late.start()
        serving._tidy_until(finished)
        late.cancel()
    finally:
        gc.enable()

    assert gone() is None
