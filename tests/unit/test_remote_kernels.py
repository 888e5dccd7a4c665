"""A kernel on a worker, piece by piece: who is let in, what its process is given, and which address is told."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from dcengine.errors import DcengineError, InvalidOption
from dcengine_kernel import provisioner
from dcengine_kernel.errors import KernelDied, KernelNotStarted, NobodyConnected
from dcengine_kernel.remote import hosting, places
from dcengine_kernel.remote.line import Asker, AskerEnd, HostEnd, Ping, Pong, Where
from dcengine_kernel.remote.process import environment, reachable_engine, remove_leftovers


def new_asker(key: str) -> Asker:
    return Asker(key, places.machine(), "")


# ---- the line ------------------------------------------------------------------------------


async def test_the_one_who_asked_is_let_in_and_answered() -> None:
    with closing(AskerEnd()) as asker, HostEnd("127.0.0.1", asker.key) as host:
        asker.connect(host.where)
        await asker.send(Ping())
        heard = await asyncio.to_thread(host.receive, 10.0)
        host.send(Pong())

        assert (heard, await asker.receive()) == (Ping(), Pong())


async def test_who_has_another_key_is_not_heard() -> None:
    with closing(AskerEnd()) as asker, closing(AskerEnd()) as other, HostEnd("127.0.0.1", asker.key) as host:
        other.connect(host.where)
        await other.send(Ping())

        assert await asyncio.to_thread(host.receive, 0.5) is None


async def test_who_takes_the_hosts_place_hears_nothing() -> None:
    with closing(AskerEnd()) as asker, zmq.Context() as context, context.socket(zmq.ROUTER) as there:
        there.curve_publickey, there.curve_secretkey = zmq.curve_keypair()
        there.curve_server = True
        port = there.bind_to_random_port("tcp://127.0.0.1")
        asker.connect(Where("127.0.0.1", port, zmq.curve_keypair()[0].decode()))
        await asker.send(Ping())

        assert not await asyncio.to_thread(there.poll, 500)


def test_no_kernel_is_started_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the job of a vanished worker runs a second time."""
    monkeypatch.setattr(hosting, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(hosting, "KernelProcess", None)
    with pytest.raises(NobodyConnected, match="no kernel was started"):
        hosting.host(new_asker(zmq.curve_keypair()[0].decode()))


def test_threads_host_no_kernels() -> None:
    raised: list[BaseException] = []

    def host() -> None:
        try:
            hosting.host(new_asker("k"))
        except InvalidOption as error:
            raised.append(error)

    thread = threading.Thread(target=host)
    thread.start()
    thread.join()

    assert "worker processes" in str(raised[0])


# ---- its process ---------------------------------------------------------------------------


def test_its_environment_is_the_workers_with_the_engine_of_whoever_asked() -> None:
    worker = {"PATH": "/bin", "DCENGINE_TOKEN": "the worker's", "DCENGINE_DB": "theirs.db", "JPY_SESSION_NAME": "old"}

    made = environment(worker, {"DCENGINE_TOKEN": "mine", "KERNEL_NAME": "x"})

    assert made == {"PATH": "/bin", "DCENGINE_TOKEN": "mine", "KERNEL_NAME": "x", "JPY_PARENT_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("url", "joined", "seen"),
    [
        ("http://lab:8787/farm", "http://10.0.0.1:8787", "http://lab:8787/farm"),
        ("http://127.0.0.1:8787", "http://10.0.0.1:8787", "http://10.0.0.1:8787"),
        ("http://localhost:8787", "tcp://10.0.0.1:8786", None),
        ("http://127.0.0.1:8787", "", None),
    ],
)
def test_elsewhere_the_engine_is_where_that_machine_reaches_it(
    url: str, joined: str, seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.JOINED, joined)

    assert reachable_engine({"DCENGINE_URL": url}, same_machine=True) == {"DCENGINE_URL": url}
    assert reachable_engine({"DCENGINE_URL": url}, same_machine=False).get("DCENGINE_URL") == seen


def test_what_a_killed_host_left_is_removed_by_the_next_one_there(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, living, young = (
        tmp_path / f"dcengine-kernel-{pid}-x{n}" for n, pid in enumerate([gone.pid, os.getpid(), gone.pid])
    )
    for folder in (old, living, young):
        folder.mkdir()
    for folder in (old, living):
        os.utime(folder, (0, 0))
    remove_leftovers(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted([living, young])


# ---- places --------------------------------------------------------------------------------


def test_on_one_machine_the_loopback_does() -> None:
    assert places.address_for(places.machine(), "") == "127.0.0.1"


def test_another_machine_is_told_the_address_on_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "own_address", {"10.0.0.7": "10.0.0.9", "192.0.2.1": "10.0.0.8"}.get)
    monkeypatch.setenv(places.JOINED, "http://10.0.0.7:8787")

    assert places.address_for("another", "10.0.0.7") == "10.0.0.9"
    assert places.address_for("another", "") == "10.0.0.9"  # its engine is where it is
    monkeypatch.delenv(places.JOINED)
    assert places.address_for("another", "") == "10.0.0.8"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "a.localhost"])
def test_what_means_any_machine_is_known(host: str) -> None:
    assert places.is_loopback(host)
    assert not places.own_address(host) or ":" in host


def test_an_address_that_nobody_finds_is_none() -> None:
    assert places.own_address("no.such.host.invalid") == ""
    assert not places.is_loopback(socket.gethostname() + ".example")


# ---- starting ------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "limit"), [("40", 38.0), ("", 60.0), ("soon", 60.0), ("600", 60.0), ("1", 1.0)])
def test_it_answers_before_whoever_asks_gives_up(said: str, limit: float) -> None:
    assert provisioner.limit_in({"KERNEL_LAUNCH_TIMEOUT": said}, 60.0) == limit


async def test_the_engine_is_the_one_that_the_kernels_environment_names(tmp_path: Path) -> None:
    client = await provisioner.client_for({"DCENGINE_URL": "http://lab:8787/?token=t"}, str(tmp_path))

    assert (client.url, client.token) == ("http://lab:8787/", "t")


def test_a_jupyter_that_cannot_encrypt_gets_no_kernel() -> None:
    with pytest.raises(KernelNotStarted, match=r"jupyter_client>=8\.9"):
        provisioner.refuse_without_curve("gpu", object())


def test_errors_are_ours_and_say_what_happened() -> None:
    assert isinstance(KernelDied(-9), DcengineError)
    assert "signal 9" in str(KernelDied(-9))
    assert "status 3" in str(KernelDied(3))
