from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.front_ends import FrontEnd, eventually, front_end, jupyter_engine, results


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with jupyter_engine(tmp_path_factory.mktemp("sessions")) as engine:
        yield engine


@pytest.fixture
async def front(engine: Any) -> AsyncIterator[FrontEnd]:
    async with front_end(engine) as front:
        yield front


def notebook(path: str, **kernel: str) -> dict[str, Any]:
    return {"path": path, "type": "notebook", "name": path.rpartition("/")[2], "kernel": kernel or {"name": "dcengine"}}


async def test_a_path_has_one_session_whoever_asks_and_however_often(front: FrontEnd) -> None:
    asked = [front.ask("POST", "/api/sessions", notebook("not/there-jvsc-1.ipynb")) for _ in range(3)]
    answers = await asyncio.gather(*asked)
    _, session = answers[0]

    assert {status for status, _ in answers} == {201}
    assert {model["id"] for _, model in answers} == {session["id"]}
    assert set(session) == {"id", "path", "name", "type", "kernel", "notebook"}
    assert (session["path"], session["name"]) == ("not/there-jvsc-1.ipynb", "there-jvsc-1.ipynb")
    assert (await front.ask("GET", f"/api/sessions/{session['id']}"))[1]["kernel"]["id"] == session["kernel"]["id"]
    assert [known["id"] for known in (await front.ask("GET", "/api/sessions"))[1]] == [session["id"]]
    assert [known["id"] for known in (await front.ask("GET", "/api/kernels"))[1]] == [session["kernel"]["id"]]

    assert await front.ask("DELETE", f"/api/sessions/{session['id']}") == (204, "")
    assert (await front.ask("GET", "/api/kernels"))[1] == []
    assert (await front.ask("GET", f"/api/sessions/{session['id']}"))[0] == 404
    assert (await front.ask("DELETE", f"/api/sessions/{session['id']}"))[0] == 404


async def test_a_session_is_renamed_and_given_another_kernel(front: FrontEnd) -> None:
    _, session = await front.ask("POST", "/api/sessions", notebook("a.ipynb"))
    address, first = f"/api/sessions/{session['id']}", session["kernel"]["id"]

    status, renamed = await front.ask("PATCH", address, {"path": "b/c.ipynb", "name": "c", "type": "file"})
    assert status == 200
    assert (renamed["path"], renamed["name"], renamed["type"]) == ("b/c.ipynb", "c", "file")
    assert renamed["kernel"]["id"] == first

    _, changed = await front.ask("PATCH", address, {"kernel": {"name": "python3"}})
    assert changed["kernel"]["name"] == "python3"
    assert (await front.ask("GET", f"/api/kernels/{first}"))[0] == 404

    assert (await front.ask("PATCH", address, {"kernel": {"id": "moon"}}))[0] == 404
    assert (await front.ask("PATCH", address, {"kernel": {"name": "moon"}}))[0] == 501
    assert (await front.ask("GET", address))[1]["kernel"]["id"] == changed["kernel"]["id"]
    await front.ask("DELETE", address)


async def test_a_session_ends_with_its_kernel_and_two_may_share_one(front: FrontEnd) -> None:
    _, one = await front.ask("POST", "/api/sessions", notebook("one.ipynb"))
    kernel = one["kernel"]["id"]
    _, two = await front.ask("POST", "/api/sessions", notebook("two.ipynb", id=kernel))
    assert two["kernel"]["id"] == kernel
    assert two["id"] != one["id"]

    await front.ask("DELETE", f"/api/sessions/{one['id']}")
    assert (await front.ask("GET", f"/api/kernels/{kernel}"))[0] == 200

    await front.ask("DELETE", f"/api/kernels/{kernel}")
    assert (await front.ask("GET", "/api/sessions"))[1] == []


async def test_an_unknown_kernel_is_501_with_both_messages(front: FrontEnd) -> None:
    status, said = await front.ask("POST", "/api/sessions", notebook("x.ipynb", name="moon"))

    assert status == 501
    assert "'moon'" in said["message"]
    assert said["short_message"]


@pytest.mark.parametrize(
    "body", [{}, {"path": 3}, {"path": "a\0b"}, {"path": "x" * 5000}, {"path": "a", "kernel": []}, []]
)
async def test_a_session_that_cannot_be_is_refused_before_a_kernel_is_started(front: FrontEnd, body: Any) -> None:
    status, said = await front.ask("POST", "/api/sessions", body)

    assert (status, "message" in said) == (400, True)
    assert (await front.ask("GET", "/api/kernels"))[1] == []


async def test_what_vs_code_asks_is_answered_as_it_wants_it(engine: Any, front: FrontEnd) -> None:
    """In the order in which a real one was seen to ask."""
    async with front_end(engine, token="") as stranger:
        for path in ("/", "/tree", "/hub/api", "/nbextensions/jupyter-js-widgets/extension.js"):
            assert (await stranger.ask("GET", path, allow_redirects=False))[0] in (200, 403, 404)
    listing = ("/api/kernelspecs", "/api/kernels", "/api/kernels", "/api/sessions", "/api/kernelspecs")
    answers = await asyncio.gather(*(front.ask("GET", path) for path in listing * 3))
    assert {status for status, _ in answers} == {200}
    assert answers[0][1]["default"] == "dcengine"

    status, session = await front.ask("POST", "/api/sessions", notebook("my-jvsc-0123-4567.ipynb"))
    assert status == 201
    kernel, own = session["kernel"]["id"], "vscode-session"
    async with front.channels(kernel, own) as channels:
        info = await channels.send("kernel_info_request", {})
        hidden = [await channels.execute(f"_hidden = {number}", store_history=False) for number in range(4)]
        await channels.send("complete_request", {"code": "prin", "cursor_pos": 4})
        await channels.send("create_subshell_request", {}, "control")
        cell = await channels.execute("_hidden")
        for request in (*hidden, info):
            assert await channels.finish(request)
        said = await channels.finish(cell)
        assert results(said) == ["3"]
        request = await channels.execute("import time\nfor n in range(3): print(n, flush=True); time.sleep(0.2)")
        await channels.hear(lambda message: "0" in str(message["content"].get("text")))

    # The connection is cut, and VS Code comes back under the same session id.
    async with front.channels(kernel, own) as again:
        said = await again.finish(request)
        assert "".join(m["content"].get("text", "") for m in said).endswith("2\n")
        restarted, model = await front.ask("POST", f"/api/kernels/{kernel}/restart")
        assert (restarted, model["id"]) == (200, kernel)
    async with front.channels(kernel, own) as after:
        assert results(await after.run("1 + 1")) == ["2"]
        await after.execute("import time; time.sleep(60)")
        await eventually(lambda: _state_is(front, kernel, "busy"))
        assert (await front.ask("POST", f"/api/kernels/{kernel}/interrupt"))[0] == 204
        await eventually(lambda: _state_is(front, kernel, "idle"))
    # A page loaded again finds its kernel in the list, and comes under another session id.
    assert (await front.ask("GET", "/api/sessions"))[1][0]["kernel"]["id"] == kernel
    async with front.channels(kernel, "another") as reloaded:
        assert results(await reloaded.run("2 + 2")) == ["4"]
    await front.ask("DELETE", f"/api/sessions/{session['id']}")


async def _state_is(front: FrontEnd, kernel: str, state: str) -> bool:
    return bool((await front.ask("GET", f"/api/kernels/{kernel}"))[1]["execution_state"] == state)
