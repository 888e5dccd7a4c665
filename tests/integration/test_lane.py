"""The short way to a worker on the same machine, and the long one where there is none."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.cluster import lane as lanes
from dcengine.cluster.lane import Lane, LaneServer
from tests.engines import embedded, eventually


class Answers:
    """What a worker would answer."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def echo(self, what: object) -> object:
        return what

    async def wait(self) -> str:
        self.is_asked.set()
        await self.may_go_on.wait()
        return "waited"

    async def fail(self) -> None:
        raise KeyError("nobody of that name")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short name, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="lane-") as name:
        yield Path(name)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def server(folder: Path, answers: Answers) -> AsyncIterator[LaneServer]:
    server = LaneServer({name: getattr(answers, name) for name in ("echo", "wait", "fail")})
    await server.open(folder)
    yield server
    await server.close()


@pytest.fixture
async def lane(server: LaneServer) -> AsyncIterator[Lane]:
    lane = await Lane.connect(server.path)
    assert lane is not None
    yield lane
    lane.close()


async def test_questions_are_answered_as_their_answers_are_ready(lane: Lane, answers: Answers) -> None:
    slow = lane.ask("wait")
    assert await asyncio.gather(*(lane.ask("echo", what=n) for n in range(100))) == list(range(100))
    assert not slow.done()
    answers.may_go_on.set()
    assert await slow == "waited"


async def test_large_messages_arrive_whole(lane: Lane) -> None:
    large = [bytes([n]) * 3_000_000 for n in range(4)]
    assert await asyncio.gather(*(lane.ask("echo", what=each) for each in large)) == large


async def test_an_answer_that_fails_fails_its_question_alone(lane: Lane) -> None:
    with pytest.raises(RuntimeError, match="nobody of that name"):
        await lane.ask("fail")
    assert await lane.ask("echo", what="still here") == "still here"


async def test_who_no_longer_waits_disturbs_nobody(lane: Lane, answers: Answers) -> None:
    lane.ask("wait").cancel()
    answers.may_go_on.set()
    assert await lane.ask("echo", what=1) == 1


async def test_questions_fail_once_either_end_hangs_up(lane: Lane, answers: Answers) -> None:
    waiting = lane.ask("wait")
    await answers.is_asked.wait()
    lane.close()
    with pytest.raises(ConnectionError):
        await waiting
    with pytest.raises(ConnectionError):
        await lane.ask("echo", what="too late")


async def test_only_its_user_can_enter(server: LaneServer) -> None:
    assert Path(server.path).parent.stat().st_mode & 0o777 == 0o700


async def test_there_is_none_to_other_machines_or_where_names_are_too_long(folder: Path) -> None:
    assert await Lane.connect(str(folder / "nobody")) is None
    deep = folder / ("x" * 100)
    deep.mkdir()
    server = LaneServer({})
    await server.open(deep)
    assert server.path == ""


# ---- with real workers -----------------------------------------------------------------------


@pytest.fixture(params=["short", "long"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "long":

        async def none(path: str) -> None:
            return None

        monkeypatch.setattr(Lane, "connect", none)
    return str(request.param)


def sleep_long(sign: str) -> None:
    Path(sign).touch()
    time.sleep(60)


def test_calls_run_are_cancelled_and_interrupted_either_way(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ask = lanes.Lane.ask
    monkeypatch.setattr(Lane, "ask", lambda self, name, **facts: (asked.append(name), ask(self, name, **facts))[1])
    with embedded(tmp_path / "x.db", workers=1):
        assert dcengine.submit(len, "abc").result(30) == 3
        assert dcengine.map(abs, range(-50, 0)).results(30) == list(range(50, 0, -1))
        for stop in ("cancel", "interrupt", "kill"):
            sign = tmp_path / stop
            handle = dcengine.submit(sleep_long, str(sign))
            eventually(sign.exists)
            getattr(handle, stop)()
            with pytest.raises((dcengine.DcengineError, KeyboardInterrupt)):
                handle.result(30)
            assert dcengine.submit(len, "abcd").result(30) == 4
    assert ("run" in asked) == (way == "short")
