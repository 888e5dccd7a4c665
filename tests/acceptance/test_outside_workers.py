"""Workers that speak nothing but HTTP and JSON, against an engine in a process of its own."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dcengine.api import ThreadLink
from dcengine.client import Client
from dcengine.codec import loads, pack, pack_json
from dcengine.loops import LoopThread
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from tests.engines import serving

Say = Callable[..., Any]


def speaker(url: str) -> Say:
    """Return a function that posts JSON to the engine at *url* and reads its answer; there is no dcengine in it."""
    address, _, token = url.partition("/?token=")

    def say(path: str, body: object) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/v1/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    return say


@pytest.fixture
def ask() -> Iterator[Callable[[str], Say]]:
    """What returns a function that asks the engine at an address for a verb."""
    thread, clients = LoopThread("dcengine-test"), list[Client]()

    def asking(url: str) -> Say:
        clients.append(Client(url))
        return ThreadLink(clients[-1], thread).call

    yield asking
    for client in clients:
        thread.run(client.close())
    thread.stop()


def declare(call: Say, items: list[object]) -> None:
    """Make project laion of two lease stages, with *items* for the first."""
    stages = [StageSpec(name="a", title="CPU", kind="lease"), StageSpec(name="b", kind="lease", credit="unit")]
    call("declare_project", ProjectSpec(name="laion", stages=stages))
    block = pack([pack_json(item, what="an item") for item in items])
    call("add_jobs", ItemsSubmission(project="laion", blocks=[block], count=len(items)))
    call("run_project", "laion")


def test_a_program_that_only_speaks_json_takes_jobs_through_their_stages(
    tmp_path: Path, ask: Callable[[str], Say]
) -> None:
    with serving(tmp_path / "x.db", workers=1) as (_, told):
        call, say = ask(str(told["url"])), speaker(str(told["url"]))
        declare(call, [{"url": f"s3://x/{n}.tar", "ä": "caf\udce9"} for n in range(5)])

        first = say("projects/laion/stages/a/lease", {"worker": "w1", "nickname": "alice", "n": 100, "wait": 20})
        beaten = say("tasks/heartbeat", [{"token": task["token"], "done": 1, "total": 2} for task in first])
        done = say("tasks/complete", [{"token": task["token"], "output": [task["input"]["url"]]} for task in first])
        second = say("projects/laion/stages/b/lease", {"worker": "w2", "nickname": "bob", "n": 5, "wait": 20})
        packed = [{"token": task["token"], "output": task["input"], "units": 10} for task in second]
        twice = [say("tasks/complete", packed) for _ in range(2)]  # as if the answer had been lost

        assert [task["input"]["ä"] for task in first] == ["caf\udce9"] * 5
        assert [task["input"] for task in second] == [[task["input"]["url"]] for task in first]
        assert all(answer["is_accepted"] for answers in (beaten, done, *twice) for answer in answers)
        outputs = call("outputs", "laion", "b")
        assert sorted(loads(output.data)[0] for output in outputs) == [f"s3://x/{n}.tar" for n in range(5)]
        assert call("project", "laion").succeeded == 5
        assert {row.nickname: row.tasks for row in call("leaderboard", "laion")} == {"bob": 50, "alice": 5}


def test_a_task_outlives_the_engine_that_leased_it(tmp_path: Path, ask: Callable[[str], Say]) -> None:
    with serving(tmp_path / "x.db", workers=1) as (process, told):
        declare(ask(str(told["url"])), [1, 2])
        (task,) = speaker(str(told["url"]))("projects/laion/stages/a/lease", {"worker": "w1", "wait": 20})
        process.send_signal(signal.SIGKILL)
        process.wait()

    with serving(tmp_path / "x.db", workers=1) as (_, told):
        call, say = ask(str(told["url"])), speaker(str(told["url"]))
        (beaten,) = say("tasks/heartbeat", [{"token": task["token"]}])
        (done,) = say("tasks/complete", [{"token": task["token"], "output": "done"}])

        assert (beaten["is_accepted"], done["is_accepted"]) == (True, True)
        assert [loads(output.data) for output in call("outputs", "laion", "a")] == ["done"]


def test_units_that_cannot_be_are_refused_and_the_rest_of_the_list_is_not(
    tmp_path: Path, ask: Callable[[str], Say]
) -> None:
    with serving(tmp_path / "x.db", workers=1) as (_, told):
        call, say = ask(str(told["url"])), speaker(str(told["url"]))
        stages = [StageSpec(name="a", kind="lease", credit="unit")]
        call("declare_project", ProjectSpec(name="laion", stages=stages))
        block = pack([pack_json(number, what="an item") for number in range(4)])
        call("add_jobs", ItemsSubmission(project="laion", blocks=[block], count=4))
        call("run_project", "laion")
        tasks = say("projects/laion/stages/a/lease", {"worker": "w1", "n": 4, "wait": 20})

        units = (-1, 10**13, 10**30, 7)
        said = [{"token": task["token"], "units": each} for task, each in zip(tasks, units, strict=True)]
        answers = say("tasks/complete", said)

        assert [answer["is_accepted"] for answer in answers] == [False, False, False, True]
        assert [row.tasks for row in call("leaderboard", "laion")] == [7]


def test_what_is_refused_says_how_it_should_be(tmp_path: Path, ask: Callable[[str], Say]) -> None:
    with serving(tmp_path / "x.db", workers=1) as (_, told):
        declare(ask(str(told["url"])), [1])
        say = speaker(str(told["url"]))
        host = urlsplit(str(told["url"])).netloc

        for path, status, named in (
            ("projects/laion/stages/zz/lease", 404, "zz"),
            ("projects/nobody/stages/a/lease", 404, "nobody"),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                say(path, {"worker": "w"})
            assert refused.value.code == status
            assert named in json.load(refused.value)["message"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            speaker(f"http://{host}/?token=guess")("tasks/release", [])
        assert refused.value.code == 401
