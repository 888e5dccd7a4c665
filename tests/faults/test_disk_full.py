"""A disk without room: what needs some is refused as a whole, the rest goes on, and so does all once there is room.

The disk is a small one of its own where mounting is allowed; else a shim says that the usual one is full.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.errors import DiskFull
from tests.engines import environment, eventually
from tests.faults.aftermath import check_survivor, check_whole
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.disks import Full, copied, disk_in, engine_on, serve_command
from tests.faults.report import recorded

LEASE, BOB = "/v1/projects/outside/stages/a/lease", {"worker": "w2", "nickname": "bob"}
ROUNDS = in_form(short=1, long=10)
ITEMS = 12 * ROUNDS  #: of the project that an outside worker does
AGAIN_SECONDS = in_form(short=5.0, long=1.0)  #: within which it has to serve again; a busy machine needs more


def asked(url: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask the engine at *url*; return the status and what is in the answer."""
    address, _, token = url.partition("/?token=")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(address + path, data, headers), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def nap(n: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return n


class Outside:
    """A worker outside, on a thread: leases, takes its time, hands in."""

    def __init__(self, url: str, project: str) -> None:
        self.handed_in: list[int] = []
        self._worker = dcengine.Worker(url, project=project, stage="a", nickname="ada")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with self._worker:
            for task in self._worker:
                time.sleep(0.1)
                task.complete({"n": task.input})
                self.handed_in.append(task.job)

    def stop(self) -> None:
        self._worker.stop()
        self._thread.join(30)


def refused(question: Callable[[], object]) -> bool:
    try:
        question()
    except DiskFull as full:
        return "free some space" in str(full)
    return False


@pytest.mark.parametrize("kind", in_form(short=["tmpfs"], long=["tmpfs", "shim"]))
def test_a_full_disk_refuses_keeps_what_it_has_and_serves_again_at_once(tmp_path: Path, seed: int, kind: str) -> None:
    with disk_in(tmp_path, kind=kind) as disk, recorded(disk.name, seed=seed, is_long=IS_LONG) as record:
        with engine_on(disk) as (_, url):
            assert dcengine.submit(nap, 1).result(60) == 1
            project = dcengine.Project("outside")
            project.lease_stage("a", lease_seconds=60.0)
            project.add([{"n": n} for n in range(ITEMS)])
            project.run()
            worker = Outside(url, project.name)
            eventually(lambda: len(worker.handed_in) >= 2)
            known, bobs = [dcengine.submit(nap, n, 0.5) for n in range(2)], 0
            for _ in range(ROUNDS):
                accepted, done = hit(disk, url, record)
                known, bobs = known + accepted, bobs + done
                record.runs += 1
            assert [job.result(60) for job in known] == [job.result(60) for job in known]
            eventually(lambda: project.status().stages[0].counts == {"succeeded": ITEMS}, 60)
            worker.stop()
            credit = {row.nickname: row.tasks for row in dcengine.leaderboard("outside")}
            assert credit == {"ada": ITEMS - bobs, "bob": bobs}
            record.acknowledged += len(known) + ITEMS
        check_survivor(copied(disk.path / "work.db", tmp_path / "copy"))


def hit(disk: Full, url: str, record: Any) -> tuple[list[dcengine.JobHandle], int]:
    """Fill *disk*, see what is refused and what goes on, make room; return what was accepted, and what bob has done."""
    (held,) = leased = list(json.loads(asked(url, LEASE, BOB)[1]))
    disk.fill()
    accepted = list[dcengine.JobHandle]()

    def fill_the_rest() -> None:
        for n in range(1000):
            accepted.append(dcengine.submit(nap, n))

    assert refused(fill_the_rest)
    assert refused(lambda: dcengine.map(nap, range(100)))
    assert refused(lambda: dcengine.put(os.urandom(2 << 20)))
    assert asked(url, "/v1/vacuum", {})[0] == 507
    assert asked(url, "/healthz")[0] == 200
    assert asked(url, "/readyz") == (503, b"not ready: DiskFull\n")
    for page in ("/v1/status", "/v1/jobs", "/v1/projects/outside", "/v1/leaderboard", "/metrics"):
        assert asked(url, page)[0] == 200
    while (answer := asked(url, LEASE, BOB))[0] == 200:  # the log was folded just then, and has room again
        more = json.loads(answer[1])
        assert more
        leased += more
        assert refused(fill_the_rest)
    assert answer[0] == 507
    with ThreadPoolExecutor(1) as other:
        handed_in = other.submit(asked, url, "/v1/tasks/complete", [{"token": held["token"], "output": 1}])
        beats = [beat(url, held)]
        while not handed_in.done():
            beats.append(beat(url, held))
        beats.append(beat(url, held))
    assert handed_in.result()[0] == 507
    assert all(beats)  # it keeps what it holds, so it may try again
    said = subprocess.run(
        [sys.executable, "-m", "dcengine", "submit", "math:sqrt", "4", "--url", url],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert said.returncode != 0
    assert "is full: nothing was stored; free some space" in said.stderr
    time.sleep(in_form(short=0.0, long=6.0))  # longer than anybody is kept waiting

    disk.make_room()
    began = time.monotonic()
    first = eventually(lambda: submitted(7))
    assert isinstance(first, dcengine.JobHandle)
    took = time.monotonic() - began
    assert first.result(60) == 7
    record.figures["serving_again_s"] = max(record.figures.get("serving_again_s", 0.0), round(took, 3))
    assert took < AGAIN_SECONDS
    eventually(lambda: asked(url, "/readyz")[0] == 200)
    done = json.loads(asked(url, "/v1/tasks/complete", [{"token": each["token"], "output": 1} for each in leased])[1])
    assert all(answer["is_accepted"] for answer in done)
    return [*accepted, first], len(done)


def beat(url: str, held: dict[str, Any]) -> bool:
    (answer,) = json.loads(asked(url, "/v1/tasks/heartbeat", [{"token": held["token"]}])[1])
    return bool(answer["is_accepted"])


def submitted(n: int) -> dcengine.JobHandle | None:
    with suppress(DiskFull):
        return dcengine.submit(nap, n)
    return None


def test_an_engine_does_not_start_on_a_full_disk_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with disk_in(tmp_path, kind="tmpfs") as disk:
        with engine_on(disk, workers=0):
            job = dcengine.submit(nap, 1)
        before = (disk.path / "work.db").read_bytes()
        disk.fill()
        for name in ("work.db", "new.db"):
            said = subprocess.run(
                disk.command(*serve_command(disk.inside / name)), capture_output=True, text=True, check=False,
                env=environment(**disk.more),
            )  # fmt: skip
            assert said.returncode == 1
            assert said.stderr.startswith(f"the disk of {disk.inside / name} is full"), said.stderr
        assert (disk.path / "work.db").read_bytes() == before
        disk.make_room()
        with engine_on(disk, workers=0):
            assert dcengine.job(job.id).status().state == "open"


def large(n: int) -> bytes:
    return bytes(n)


def test_full_places_beside_the_file_refuse_only_what_belongs_there(tmp_path: Path) -> None:
    """Large values and copies may lie on other disks than the file."""
    with disk_in(tmp_path, kind="tmpfs") as disk:
        db, blobs = tmp_path / "work.db", disk.inside / "blobs"
        with engine_on(disk, "--blobs", str(blobs), db=db) as (_, url):
            assert len(dcengine.submit(large, 2 << 20).result(60)) == 2 << 20
            disk.fill()
            with pytest.raises(DiskFull, match=f"the disk of {blobs}"):
                dcengine.submit(len, os.urandom(2 << 20))
            assert dcengine.submit(nap, 1).result(60) == 1  # for this there is room
            status, said = asked(url, "/v1/backup", {"path": str(disk.inside / "copy.db")})
            assert status == 507
            assert f"the disk of {disk.inside}" in json.loads(said)["message"]
            waits = dcengine.submit(large, 3 << 20)  # its slot waits with it
            eventually(lambda: waits.status().task_state == "leased")
            time.sleep(0.5)
            assert waits.status().state == "open"
            disk.make_room()
            assert len(waits.result(60)) == 3 << 20
            assert not list(disk.path.glob("copy*"))
        check_whole(db)
