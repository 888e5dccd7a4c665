"""Workers that join from elsewhere: over an engine's URL, or straight to a Dask scheduler."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from aiohttp import web

from dcengine import __version__
from dcengine.cluster import Cluster, WorkerGone
from dcengine.cluster.join import join
from dcengine.errors import AccessDenied, EngineUnreachable, InvalidTags, SchedulerUnreachable, WorkerUnfit
from dcengine.verbs import JoinTicket
from tests.integration.clusters import cluster, is_running, unit, until, written
from tests.integration.foreign import foreign_dask

ROOT = Path(__file__).parents[2]
JOIN = """
import asyncio, signal, sys
from dcengine.cluster.join import join

async def main(target, tags, nickname, slots):
    say = lambda event: print(event.kind, flush=True)
    joining = asyncio.ensure_future(
        join(target, tags=tags, nickname=nickname, slots=int(slots), name="far", on_event=say)
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, joining.cancel)
    await asyncio.wait([joining])
    if not joining.cancelled():
        raise joining.exception()

asyncio.run(main(*sys.argv[1:]))
"""


def add_one(number: int) -> int:
    return number + 1


def wait_for(path: str, seconds: float) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)


class TicketOffice:
    """The one route of an engine that joining needs."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self.version = __version__
        self.nickname = ""  #: of the token
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer secret":
            raise web.HTTPUnauthorized
        if self.cluster is None:
            raise web.HTTPServiceUnavailable
        ticket = msgspec.structs.replace(self.cluster.ticket(), version=self.version, nickname=self.nickname)
        return web.Response(body=msgspec.json.encode(ticket), content_type="application/json")


@asynccontextmanager
async def ticket_office() -> AsyncIterator[TicketOffice]:
    office = TicketOffice()
    app = web.Application()
    app.router.add_get("/below/v1/cluster", office.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    office.url = f"http://{host}:{port}/below/?token=secret"
    try:
        yield office
    finally:
        await runner.cleanup()


@asynccontextmanager
async def joining(target: str, *, tags: str = "", nickname: str = "", slots: int = 1) -> AsyncIterator[Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", JOIN, target, tags, nickname, str(slots)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_machine_joins_by_url_with_its_tags_nickname_and_slots() -> None:
    async with ticket_office() as office, cluster(workers=0) as watched:
        office.cluster = watched.cluster
        async with joining(office.url, tags="gpu,site=lab", nickname="alice", slots=2):
            slots = await watched.slots(2)
            worker = watched.cluster.workers["far"]

            assert (worker.tags["site"], worker.contributor, worker.slots) == ("lab", "alice", 2)
            assert worker.tags["os"] == sys.platform
            assert {slot.number for slot in slots} == {0, 1}
            assert await watched.run(add_one, 1, on=slots[1]) == 2


async def test_the_nickname_of_the_token_goes_before_the_one_that_is_said() -> None:
    async with ticket_office() as office, cluster(workers=0) as watched:
        office.cluster, office.nickname = watched.cluster, "bob"
        async with joining(office.url, nickname="alice"):
            await watched.slots(1)

            assert watched.cluster.workers["far"].contributor == "bob"


async def test_sigterm_ends_it_cleanly_and_leaves_no_process(tmp_path: Path) -> None:
    async with ticket_office() as office, cluster(workers=0) as watched:
        office.cluster = watched.cluster
        async with joining(office.url) as process:
            (slot,) = await watched.slots(1)
            running = asyncio.create_task(watched.cluster.run(unit(wait_for, (str(tmp_path / "pid"), 60)), slot))
            await written(tmp_path / "pid")
            below = psutil.Process(process.pid).children(recursive=True)

            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 8) == 0

            with pytest.raises(WorkerGone):
                await asyncio.wait_for(running, 2)
            await until(lambda: not watched.cluster.workers)
            assert below
            assert not [child for child in below if is_running(child)]


async def test_it_comes_back_with_a_new_ticket_when_the_engine_does() -> None:
    async with ticket_office() as office, cluster(workers=0) as first:
        office.cluster = first.cluster
        async with joining(office.url) as process:
            await first.slots(1)
            await first.cluster.close()
            office.cluster = None
            said = [(await process.stdout.readline()).decode().strip() for _ in range(2)]

            async with cluster(workers=0) as second:
                office.cluster = second.cluster
                (slot,) = await second.slots(1)
                assert await second.run(add_one, 1, on=slot) == 2

            assert said == ["joined", "left"]


async def test_a_plain_scheduler_is_joined_by_its_address(tmp_path: Path) -> None:
    async with (
        foreign_dask(tmp_path) as dask,
        joining(dask.address, tags="gpu"),
        cluster(scheduler=dask.address) as watched,
    ):
        await until(lambda: "far" in watched.cluster.workers)
        assert "gpu" in watched.cluster.workers["far"].tags
        watched.cluster.want(lambda worker: True)
        (slot,) = await watched.slots(1)

        assert await watched.run(add_one, 1, on=slot) == 2


async def test_another_version_of_dcengine_is_a_clear_error() -> None:
    async with ticket_office() as office, cluster(workers=0, processes=False) as watched:
        office.cluster, office.version = watched.cluster, "99.0"

        with pytest.raises(WorkerUnfit, match=r"pip install dcengine==99\.0"):
            await join(office.url)


async def test_a_wrong_token_is_a_clear_error() -> None:
    async with ticket_office() as office:
        with pytest.raises(AccessDenied):
            await join(office.url.replace("secret", "wrong"))


async def test_what_is_no_engine_is_a_clear_error() -> None:
    async with ticket_office() as office:
        with pytest.raises(EngineUnreachable, match="no engine"):
            await join(office.url.replace("below", "elsewhere"))


async def test_nobody_there_is_a_clear_error() -> None:
    with pytest.raises(EngineUnreachable):
        await join("http://127.0.0.1:9/?token=x")


async def test_no_scheduler_there_is_a_clear_error() -> None:
    with pytest.raises(SchedulerUnreachable):
        await join("tcp://127.0.0.1:9")


async def test_tags_that_do_not_parse_are_refused_at_once() -> None:
    with pytest.raises(InvalidTags):
        await join("tcp://127.0.0.1:9", tags="gpu,,=")


def test_a_ticket_without_keys_is_for_a_plain_scheduler() -> None:
    from dcengine.cluster.join import _certificate

    assert _certificate(JoinTicket("tcp://h:1", None, None, None, __version__)) is None
