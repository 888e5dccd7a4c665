"""What front ends can have too much of, and kernels that do not do what kernels do: nobody else is held up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from dcengine_kernel.endpoint import jupyter_sessions, kernels, links
from tests.engines import children_with
from tests.front_ends import (
    UPGRADE,
    V1,
    FrontEnd,
    ask,
    eventually,
    front_end,
    jupyter_engine,
    results,
    text_of,
    v1_frame,
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with jupyter_engine(tmp_path_factory.mktemp("attacked")) as engine:
        yield engine


@pytest.fixture(scope="module")
def kernel(engine: Any) -> str:
    """A kernel of the administrator; each test leaves it idle."""
    return str(ask(engine, "/api/kernels", {})["id"])


@pytest.fixture
async def admin(engine: Any) -> AsyncIterator[FrontEnd]:
    async with front_end(engine) as admin:
        yield admin


# ---- too much of something -----------------------------------------------------------------


class Raw:
    """A websocket of a kernel, byte by byte; it takes nothing unless told to."""

    def __init__(self, engine: Any, kernel: str, protocol: str = V1) -> None:
        address, _, token = engine.url.partition("/?token=")
        place = urlsplit(address)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(20)
        self.socket.connect((place.hostname, place.port))
        lines = [f"{name}: {value}" for name, value in {
            **UPGRADE, "Host": place.netloc, "Authorization": f"token {token}", "Sec-WebSocket-Protocol": protocol,
        }.items()]  # fmt: skip
        self.socket.sendall("\r\n".join([f"GET /api/kernels/{kernel}/channels HTTP/1.1", *lines, "", ""]).encode())
        assert self.socket.recv(12) == b"HTTP/1.1 101"

    def send(self, opcode: int, body: bytes, *, length: int | None = None) -> None:
        """Send a frame, which says that it has *length* bytes if that is not what it has."""
        size = len(body) if length is None else length
        self.socket.sendall(bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big") + bytes(4) + body)

    def has_ended(self) -> bool:
        """Tell whether the other side hangs up, within the time that it may take."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True


EXECUTE = b'{"code":"%s","silent":false,"store_history":false,"user_expressions":{},"allow_stdin":false}'


def execution(code: str) -> bytes:
    """Return a frame that has *code* run."""
    header = b'{"msg_id":"1","msg_type":"execute_request","session":"raw","username":"","version":"5.3","date":""}'
    return v1_frame(b"shell", header, b"{}", b"{}", EXECUTE % code.encode())


async def test_a_kernel_ends_at_once_under_a_front_end_that_takes_nothing(engine: Any, admin: FrontEnd) -> None:
    _, model = await admin.ask("POST", "/api/kernels", {})
    raw = await asyncio.to_thread(Raw, engine, model["id"])
    raw.send(2, execution("for n in range(200): print('x' * 10**5)"))
    async with admin.channels(model["id"]) as watching:
        await watching.run("1")

    began = time.monotonic()
    assert (await admin.ask("DELETE", f"/api/kernels/{model['id']}"))[0] == 204
    assert time.monotonic() - began < 15
    assert await asyncio.to_thread(raw.has_ended)


@pytest.mark.parametrize(
    ("opcode", "body", "length"),
    [(2, b"", 1 << 30), (2, b"", 2**63 - 1), (9, b"x" * 126, None), (3, b"moon", None), (0, b"moon", None)],
    ids=["a GiB", "all there is", "a large ping", "no opcode", "the rest of nothing"],
)
async def test_a_frame_that_cannot_be_ends_its_websocket_alone(
    engine: Any, admin: FrontEnd, kernel: str, opcode: int, body: bytes, length: int | None
) -> None:
    raw = await asyncio.to_thread(Raw, engine, kernel)
    raw.send(opcode, body, length=length)

    assert await asyncio.to_thread(raw.has_ended)
    async with admin.channels(kernel) as channels:
        assert results(await channels.run("1 + 1")) == ["2"]


async def test_a_flood_of_pings_and_half_a_frame_hold_nobody_up(engine: Any, admin: FrontEnd, kernel: str) -> None:
    half, flood = await asyncio.to_thread(Raw, engine, kernel), await asyncio.to_thread(Raw, engine, kernel)
    half.send(2, b"moon", length=1 << 20)
    ping = bytes((0x89, 0x80)) + bytes(4)

    flooding = asyncio.to_thread(flood.socket.sendall, ping * 100_000)
    sent = asyncio.ensure_future(flooding)
    async with admin.channels(kernel) as channels:
        assert results(await channels.run("1 + 1")) == ["2"]
    flood.socket.shutdown(socket.SHUT_RDWR)
    await asyncio.wait([sent])
    sent.exception()
    half.socket.close()


async def test_there_are_no_more_kernels_sessions_and_front_ends_than_may_be(
    admin: FrontEnd, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MOST_KERNELS", 1)
    monkeypatch.setattr(kernels, "most_front_ends", lambda: 1)
    monkeypatch.setattr(jupyter_sessions, "MOST_SESSIONS", 1)
    asked = {"path": "a.ipynb", "kernel": {"id": kernel}}

    refused, too_many = await admin.ask("POST", "/api/kernels", {})
    (first, _), (again, _), (second, told) = [
        await admin.ask("POST", "/api/sessions", {**asked, **more}) for more in ({}, {}, {"path": "b.ipynb"})
    ]
    async with admin.channels(kernel, "first"):
        websocket, full = await admin.ask("GET", f"/api/kernels/{kernel}/channels", headers=UPGRADE)
        async with admin.channels(kernel, "first") as back:
            assert results(await back.run("1 + 1")) == ["2"]

    assert (refused, too_many["message"]) == (429, "there are 1 kernels, as many as may be: end some that are idle")
    assert (first, again, second) == (201, 201, 429), told
    assert (websocket, full["message"][:21]) == (503, "1 front ends are conn")


ODD = {"NUL": "a\0b", "half a character": "\ud800", "long": "a" * 5000}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
async def test_texts_that_cannot_be_are_refused_before_a_kernel_starts(admin: FrontEnd, kernel: str, text: str) -> None:
    asked = [
        ("/api/kernels", {"path": text}),
        ("/api/sessions", {"path": text, "kernel": {"id": kernel}}),
        ("/api/sessions", {"path": "odd.ipynb", "name": text, "kernel": {"id": kernel}}),
        ("/api/sessions", {"path": "odd.ipynb", "type": text, "kernel": {"id": kernel}}),
    ]

    assert [(await admin.ask("POST", path, body))[0] for path, body in asked] == [400] * len(asked)
    assert [known["id"] for known in (await admin.ask("GET", "/api/kernels"))[1]] == [kernel]


async def test_more_than_can_be_passed_on_at_once_is_left_out_and_told(
    admin: FrontEnd, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "LARGEST_PRINT", 1 << 20)
    async with admin.channels(kernel) as channels:
        said = await channels.run("print('x' * 10**6); import sys; sys.stdout.flush()\nprint('y' * 3_000_000)\n'z'")

    assert text_of(said).count("x") == 10**6
    assert "2.9 MiB that were printed at once are missing here" in text_of(said)
    assert results(said) == ["'z'"]


# ---- kernels that do not do what kernels do --------------------------------------------------


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    """Have there be a kernelspec `odd` whose process is *command*."""
    spec = {"argv": list(command), "display_name": "odd", "language": "python"}
    (folder / "kernels" / "odd").mkdir(parents=True)
    (folder / "kernels" / "odd" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))


async def test_a_kernel_that_never_speaks_is_ended_and_told(
    admin: FrontEnd, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, "sleep", "123456.5")
    monkeypatch.setattr("dcengine_kernel.endpoint.kernel.START_SECONDS", 0.5)

    status, told = await admin.ask("POST", "/api/kernels", {"name": "odd"})

    assert (status, told["reason"]) == (500, "it said nothing within 0.5 s")
    assert [known["id"] for known in (await admin.ask("GET", "/api/kernels"))[1]] == [kernel]
    assert not children_with("123456.5")


async def test_what_a_kernel_has_started_goes_with_it(admin: FrontEnd) -> None:
    shell = "trap : TERM INT; while :; do sleep 1; done"
    code = f"import os, subprocess; os.getpid(), subprocess.Popen({shell!r}, shell=True).pid"

    async def is_gone(pid: str) -> bool:
        return not psutil.pid_exists(int(pid))

    _, model = await admin.ask("POST", "/api/kernels", {})
    async with admin.channels(model["id"]) as channels:
        own, child = results(await channels.run(code))[0].strip("()").split(", ")
        os.kill(int(own), signal.SIGKILL)
        await channels.hear(lambda message: message["content"].get("execution_state") == "restarting")
        await eventually(lambda: is_gone(child))
        _, child = results(await channels.run(code))[0].strip("()").split(", ")
    await admin.ask("DELETE", f"/api/kernels/{model['id']}")

    await eventually(lambda: is_gone(child))


async def test_a_kernel_that_stands_still_can_be_ended_and_holds_nobody_up(admin: FrontEnd, kernel: str) -> None:
    _, model = await admin.ask("POST", "/api/kernels", {})
    async with admin.channels(model["id"]) as still, admin.channels(kernel) as other:
        (pid,) = results(await still.run("import os; os.getpid()"))
        os.kill(int(pid), signal.SIGSTOP)
        for _ in range(2000):
            await still.execute("pass")
        assert results(await other.run("1 + 1")) == ["2"]
        assert (await admin.ask("POST", f"/api/kernels/{model['id']}/interrupt"))[0] == 204
        began = time.monotonic()
        assert (await admin.ask("DELETE", f"/api/kernels/{model['id']}"))[0] == 204

    assert time.monotonic() - began < 20
    assert not psutil.pid_exists(int(pid))


async def test_large_files_that_never_come_to_an_end_leave_room_for_small_ones(engine: Any, admin: FrontEnd) -> None:
    address, _, token = engine.url.partition("/?token=")
    place = urlsplit(address)
    small = {"type": "file", "format": "text", "content": "moon"}
    trickling = []
    for number in range(2):
        sender = socket.create_connection((place.hostname, place.port))
        lines = [f"PUT /api/contents/{number} HTTP/1.1", f"Host: {place.netloc}", f"Authorization: token {token}"]
        sender.sendall("\r\n".join([*lines, f"Content-Length: {512 << 20}", "", "{"]).encode())
        trickling.append(sender)

    async def is_full() -> bool:
        status, told = await admin.ask("PUT", "/api/contents/large", {**small, "content": "x" * (17 << 20)})
        return status == 503 and "in pieces" in told["message"]

    await eventually(is_full)
    assert (await admin.ask("PUT", "/api/contents/small", small))[0] in (200, 201)
    for sender in trickling:
        sender.close()
