from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from dcengine_kernel.endpoint import buffers
from tests.front_ends import (
    V1,
    FrontEnd,
    ask,
    eventually,
    front_end,
    jupyter_engine,
    kinds,
    results,
    text_of,
    v1_frame,
)

FRAMINGS = pytest.mark.parametrize("framing", [V1, None], ids=["v1", "legacy"])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with jupyter_engine(tmp_path_factory.mktemp("channels")) as engine:
        yield engine


@pytest.fixture(scope="module")
def kernel(engine: Any) -> str:
    """A kernel that the tests of this module share; each leaves it idle."""
    return str(ask(engine, "/api/kernels", {})["id"])


@pytest.fixture
async def front(engine: Any) -> AsyncIterator[FrontEnd]:
    async with front_end(engine) as front:
        yield front


@FRAMINGS
async def test_a_cell_runs_and_all_it_says_comes_in_order(front: FrontEnd, kernel: str, framing: str | None) -> None:
    async with front.channels(kernel, "order", framing=framing) as channels:
        assert channels.websocket.protocol == framing
        said = await channels.run("for n in range(500): print(n, flush=True)\n1 + 1")

    assert text_of(said) == "".join(f"{number}\n" for number in range(500))
    assert results(said) == ["2"]
    on_iopub = [message for message in said if message["channel"] == "iopub"]
    assert kinds(on_iopub)[:2] == ["status", "execute_input"]
    assert kinds(on_iopub)[-2:] == ["execute_result", "status"]
    assert kinds([message for message in said if message["channel"] == "shell"]) == ["execute_reply"]


@FRAMINGS
async def test_buffers_travel_both_ways(front: FrontEnd, kernel: str, framing: str | None) -> None:
    code = """
def echo(comm, opening):
    comm.on_msg(lambda message: comm.send({"n": len(message["buffers"])}, buffers=message["buffers"]))
get_ipython().kernel.comm_manager.register_target("echo", echo)
"""
    async with front.channels(kernel, framing=framing) as channels:
        await channels.run(code)
        await channels.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {}})
        given = (b"\0\xff" * 50_000, b"", b"moon")
        await channels.send("comm_msg", {"comm_id": "c1", "data": {}}, buffers=given)
        answer = await channels.hear(lambda message: message["header"]["msg_type"] == "comm_msg")

    assert answer["content"]["data"] == {"n": 3}
    assert tuple(bytes(buffer) for buffer in answer["buffers"]) == given


async def test_scripts_that_say_little_are_understood(front: FrontEnd, kernel: str) -> None:
    """As scripts in forums send it: no version, no channel, no date, the header once more as that of the parent."""
    async with front.channels(kernel, framing=None) as channels:
        header = {"msg_id": "from-a-forum", "msg_type": "execute_request", "username": "", "session": "s"}
        content = {"code": "6 * 7", "silent": False}
        await channels.websocket.send_json({"header": header, "parent_header": header, "content": content})

        assert results(await channels.finish("from-a-forum")) == ["42"]


async def test_input_is_asked_of_the_front_end_that_runs_the_cell(front: FrontEnd, kernel: str) -> None:
    async with front.channels(kernel) as channels, front.channels(kernel) as other:
        request = await channels.execute("input('who? ')", allow_stdin=True)
        asked = await channels.hear(lambda message: message["channel"] == "stdin")
        await channels.send("input_reply", {"value": "ada"}, "stdin")
        assert results(await channels.finish(request)) == ["'ada'"]
        await other.run("1")
        assert "stdin" not in {message["channel"] for message in other.heard}

    assert asked["content"]["prompt"] == "who? "


async def test_front_ends_see_each_others_cells_but_not_their_replies(front: FrontEnd, kernel: str) -> None:
    async with front.channels(kernel) as one, front.channels(kernel) as two:
        await two.run("1")
        request = await one.execute("6 * 7")
        await one.finish(request)
        await two.hear(lambda message: message["parent_header"].get("msg_id") == request and _is_idle(message))

    assert results(two.of(request)) == ["42"]
    assert "execute_reply" not in kinds(two.of(request))


def _is_idle(message: dict[str, Any]) -> bool:
    return bool(message["content"].get("execution_state") == "idle")


@FRAMINGS
async def test_what_is_said_while_a_front_end_is_away_is_there_when_it_is_back(
    front: FrontEnd, kernel: str, framing: str | None
) -> None:
    async with front.channels(kernel, "away", framing=framing) as channels:
        request = await channels.execute("import time; print('begun', flush=True); time.sleep(0.5); print('done'); 42")
        await channels.hear(lambda message: "begun" in str(message["content"].get("text")))
        channels.websocket._response.connection.transport.abort()  # type: ignore[union-attr]
    await eventually(lambda: _is_now(front, kernel, "idle"))

    async with front.channels(kernel, "away", framing=framing) as back:
        said = await back.finish(request)
    assert results(said) == ["42"]
    assert text_of(said).endswith("done\n")
    assert kinds(said)[-1] in ("status", "execute_reply")


async def _is_now(front: FrontEnd, kernel: str, state: str) -> bool:
    return bool((await front.ask("GET", f"/api/kernels/{kernel}"))[1]["execution_state"] == state)


async def test_more_than_is_kept_is_left_out_and_told(
    front: FrontEnd, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffers.Buffer.__init__, "__defaults__", (buffers.BYTES_AWAY, 100))
    async with front.channels(kernel, "much") as channels:
        request = await channels.execute("import time; time.sleep(0.5)\nfor n in range(1000): print(n, flush=True)")
        await channels.hear(lambda message: message["header"]["msg_type"] == "execute_input")
    await eventually(lambda: _is_now(front, kernel, "idle"))

    async with front.channels(kernel, "much") as back:
        said = await back.finish(request)
    assert len(said) < 500  # the last may come while it is there again
    assert "missing here" in text_of(said)
    assert text_of(said).endswith("999\n")


async def test_of_many_that_are_away_only_who_left_last_is_kept_much(
    front: FrontEnd, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine_kernel.endpoint.kernel.BYTES_AWAY", 500_000)
    names = ["first", "second", "third", "fourth"]
    async with front.channels(kernel, "here") as channels:
        for name in names:
            async with front.channels(kernel, name) as leaving:
                await leaving.run("1")
        await channels.run("for n in range(150): print('x' * 500, flush=True)")
        kept = []
        for name in reversed(names):
            async with front.channels(kernel, name) as back:
                await back.run("2")
                kept.append(text_of(back.heard).count("x"))
    assert kept[0] == 75_000
    assert max(kept[1:]) < 75_000


async def test_the_last_websocket_of_a_session_takes_over(front: FrontEnd, kernel: str) -> None:
    async with front.channels(kernel, "twice") as old, front.channels(kernel, "twice") as new:
        closing = await old.websocket.receive(timeout=20)
        assert results(await new.run("1 + 1")) == ["2"]
        assert (await front.ask("GET", f"/api/kernels/{kernel}"))[1]["connections"] == 1

    assert closing.type is aiohttp.WSMsgType.CLOSE
    assert closing.data not in (1000, 1001)


async def test_a_ping_is_answered(front: FrontEnd, kernel: str) -> None:
    async with front.channels(kernel, autoping=False) as channels:
        await channels.websocket.ping(b"moon")
        while (frame := await channels.websocket.receive(timeout=20)).type is not aiohttp.WSMsgType.PONG:
            pass

    assert frame.data == b"moon"


GARBAGE = {
    "text": ("moon", None),
    "bytes": (b"moon", None),
    "offsets": (struct.pack("<7Q", 6, 56, 60, 50, 2**63, 80, 90) + b" " * 60, V1),
    "text in v1": ("{}", V1),
    "a channel there is not": (v1_frame(b"moon", b'{"msg_id":"1","msg_type":"x"}', b"{}", b"{}", b"{}"), V1),
    "nested": ("[" * 10**6, None),
}


@pytest.mark.parametrize(("frame", "framing"), GARBAGE.values(), ids=GARBAGE)
async def test_garbage_closes_its_websocket_with_a_reason_and_nothing_else(
    front: FrontEnd, kernel: str, frame: str | bytes, framing: str | None
) -> None:
    async with front.channels(kernel, framing=framing) as channels, front.channels(kernel) as other:
        if isinstance(frame, str):
            await channels.websocket.send_str(frame)
        else:
            await channels.websocket.send_bytes(frame)
        while (closing := await channels.websocket.receive(timeout=20)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        assert results(await other.run("1 + 1")) == ["2"]

    assert closing.data == 1007
    assert "no message" in str(closing.extra)


async def test_a_message_that_the_kernel_cannot_read_leaves_it_alive(front: FrontEnd, kernel: str) -> None:
    async with front.channels(kernel) as channels:
        header = b'{"msg_id":"1","msg_type":"execute_request"}'
        await channels.websocket.send_bytes(v1_frame(b"shell", header, b"{}", b"{}", b"{moon}"))
        await channels.send("no_such_request", {})

        assert results(await channels.run("1 + 1")) == ["2"]


async def test_a_frame_above_the_limit_closes_its_websocket(
    front: FrontEnd, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine_kernel.endpoint.channels.LARGEST_FRAME", 1000)
    async with front.channels(kernel) as channels:
        await channels.websocket.send_bytes(b"x" * 5000)
        while (closing := await channels.websocket.receive(timeout=20)).type is not aiohttp.WSMsgType.CLOSE:
            pass

    assert closing.data == 1009


async def test_pages_of_others_and_wrong_names_do_not_get_in(front: FrontEnd, kernel: str) -> None:
    for headers in ({"Origin": "https://example.com"}, {"Host": "example.com"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with front.channels(kernel, headers=headers):
                pass
        assert refused.value.status == 403


async def test_websockets_of_a_kernel_that_is_ended_are_closed(front: FrontEnd) -> None:
    _, model = await front.ask("POST", "/api/kernels")
    async with front.channels(model["id"], framing=None) as channels:
        await channels.run("1")
        await front.ask("DELETE", f"/api/kernels/{model['id']}")
        states = []
        while (frame := await channels.websocket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
            states.append(frame.json()["content"].get("execution_state"))

    assert frame.type is aiohttp.WSMsgType.CLOSE
    assert frame.data != 1000
    assert states[-1] == "dead"


async def test_an_engine_that_stops_tells_front_ends_to_come_back(tmp_path: Any) -> None:
    with jupyter_engine(tmp_path) as engine:
        async with front_end(engine) as front:
            _, model = await front.ask("POST", "/api/kernels")
            async with front.channels(model["id"]) as channels:
                await channels.run("1")
                stopping = asyncio.get_running_loop().run_in_executor(None, engine.close)
                while (closing := await channels.websocket.receive(timeout=20)).type is not aiohttp.WSMsgType.CLOSE:
                    pass
            await stopping

    assert closing.data == 1012


async def test_many_websockets_get_all_that_is_said_in_order(front: FrontEnd, kernel: str) -> None:
    async def listen(name: str) -> str:
        async with front.channels(kernel, name) as channels:
            await channels.run("0")
            ready.release()
            return text_of(await _finished_elsewhere(channels, request))

    ready = asyncio.Semaphore(0)
    request: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listening = [asyncio.create_task(listen(f"listener {number}")) for number in range(8)]
    for _ in listening:
        await ready.acquire()
    async with front.channels(kernel) as channels:
        request.set_result(await channels.execute("for n in range(2000): print(n, flush=True)"))
        heard = await asyncio.gather(*listening)

    assert set(heard) == {"".join(f"{number}\n" for number in range(2000))}


async def _finished_elsewhere(channels: Any, request: asyncio.Future[str]) -> list[Any]:
    id = await request
    if not any(_is_idle(message) for message in channels.of(id)):
        await channels.hear(lambda message: message["parent_header"].get("msg_id") == id and _is_idle(message))
    found: list[Any] = channels.of(id)
    return found
