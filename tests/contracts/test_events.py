"""What is told of what happens: in pages and as a stream, without a gap, over restarts too."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import dcengine
import dcengine.server.events
from dcengine.api import current
from dcengine.errors import NotFound
from dcengine.owner import find_owner
from dcengine.verbs import Completion, Event, EventPage, LeaseRequest, Registration, TaskFailure, TaskFlag
from tests.engines import embedded, eventually, joined, served

COMINGS = ("worker_came", "worker_went", "banned", "welcomed")
Message = tuple[int, list[dict[str, Any]]]


def events(**options: Any) -> EventPage:
    page: EventPage = current().call("events", **options)
    return page


def all_since(cursor: int) -> list[Event]:
    found = list[Event]()
    while (page := events(after=cursor)).events:
        cursor = page.cursor
        found += page.events
    return found


def test_what_a_job_goes_through_is_told_in_order(engine: str) -> None:
    cursor = events().cursor

    job = dcengine.submit(abs, -3)
    assert job.result(30) == 3

    told = [event for event in all_since(cursor) if event.job == job.id]
    assert [event.kind for event in told] == ["job_submitted", "leased", "succeeded"]
    assert [event.state for event in told] == ["queued", "leased", "succeeded"]
    assert {event.project for event in told} == {"functions"}
    assert [event.seq for event in told] == sorted({event.seq for event in told})
    assert told[0].at <= told[1].at <= told[2].at
    assert told[-1].worker == job.status().worker
    assert told[-1].credit == 1


def test_who_waits_is_told_when_something_happens(engine: str) -> None:
    eventually(lambda: not events(after=events().cursor, wait=0.5).events)
    cursor = events().cursor
    timer = threading.Timer(0.3, lambda: dcengine.submit(abs, -1))
    timer.start()

    page = events(after=cursor, wait=30)

    timer.join()
    assert page.events[0].kind == "job_submitted"
    assert page.cursor == page.events[-1].seq


def test_nothing_is_told_where_nothing_happens(engine: str) -> None:
    eventually(lambda: not events(after=events().cursor, wait=0.5).events)
    cursor = events().cursor

    assert events(after=cursor, wait=0.3) == EventPage([], cursor)


def test_the_failure_of_a_call_is_told_with_its_reason(engine: str) -> None:
    cursor = events().cursor
    job = dcengine.submit(int, "seven")
    with pytest.raises(ValueError, match="seven"):
        job.result(30)

    (failed,) = [event for event in all_since(cursor) if event.job == job.id and event.kind == "failed"]

    assert failed.detail is not None
    assert "invalid literal" in failed.detail


def test_the_items_of_a_map_are_told_together(engine: str) -> None:
    cursor = events().cursor
    assert list(dcengine.map(abs, range(-50, 0))) == list(range(50, 0, -1))

    ended = [event for event in all_since(cursor) if event.kind == "succeeded" and event.batch is not None]

    assert sum(event.units for event in ended) == 50
    assert {event.project for event in ended} == {"functions"}


def test_one_project_alone_can_be_followed(engine: str) -> None:
    cursor = events().cursor
    project = dcengine.Project(f"followed-{engine}")
    project.lease_stage("look")
    project.add([1, 2])
    dcengine.submit(abs, -3).result(30)

    told = list[Event]()
    while len(told) < 2:
        page = events(after=cursor, project=project.name, wait=10, limit=1)
        told, cursor = told + page.events, page.cursor
    declared, added = told
    assert (declared.kind, declared.units) == ("declared", 0)
    assert (added.kind, added.stage, added.number, added.units) == ("job_submitted", "look", 1, 2)
    assert events(after=cursor, project=project.name).events == []
    assert events(after=cursor).events != []
    with pytest.raises(NotFound):
        events(project="nobody")


def test_each_step_of_a_task_is_told(engine: str) -> None:
    cursor, link = events().cursor, current()
    project = dcengine.Project(f"steps-{engine}")
    project.lease_stage("look", retries=1)
    project.lease_stage("check", votes=1)
    project.add([1])
    project.run()

    def lease(stage: str) -> str:
        wish = LeaseRequest(project=project.name, stage=stage, worker="w", nickname="ada", n=1, wait=10)
        (task,) = link.call("lease", wish)
        return str(task.token)

    link.call("release", [lease("look")])
    link.call("fail", [TaskFailure(token=lease("look"), reason="dark")])
    link.call("complete", [Completion(token=lease("look"))])
    link.call("flag", [TaskFlag(token=lease("check"), reason="bad")])
    link.call("complete", [Completion(token=lease("look"))])
    project.cancel()
    (job,) = project.jobs()
    link.call("retry", [job.id])

    told = [(event.kind, event.stage) for event in all_since(cursor) if event.job == job.id]
    assert [kind for kind, _ in told if kind != "woken"] == [
        "job_submitted", "leased", "released", "leased", "retried", "leased", "succeeded", "opened",
        "leased", "returned", "returned", "opened", "leased", "succeeded", "opened", "cancelled", "reopened",
    ]  # fmt: skip
    assert told[-1] == ("reopened", "check")


def test_what_happens_to_projects_is_told(engine: str) -> None:
    cursor, name = events().cursor, f"moved-{engine}"
    project = dcengine.Project(name)
    project.lease_stage("look")
    project.run()
    project.pause()
    project.add([1])
    project.delete(confirm=True)

    told = [event.kind for event in all_since(cursor) if name in (event.project, event.detail)]

    assert told[-1] == "deleted"
    assert [event.project for event in all_since(cursor) if event.kind == "deleted"] == [name]
    kinds = {event.kind for event in all_since(cursor)}
    assert {"declared", "resumed", "paused", "job_submitted", "deleted"} <= kinds


def test_workers_that_come_and_go_are_told_and_who_is_banned(engine: str) -> None:
    cursor, link, name = events().cursor, current(), f"crowd-{engine}"
    project = dcengine.Project(name)
    project.lease_stage("look")
    project.add([1, 2])
    project.run()
    link.call("lease", LeaseRequest(project=name, stage="look", worker="idle", n=1))
    link.call("lease", LeaseRequest(project=name, stage="look", worker="only asks", n=1))
    assert link.call("lease", LeaseRequest(project=name, stage="look", worker="in vain", n=1)) == []
    registered = link.call("register_worker", Registration(project=name, stage="look", nickname="eve", name="mine"))
    link.call("ban_contributor", "eve")
    link.call("unban_contributor", "eve")
    link.call("unban_contributor", "eve")
    link.call("leave_worker", registered.secret)

    def told() -> list[tuple[str, str | None]]:
        some = [event for event in all_since(cursor) if event.kind in COMINGS]
        return [(event.kind, event.worker or event.contributor) for event in some if event.project in ("", name)]

    expected = [
        ("worker_came", "idle"), ("worker_came", "only asks"), ("worker_came", "mine"), ("banned", "eve"),
        ("welcomed", "eve"), ("worker_went", "mine"),
    ]  # fmt: skip
    eventually(lambda: len(told()) >= len(expected))
    assert sorted(told()) == sorted(expected)  # what comes and goes is written a moment later


def test_machines_that_join_and_leave_are_told(tmp_path: Path) -> None:
    with served(tmp_path / "work.db", workers=1) as engine:
        cursor = 0
        with joined(engine["url"], "--name", "guest"):
            assert came(cursor, "worker_came", "guest")
        assert came(cursor, "worker_went", "guest")
        assert sum(event.kind == "worker_came" for event in all_since(0)) == 2


def came(cursor: int, kind: str, worker: str) -> object:
    return eventually(lambda: (kind, worker) in [(event.kind, event.worker) for event in all_since(cursor)])


def test_kernels_that_begin_and_end_are_told(tmp_path: Path) -> None:
    with served(tmp_path / "work.db", workers=1) as engine:
        address = urlsplit(str(engine["url"]))
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        headers = {"Authorization": f"Bearer {engine['token']}", "Content-Type": "application/json"}
        connection.request("POST", "/api/kernels", b"{}", headers)
        kernel = json.loads(connection.getresponse().read())["id"]
        connection.request("DELETE", f"/api/kernels/{kernel}", headers=headers)
        connection.getresponse().read()
        connection.close()

        eventually(lambda: [event.kind for event in all_since(0) if event.kind.startswith("kernel")][1:])
        told = [(event.kind, event.detail) for event in all_since(0) if event.kind.startswith("kernel")]
        assert told == [("kernel_started", "dcengine"), ("kernel_ended", "dcengine")]


def test_who_is_far_behind_is_told_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine.engine.happenings.KEPT", 10)
    with embedded(tmp_path / "work.db", workers=1, processes=False):
        cursor = events().cursor
        jobs = [dcengine.submit(abs, -n).id for n in range(20)]
        eventually(lambda: dcengine.job(jobs[-1]).status().is_final)

        events(after=events().cursor, wait=0.3)  # what is kept begins late
        told = all_since(cursor)

    assert [event.job for event in told if event.kind == "job_submitted"] == jobs
    assert [event.seq for event in told] == list(range(told[0].seq, told[0].seq + len(told)))


# ---- as a stream ---------------------------------------------------------------------------


@contextmanager
def stream(url: str, token: str, *, last: int | None = None, query: str = "") -> Iterator[http.client.HTTPResponse]:
    """The stream of an engine's events, from cursor *last* on."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    connection.request("GET", f"/v1/events{query}", headers=headers)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def messages(answer: http.client.HTTPResponse) -> Iterator[Message]:
    """Yield what a stream says: the id and the events of each message."""
    fields: dict[str, str] = {}
    for line in iter(answer.readline, b""):
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield int(fields["id"]), json.loads(fields["data"])
            fields = {}


def owner(db: Path) -> tuple[str, str]:
    found = find_owner(db)
    assert found is not None
    assert found.url is not None
    return found.url, found.token or ""


def test_a_stream_goes_on_where_it_was_cut_also_in_the_next_engine(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with served(db, workers=1):
        with stream(*owner(db)) as answer:
            assert answer.getheader("Content-Type") == "text/event-stream"
            told = messages(answer)
            cursor, nothing = next(told)
            assert nothing == []
            first = dcengine.submit(abs, -1)
            before, (cursor, seen) = cursor, next(told)
            if seen[0]["kind"] == "worker_came" and len(seen) == 1:
                before, (cursor, seen) = cursor, next(told)
            assert ("job_submitted", first.id) in [(event["kind"], event.get("job")) for event in seen]
        first.result(30)
        second = dcengine.submit(abs, -2)
        second.result(30)
    with served(db, workers=1), stream(*owner(db), last=cursor) as answer:
        for _, happened in messages(answer):
            seen += happened
            if ("succeeded", second.id) in [(event["kind"], event.get("job")) for event in seen]:
                break

    assert [event["seq"] for event in seen] == list(range(before + 1, before + 1 + len(seen)))
    assert ("succeeded", first.id) in [(event["kind"], event.get("job")) for event in seen]


def test_a_stream_ends_with_its_engine_and_needs_a_token(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with served(db, workers=1):
        url, token = owner(db)
        with stream(url, "wrong") as refused:
            assert refused.status in (401, 403)
        with stream(url, token, query="?project=nobody") as refused:
            assert refused.status == 404
        opened = stream(url, token)
        told = messages(opened.__enter__())
        next(told)
    assert {event["kind"] for _, some in told for event in some} <= {"worker_came"}
    opened.__exit__(None, None, None)


def test_who_takes_nothing_holds_up_nobody_and_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine.server.events.PATIENCE_SECONDS", 1.0)
    say, has_hung_up = dcengine.server.events._say, threading.Event()

    async def said(*what: Any) -> None:
        try:
            await say(*what)
        except ConnectionAbortedError:
            has_hung_up.set()
            raise

    monkeypatch.setattr("dcengine.server.events._say", said)
    with embedded(tmp_path / "work.db", workers=1, processes=False) as engine:
        project = dcengine.Project("busy")
        project.lease_stage("look")
        project.run()
        address = urlsplit(engine.url)
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((address.hostname, address.port))
        head = f"GET /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {engine.token}\r\n"
        line.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        line.recv(100)
        cursor, units = events().cursor, 0
        for _ in range(30):
            project.add(range(1000))
            leased = current().call("lease", LeaseRequest(project="busy", stage="look", worker="w", n=1000))
            current().call("complete", [Completion(token=task.token) for task in leased])
            page = events(after=cursor, wait=10, limit=1000)  # others are told meanwhile
            cursor = page.cursor
            units += len(page.events)
        assert units > 20_000
        assert has_hung_up.wait(30)  # a message each tenth of a second fills what the line itself holds

        line.settimeout(10)
        taken = 0
        with suppress(ConnectionError):
            while some := line.recv(65536):
                taken += len(some)
        line.close()
        assert taken < 8 << 20  # what the line itself holds, and one message
