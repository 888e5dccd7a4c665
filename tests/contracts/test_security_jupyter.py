"""Who gets in at the Jupyter endpoint, for how long, and that nothing among its files acts in its name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from yarl import URL

from tests.front_ends import UPGRADE, Channels, FrontEnd, ask, front_end, jupyter_engine, results

OPEN = {("GET", "/tree"), ("GET", "/api"), ("GET", "/api/spec.yaml"), ("GET", "/kernelspecs/{name}/{file}")}
LOOKING = {("GET", "/api/status"), ("GET", "/api/me"), ("GET", "/api/terminals"), ("GET", "/api/running-kernels")}


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


async def made(admin: FrontEnd, role: str, **more: Any) -> tuple[int, str]:
    """Return the number of a new token, and the token."""
    status, told = await admin.ask("POST", "/v1/tokens", {"role": role, **more})
    assert status in (200, 201), told
    return told["status"]["id"], told["token"]


async def revoke(admin: FrontEnd, number: int) -> None:
    assert (await admin.ask("POST", f"/v1/tokens/{number}/revoke"))[0] == 200


async def routes_of(admin: FrontEnd) -> list[tuple[str, str]]:
    """Return the method and the path of each address that the endpoint describes."""
    _, told = await admin.ask("GET", "/api/spec.yaml")
    return [(method.upper(), path) for path, them in yaml.safe_load(told)["paths"].items() for method in them]


# ---- who gets in ---------------------------------------------------------------------------


async def test_every_address_admits_the_roles_that_suffice_and_no_other_token(engine: Any, admin: FrontEnd) -> None:
    await admin.ask("PUT", "/v1/projects/laion", {"stages": [{"name": "one", "kind": "lease"}]})
    number, revoked = await made(admin, "submit")
    await revoke(admin, number)
    _, expired = await made(admin, "submit", seconds=0.01)
    holders = {role: (await made(admin, role))[1] for role in ("view", "submit", "join", "admin")}
    bad = {"none": "", "wrong": "guess", "garbled": "\x80", "revoked": revoked, "expired": expired}
    routes = await routes_of(admin)

    wrong = []
    for who, token in {**holders, **bad}.items():
        async with front_end(engine, token=token) as front:
            for method, path in routes:
                needed = None if (method, path) in OPEN else "view" if (method, path) in LOOKING else "submit"
                may = (
                    needed is None
                    or who in {"view": ("view", "submit", "admin"), "submit": ("submit", "admin")}[needed]
                )
                headers = UPGRADE if path.endswith("/channels") else {}
                place = path.format(id="moon", path="moon", name="moon", file="moon")
                if may and (method, place) in (("POST", "/api/kernels"), ("POST", "/api/sessions")):
                    continue  # that starts a kernel
                status, told = await front.ask(method, place, headers=headers)
                if may is (status == 403) or (not may and "message" not in told):
                    wrong.append((who, method, path, status))

    assert len(routes) > 25
    assert wrong == []


PAGES = ["null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1.evil.example", "file://", "", "moon"]


@pytest.mark.parametrize("origin", PAGES, ids=[page or "empty" for page in PAGES])
async def test_pages_of_others_can_neither_write_nor_open_websockets(admin: FrontEnd, kernel: str, origin: str) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    writes = [route for route in await routes_of(admin) if route[0] not in ("GET", "HEAD")]
    places = [(method, path.format(id=kernel, path="moon")) for method, path in writes]

    refused = [(await admin.ask(*place, headers=headers))[0] for place in places]
    upgrade, _ = await admin.ask("GET", f"/api/kernels/{kernel}/channels", headers=headers | UPGRADE)
    kept_alive = {**headers, **UPGRADE, "Connection": "keep-alive, Upgrade"}  # as Firefox says it
    another, _ = await admin.ask("GET", f"/api/kernels/{kernel}/channels", headers=kept_alive)

    assert (set(refused), upgrade, another) == ({403}, 403, 403)
    assert (await admin.ask("GET", f"/api/kernels/{kernel}"))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "0", ""])
async def test_names_that_are_not_ours_reach_nothing(admin: FrontEnd, kernel: str, host: str) -> None:
    """Names that lead here all the same, as with DNS rebinding."""
    for path, more in (("/api/kernels", {}), ("/files/a", {}), (f"/api/kernels/{kernel}/channels", UPGRADE)):
        status, _ = await admin.ask("GET", path, headers={"Host": host, **more})
        assert status in (400, 403)


# ---- tokens that end ------------------------------------------------------------------------


async def test_a_websocket_ends_with_its_token(engine: Any, admin: FrontEnd) -> None:
    number, token = await made(admin, "submit")
    async with front_end(engine, token=token) as ada, front_end(engine) as other:
        _, model = await ada.ask("POST", "/api/kernels", {})
        async with ada.channels(model["id"]) as hers, other.channels(model["id"]) as watching:
            assert results(await hers.run("moon = 1; moon")) == ["1"]
            await revoke(admin, number)
            await hers.execute("moon = 2")

            assert await goodbye(hers) == (1008, "the token is wrong, expired or revoked")
            assert results(await watching.run("moon")) == ["1"]
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with ada.channels(model["id"]):
                pass
        assert (await admin.ask("DELETE", f"/api/kernels/{model['id']}"))[0] == 204


async def test_what_a_kernel_says_does_not_go_to_a_token_that_has_expired(engine: Any, admin: FrontEnd) -> None:
    _, token = await made(admin, "submit", seconds=2.0)
    async with front_end(engine, token=token) as ada:
        _, model = await ada.ask("POST", "/api/kernels", {})
        async with ada.channels(model["id"]) as hers:
            await hers.execute("import time\nwhile True: print('.', flush=True); time.sleep(0.05)")
            assert await goodbye(hers) == (1008, "the token is wrong, expired or revoked")
        assert (await admin.ask("DELETE", f"/api/kernels/{model['id']}"))[0] == 204


async def goodbye(channels: Channels) -> tuple[int, str]:
    """Wait until the other side closes its websocket; return why."""
    while (frame := await channels.websocket.receive(timeout=20)).type is not aiohttp.WSMsgType.CLOSE:
        assert not channels.websocket.closed
    return frame.data, str(frame.extra)


# ---- files ---------------------------------------------------------------------------------


HOSTILE = {
    "page.html": "<script src=/kernelspecs/dcengine/kernel.js></script>",
    "picture.svg": "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    "page.xhtml": "<html xmlns='http://www.w3.org/1999/xhtml'/>",
    "feed.xml": "<?xml-stylesheet href='a.xsl'?><a/>",
    "script.js": "1",
    "words.txt": "<script>1</script>",
    "unknown": "<html>",
    "a.pdf": "%PDF",
    'a";\u202e.html': "<b>",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_file_acts_as_a_page_of_ours(engine: Any, admin: FrontEnd, name: str) -> None:
    saved, _ = await admin.ask(
        "PUT", f"/api/contents/{quote(name)}", {"type": "file", "format": "text", "content": HOSTILE[name]}
    )
    address, _, token = engine.url.partition("/?token=")
    url = URL(f"{address}/files/{quote(name)}?token={token}", encoded=True)
    async with aiohttp.ClientSession() as browser, browser.get(url) as answer:
        headers, status = answer.headers, answer.status

    assert (saved, status) == (201, 200)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert headers["Content-Disposition"].startswith("attachment" if name != "words.txt" else "inline")
    assert headers["Content-Disposition"].isascii()
    assert headers["Content-Disposition"].count(";") == 1
    assert headers["Cache-Control"] == "no-store"
