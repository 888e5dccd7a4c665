from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.provisioning.local_provisioner import LocalPortCache

from dcengine_kernel.endpoint import kernel as kernels_here
from tests.engines import eventually as eventually_here
from tests.engines import gone, serving
from tests.front_ends import (
    FrontEnd,
    ask,
    eventually,
    front_end,
    jupyter_engine,
    results,
    text_of,
)

MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "deep/er").mkdir(parents=True)
    with jupyter_engine(folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def kernel(engine: Any) -> str:
    """A kernel that the tests of this module share; each leaves it idle."""
    return str(ask(engine, "/api/kernels", {})["id"])


def written_kernelspec(folder: Path, name: str, *command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a kernel that runs Python with *command*."""
    place = folder / "share/kernels" / name
    place.mkdir(parents=True)
    spec = {"argv": [sys.executable, *command], "display_name": name, "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share"))


async def processes_of(front: FrontEnd, kernel: str) -> list[psutil.Process]:
    async with front.channels(kernel) as channels:
        return [psutil.Process(int(results(await channels.run("import os; os.getpid()"))[0]))]


async def test_a_kernel_is_started_listed_and_ended(engine: Any) -> None:
    async with front_end(engine) as front:
        status, model = await front.ask("POST", "/api/kernels")
        one = await front.ask("GET", f"/api/kernels/{model['id']}")
        all = await front.ask("GET", "/api/kernels")
        process = await processes_of(front, model["id"])

        assert status == 201
        assert set(model) == {"id", "name", "last_activity", "execution_state", "connections"}
        assert (model["name"], model["execution_state"], model["connections"]) == ("dcengine", "idle", 0)
        assert datetime.now() - datetime.strptime(model["last_activity"], MOMENT) < timedelta(days=1)
        moment = {"last_activity": one[1]["last_activity"]}  # it may say something at any time
        assert one == (200, {**model, **moment})
        assert [{**each, **moment} for each in all[1] if each["id"] == model["id"]] == [one[1]]

        assert await front.ask("DELETE", f"/api/kernels/{model['id']}") == (204, "")
        assert (await front.ask("DELETE", f"/api/kernels/{model['id']}"))[0] == 404
        assert (await front.ask("GET", f"/api/kernels/{model['id']}"))[0] == 404
        assert model["id"] not in [known["id"] for known in (await front.ask("GET", "/api/kernels"))[1]]
        assert gone(process)


async def test_a_kernel_gets_the_id_it_is_to_have_and_says_where_it_is(engine: Any) -> None:
    async with front_end(engine) as front:
        async with front._session.post(
            front._url + "/api/kernels", json={"kernel_id": "mine-1", "name": "python3"}
        ) as answer:
            assert answer.headers["Location"].endswith("/api/kernels/mine-1")
            assert (await answer.json())["name"] == "python3"
        status, said = await front.ask("POST", "/api/kernels", {"kernel_id": "mine-1"})
        await front.ask("DELETE", "/api/kernels/mine-1")

    assert status == 409
    assert "mine-1" in said["message"]


async def test_a_kernel_knows_its_engine_and_its_folder_and_little_of_who_asked(engine: Any) -> None:
    env = {"KERNEL_USERNAME": "ada", "PATH": "/nowhere", "DCENGINE_TOKEN": "x", "KERNEL_N": 3, "KERNEL_0": "\0"}
    async with front_end(engine) as front:
        body = {"name": "dcengine", "path": "deep/er/not/there.ipynb", "env": env, "unknown": 1}
        _, model = await front.ask("POST", "/api/kernels", body)
        async with front.channels(model["id"]) as channels:
            code = "import json, os; print(json.dumps([dict(os.environ), os.getcwd()]))"
            known, folder = json.loads(text_of(await channels.run(code)))
            said = await channels.run("import dcengine; dcengine.submit(abs, -1).id")
        await front.ask("DELETE", f"/api/kernels/{model['id']}")

    address, _, token = engine.url.partition("/?token=")
    assert (known["DCENGINE_URL"], known["DCENGINE_TOKEN"]) == (address, token)
    assert known["DCENGINE_KERNEL_ID"] == model["id"]
    assert known["KERNEL_USERNAME"] == "ada"
    assert known["PATH"] != "/nowhere"
    assert not {"KERNEL_N", "KERNEL_0"} & set(known)
    assert folder.endswith("deep/er")
    assert results(said)  # it reached the engine with the token it was given


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"name": "moon"}, 501, "'moon'"),
        ({"name": 3}, 400, "name"),
        ({"kernel_id": "../x"}, 400, "../x"),
        ([], 400, "body"),
    ],
)
async def test_what_cannot_be_started_is_said(engine: Any, body: Any, status: int, told: str) -> None:
    async with front_end(engine) as front:
        found, said = await front.ask("POST", "/api/kernels", body)

    assert found == status
    assert told in said["message"]


async def test_a_body_that_is_no_json_is_refused(engine: Any) -> None:
    async with front_end(engine) as front:
        status, said = await front.ask("POST", "/api/kernels", data=b"{")

    assert (status, "body" in said["message"]) == (400, True)


async def test_a_kernel_that_ends_at_its_start_leaves_its_last_words_and_nothing_else(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_kernelspec(
        tmp_path, "broken", "-c", "import sys; sys.exit('no moon\\x1b[31m tonight')", monkeypatch=monkeypatch
    )
    here = psutil.Process()
    async with front_end(engine) as front:
        before = await front.ask("GET", "/api/kernels")
        status, said = await front.ask("POST", "/api/kernels", {"name": "broken"})
        descriptors = here.num_fds()
        await front.ask("POST", "/api/kernels", {"name": "broken"})

        assert status == 500
        assert "no moon" in said["message"]
        assert "\x1b" not in said["message"]
        assert await front.ask("GET", "/api/kernels") == before
        assert here.num_fds() <= descriptors


@pytest.mark.parametrize("place", range(3), ids=["shell", "iopub", "stdin"])
async def test_a_kernel_one_of_whose_ports_is_taken_meanwhile_listens_at_others(
    engine: Any, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, chosen = LocalPortCache.find_available_port, list[int]()

    def find_with_one_taken(cache: LocalPortCache, ip: str) -> int:
        chosen.append(taken.getsockname()[1] if len(chosen) == place else find(cache, ip))
        return chosen[-1]

    monkeypatch.setattr(LocalPortCache, "find_available_port", find_with_one_taken)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with front_end(engine) as front:
            status, model = await front.ask("POST", "/api/kernels")
            async with front.channels(model["id"]) as channels:
                said = await channels.run("6 * 7")
            await front.ask("DELETE", f"/api/kernels/{model['id']}")

    assert len(chosen) == 10  # the five of each start
    assert (status, results(said)) == (201, ["42"])


async def test_a_kernel_whose_ports_are_always_taken_is_told_so(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"
    code = f"open({str(tries)!r}, 'a').write('x'); raise SystemExit('Address already in use')"
    written_kernelspec(tmp_path, "unlucky", "-c", code, monkeypatch=monkeypatch)
    async with front_end(engine) as front:
        status, said = await front.ask("POST", "/api/kernels", {"name": "unlucky"})

    assert tries.read_text() == "x" * kernels_here.TRIES
    assert status == 500
    assert "Address already in use" in said["message"]


async def test_a_kernel_whose_program_is_missing_is_told_so(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_kernelspec(tmp_path, "missing", monkeypatch=monkeypatch)
    (tmp_path / "share/kernels/missing/kernel.json").write_text(
        json.dumps({"argv": ["/no/such/program"], "display_name": "x", "language": "x"})
    )
    async with front_end(engine) as front:
        status, said = await front.ask("POST", "/api/kernels", {"name": "missing"})

    assert status == 500
    assert "/no/such/program" in said["message"]


async def test_an_interrupt_is_answered_204_and_stops_the_cell(engine: Any, kernel: str) -> None:
    async with front_end(engine) as front, front.channels(kernel) as channels:
        request = await channels.execute("import time; print('on it', flush=True); time.sleep(60)")
        await channels.hear(lambda message: message["content"].get("text") == "on it\n")
        _, busy = await front.ask("GET", f"/api/kernels/{kernel}")
        status, _ = await front.ask("POST", f"/api/kernels/{kernel}/interrupt")
        said = await channels.finish(request)

        assert busy["execution_state"] == "busy"
        assert busy["connections"] == 1
        assert status == 204
        assert [m["content"]["ename"] for m in said if m["header"]["msg_type"] == "error"] == ["KeyboardInterrupt"]


async def test_a_restart_is_answered_200_with_the_same_kernel_without_its_names(engine: Any, kernel: str) -> None:
    async with front_end(engine) as front, front.channels(kernel) as channels:
        await channels.run("moon = 1")
        status, model = await front.ask("POST", f"/api/kernels/{kernel}/restart")
        said = await channels.run("'moon' in globals()")

        assert (status, model["id"], model["execution_state"]) == (200, kernel, "idle")
        assert results(said) == ["False"]


async def test_a_kernel_that_crashes_is_started_again_and_front_ends_are_told(engine: Any, kernel: str) -> None:
    async with front_end(engine) as front, front.channels(kernel) as channels:
        await channels.execute("import os; os._exit(1)")
        await channels.hear(lambda message: message["content"].get("execution_state") == "restarting")
        await channels.hear(lambda message: message["content"].get("execution_state") == "starting")

        assert results(await channels.run("1 + 1")) == ["2"]


async def test_a_kernel_that_crashes_too_often_is_dead_until_it_is_restarted(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels_here, "CRASHES", 2)
    async with front_end(engine) as front:
        _, model = await front.ask("POST", "/api/kernels")
        id = model["id"]
        async with front.channels(id) as channels:
            for state in ("restarting", "dead"):
                await channels.execute("import os; os._exit(1)")
                await channels.hear(lambda message, state=state: message["content"].get("execution_state") == state)
            _, dead = await front.ask("GET", f"/api/kernels/{id}")
            interrupted, why = await front.ask("POST", f"/api/kernels/{id}/interrupt")
            async with front.channels(id) as late:
                await late.hear(lambda message: message["content"].get("execution_state") == "dead")
                await late.execute("1 + 1")
                await late.hear(lambda message: message["content"].get("execution_state") == "dead")
            restarted, _ = await front.ask("POST", f"/api/kernels/{id}/restart")
            said = await channels.run("1 + 1")
        await front.ask("DELETE", f"/api/kernels/{id}")

    assert dead["execution_state"] == "dead"
    assert (interrupted, "restart" in why["message"]) == (409, True)
    assert restarted == 200
    assert results(said) == ["2"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/restart"), ("POST", "/interrupt"), ("GET", "/channels")],
)
async def test_an_unknown_kernel_is_404(engine: Any, method: str, path: str) -> None:
    async with front_end(engine) as front:
        status, said = await front.ask(method, f"/api/kernels/moon{path}")

    assert status == 404
    assert "moon" in said["message"]


async def test_kernels_are_for_tokens_that_may_run_code(engine: Any, kernel: str) -> None:
    async with front_end(engine) as admin:
        _, viewer = await admin.ask("POST", "/v1/tokens", {"role": "view"})
    async with front_end(engine, token=viewer["token"]) as front:
        asked = [
            ("GET", "/api/kernels"), ("POST", "/api/kernels"), ("GET", "/api/sessions"), ("POST", "/api/sessions"),
            ("GET", f"/api/kernels/{kernel}/channels"), ("DELETE", f"/api/kernels/{kernel}"),
        ]  # fmt: skip
        assert [(await front.ask(*question))[0] for question in asked] == [403] * len(asked)
    async with front_end(engine, token="") as stranger:
        status, said = await stranger.ask("GET", "/api/kernels")
    assert (status, "message" in said) == (403, True)


async def test_a_kernel_of_the_administrator_is_nobody_elses(engine: Any, kernel: str) -> None:
    """It acts with a token that may do everything."""
    async with front_end(engine) as admin:
        _, made = await admin.ask("POST", "/v1/tokens", {"role": "submit"})
        async with front_end(engine, token=made["token"]) as ada:
            _, hers = await ada.ask("POST", "/api/kernels")
            async with ada.channels(hers["id"]) as channels:
                token = results(await channels.run("import os; os.environ['DCENGINE_TOKEN']"))

            assert token == [repr(made["token"])]
            assert [known["id"] for known in (await ada.ask("GET", "/api/kernels"))[1]] == [hers["id"]]
            assert (await ada.ask("GET", f"/api/kernels/{kernel}"))[0] == 404
            assert (await admin.ask("DELETE", f"/api/kernels/{hers['id']}"))[0] == 204


async def test_an_idle_kernel_ends_but_not_one_that_is_busy_watched_or_has_jobs(tmp_path: Path) -> None:
    with jupyter_engine(tmp_path, kernel_idle=1.0) as engine:
        async with front_end(engine) as front:

            async def started() -> str:
                return str((await front.ask("POST", "/api/kernels"))[1]["id"])

            async def there() -> list[str]:
                return [known["id"] for known in (await front.ask("GET", "/api/kernels"))[1]]

            watched = await started()
            async with front.channels(watched):
                has_jobs = await started()
                async with front.channels(has_jobs) as channels:
                    said = await channels.run("import dcengine; dcengine.submit(abs, -1).id")
                idle = await started()
                await eventually(lambda: _as_wanted(there, lambda ids: idle not in ids))
                assert set(await there()) == {watched, has_jobs}
            await eventually(lambda: _as_wanted(there, lambda ids: ids == [has_jobs]))
            await front.ask("POST", f"/v1/jobs/{results(said)[0]}/cancel")
            await eventually(lambda: _as_wanted(there, lambda ids: ids == []))


async def test_an_engine_does_not_end_for_being_idle_under_a_kernel_that_is_watched_or_busy(tmp_path: Path) -> None:
    with jupyter_engine(tmp_path, idle_exit=0.5) as engine:
        async with front_end(engine) as front:
            _, model = await front.ask("POST", "/api/kernels")
            async with front.channels(model["id"]) as channels:
                assert not await asyncio.to_thread(engine.finished.wait, 1.5)  # somebody is there
                code = "import pathlib, time; time.sleep(2.5); pathlib.Path('done').touch()"
                await channels.execute(code)
                await channels.hear(lambda message: message["header"]["msg_type"] == "execute_input")
        while not (tmp_path / "done").exists():
            assert not engine.finished.is_set()
            await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.finished.wait, 30)
        assert engine.finished.is_set()


async def _as_wanted(ask_for: Any, wanted: Any) -> bool:
    return bool(wanted(await ask_for()))


@pytest.mark.parametrize("ending", ["terminate", "kill"])
def test_no_kernel_outlives_its_engine(tmp_path: Path, ending: str) -> None:
    with serving(tmp_path / "jobs.db", "--prefix", "/farm", workers=0) as (process, told):

        async def begin() -> list[psutil.Process]:
            async with front_end(Told(told), prefix="/farm") as front:
                _, model = await front.ask("POST", "/api/kernels")
                return await processes_of(front, model["id"])

        kernels = asyncio.run(begin())
        assert not gone(kernels)
        getattr(process, ending)()
        process.wait(20)
        if ending == "terminate":
            assert gone(kernels)
        eventually_here(lambda: gone(kernels))


class Told:
    """An engine of another process."""

    def __init__(self, told: dict[str, object]) -> None:
        self.url = str(told["url"])
