"""What is done to an engine under soak: loads, each at a rate of its own, the same in every minute.

A load is a generator. What comes before its first ``yield`` is preparation, what it does between two is one
operation, and it checks what it is answered. One that fails is counted, and begun anew.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from yarl import URL

import dcengine

from .frontends import Frontend, Server, _asked, frontend, kernel

LARGE = 2 << 20  #: bytes, too many for a row
ITEMS = 1_000  #: of a map
LINES = 10_000  #: printed by one cell
WIDGET = "import ipywidgets\nbar = ipywidgets.IntProgress(max=20)\ndisplay(bar)\nfor _ in range(20): bar.value += 1"
SLEEPING = "import time; print('asleep', flush=True); time.sleep(60)"
# IPython warns at the thousandth value that it keeps.
SILENT = "import warnings; warnings.simplefilter('ignore', UserWarning)"
PATIENCE = 60.0  #: seconds for anything


class Place(NamedTuple):
    """The engine, as loads find it."""

    server: Server
    files: Path

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer to one question, of a connection of its own."""
        return _asked(self.server, method, path, body)

    @property
    def url(self) -> URL:
        return URL(self.server.url).with_query(token=self.server.token)


Load = Callable[[Place], Iterator[None]]


class Kind(NamedTuple):
    """One kind of load."""

    load: Load
    every: float  #: seconds from one beginning to the next
    lanes: int = 1  #: how many do it side by side

    @property
    def name(self) -> str:
        return self.load.__name__


# ---- functions -----------------------------------------------------------------------------


def same(value: Any) -> Any:
    return value


def failing(number: int) -> int:
    """Fail now and then, and always for 7."""
    if number == 7 or random.random() < 0.2:
        raise ValueError(number)
    return number


def calls(place: Place) -> Iterator[None]:
    for number in itertools.count():
        yield
        assert dcengine.submit(abs, -number).result(PATIENCE) == number


def closures(place: Place) -> Iterator[None]:
    """Functions that nobody has seen before, as notebooks make them with each cell."""
    for number in itertools.count():
        yield
        assert dcengine.submit(eval(f"lambda: {number}")).result(PATIENCE) == number


def large_values(place: Place) -> Iterator[None]:
    for number in itertools.count():
        value = bytes([number % 256]) * LARGE + str(number).encode()
        yield
        assert dcengine.submit(same, value).result(PATIENCE) == value


def maps(place: Place) -> Iterator[None]:
    while True:
        yield
        assert dcengine.map(same, range(ITEMS)).results(timeout=PATIENCE) == list(range(ITEMS))


def cancels(place: Place) -> Iterator[None]:
    while True:
        yield
        waiting = [dcengine.submit(time.sleep, 60) for _ in range(3)]
        for job in waiting:
            job.cancel()
        for job in waiting:
            assert isinstance(job.exception(PATIENCE), dcengine.JobCancelled)


def cell_sessions(place: Place) -> Iterator[None]:
    for number in itertools.count():
        yield
        assert dcengine.submit(abs, -1, session=f"s{number}").result(PATIENCE) == 1
        dcengine.end_session(f"s{number}")


def projects(place: Place) -> Iterator[None]:
    """Staged, with retries and a job that fails for good; deleted in the end."""
    for number in itertools.count():
        project = dcengine.Project(f"staged-{number}")
        project.stage(name="try", retries=9, back_off=0.02, back_off_limit=0.1)(failing)
        project.stage(name="go")(same)
        yield
        project.run()
        project.add(range(20))
        status = project.wait(PATIENCE)
        assert status.failed == 1, status
        assert status.succeeded == 19, status
        project.delete(confirm=True)


# ---- outside workers -----------------------------------------------------------------------


def leases(place: Place) -> Iterator[None]:
    """A worker over HTTP: lease, heartbeat, complete; who finds nothing brings more."""
    name, me = f"leased-{threading.get_native_id()}-{time.time_ns()}", f"w{threading.get_native_id()}"
    project = dcengine.Project(name)
    project.lease_stage("a", lease_seconds=60.0)
    project.run()
    while True:
        yield
        tasks = place.ask("POST", f"/v1/projects/{name}/stages/a/lease", {"worker": me, "n": 10})
        if not tasks:
            project.add(range(100))
            continue
        beats = [{"token": task["token"], "done": 1, "text": "half"} for task in tasks]
        assert all(each["is_accepted"] for each in place.ask("POST", "/v1/tasks/heartbeat", beats))
        done = [{"token": task["token"], "output": "x" * 1000} for task in tasks]
        assert all(each["is_accepted"] for each in place.ask("POST", "/v1/tasks/complete", done))


def long_polls(place: Place) -> Iterator[None]:
    """Workers, a new name each time, who wait for what does not come."""
    project = dcengine.Project(f"empty-{time.time_ns()}")
    project.lease_stage("a")
    project.run()
    path = f"/v1/projects/{project.name}/stages/a/lease"
    for number in itertools.count():
        yield
        assert place.ask("POST", path, {"worker": f"w{number}", "nickname": f"n{number}", "wait": 1.0}) == []


def old_clients(place: Place) -> Iterator[None]:
    """LAION's client, unmodified, in a process of its own."""
    project = dcengine.Project(f"laion-{time.time_ns()}", protocol="distcompute", is_open=True)
    project.lease_stage("a", title="CPU", lease_seconds=600.0)
    project.run()
    address = place.url.with_user("soak").with_password(place.server.token).with_query(None)
    command = [sys.executable, "-m", "benchmarks.oldclient", str(address.with_path(f"/p/{project.name}/")), "20"]
    while True:
        yield
        project.add(range(50))
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


def joins(place: Place) -> Iterator[None]:
    """A worker that joins, does a job, and goes."""
    command = [sys.executable, "-m", "dcengine", "join", str(place.url), "--tags", "guest"]
    while True:
        yield
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
            try:
                job = dcengine.submit(abs, -1, tags="guest")
                assert job.result(PATIENCE) == 1
            finally:
                worker.terminate()


# ---- notebooks -----------------------------------------------------------------------------


def cells(place: Place) -> Iterator[None]:
    with frontend(place.server) as notebook:
        notebook.cell(SILENT)
        while True:
            yield
            said = notebook.cell("1+1")[1]
            assert said == "2", repr(said)


def remote_cells(place: Place) -> Iterator[None]:
    with frontend(place.server) as notebook:
        for number in itertools.count():
            yield
            said = notebook.cell(f"%%distribute\nprint({number})")[1]
            lines = [line for line in said.splitlines() if "vanished; it runs again" not in line]  # a machine has left
            assert set(lines) == {str(number)}, repr(said)


def printing(place: Place) -> Iterator[None]:
    text = "".join(f"{number}\n" for number in range(LINES))
    with frontend(place.server) as notebook:
        while True:
            yield
            assert notebook.cell(f"for number in range({LINES}): print(number)")[1] == text


def widgets(place: Place) -> Iterator[None]:
    """Their messages travel from a worker to the kernel, and on."""
    with frontend(place.server) as notebook:
        while True:
            yield
            notebook.cell(f"%%distribute\n{WIDGET}")


def interrupts(place: Place) -> Iterator[None]:
    with frontend(place.server) as notebook:
        while True:
            yield
            request = notebook.ask(SLEEPING)
            _heard_print(notebook, request)
            place.ask("POST", f"/api/kernels/{notebook.kernel}/interrupt")
            # To its end: what is asked before it is not run, as the cell above it has failed.
            assert "error" in {heard.kind for heard in notebook.finish(request)}, "the stop was not seen"


def reconnects(place: Place) -> Iterator[None]:
    """A front end that vanishes while its cell prints, and another one that comes for the rest."""
    with kernel(place.server) as id:
        while True:
            yield
            lost = Frontend(place.server, id)
            _heard_print(lost, lost.ask(f"for number in range({LINES}): print(number)"))
            lost.cut()
            found = Frontend(place.server, id)
            found.cell("1")
            found.close()


def kernels(place: Place) -> Iterator[None]:
    """One that is started, used, restarted, used, and ended."""
    while True:
        yield
        with frontend(place.server) as notebook:
            notebook.cell("1")
            place.ask("POST", f"/api/kernels/{notebook.kernel}/restart")
            again = Frontend(place.server, notebook.kernel)
            again.cell("1")
            again.close()


def _heard_print(notebook: Frontend, request: str) -> None:
    """Wait until *request* has printed; a kernel that starts prints warnings of its own before."""
    while (heard := notebook.hear()).kind != "stream" or heard.request != request:
        pass


# ---- dashboards, tokens, files -------------------------------------------------------------


def pages(place: Place) -> Iterator[None]:
    while True:
        yield
        for path in ("/v1/jobs?limit=50", "/v1/workers", "/v1/projects", "/v1/status", "/v1/outside-workers",
                     "/v1/batches", "/v1/leaderboard?project=functions"):  # fmt: skip
            place.ask("GET", path)


def dashboards(place: Place) -> Iterator[None]:
    """A page that is open all day: it follows the stream of events, comes back when that ends, and misses nothing."""
    last = 0
    while True:
        headers = {"Authorization": f"Bearer {place.server.token}", "Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = str(last)
        with urlopen(Request(f"{place.server.url}/v1/events", headers=headers), timeout=PATIENCE) as stream:
            yield
            until = time.monotonic() + 1
            for line in stream:
                if line.startswith(b"data: "):
                    seqs = [event["seq"] for event in json.loads(line[6:])]
                    assert not last or seqs == [*range(last + 1, last + 1 + len(seqs))], (last, seqs[:1], seqs[-1:])
                    last = seqs[-1] if seqs else last
                if time.monotonic() > until:
                    yield
                    until = time.monotonic() + 1


def scrapes(place: Place) -> Iterator[None]:
    while True:
        yield
        headers = {"Authorization": f"Bearer {place.server.token}"}
        with urlopen(Request(f"{place.server.url}/metrics", headers=headers), timeout=PATIENCE) as answer:
            assert b"dcengine_store_commit_seconds" in answer.read()


def followers(place: Place) -> Iterator[None]:
    """Who follows what a job says, to its end."""

    def saying() -> None:
        for number in range(20):
            print(number, flush=True)
            time.sleep(0.01)

    while True:
        yield
        said = "".join(line.text for line in dcengine.submit(saying).follow())
        assert said == "".join(f"{number}\n" for number in range(20)), said


def vanishing(place: Place) -> Iterator[None]:
    """Pages that are closed while they wait for news."""
    job = dcengine.submit(abs, 1, not_before=time.time() + 1e8)
    while True:
        yield
        line = _connected(place, f"/v1/jobs/{job.id}/result?wait=30")
        time.sleep(0.2)
        line.close()


def slow_readers(place: Place) -> Iterator[None]:
    """Who takes a large answer a little at a time, and leaves in the middle."""
    value = dcengine.put(b"x" * (8 << 20))
    while True:
        yield
        line = _connected(place, f"/v1/values/{value.digest}/content")
        for _ in range(10):
            assert line.recv(4096)
            time.sleep(0.1)
        line.close()


def _connected(place: Place, path: str) -> socket.socket:
    """Return a connection that has asked for *path*, with little room for the answer."""
    address = place.url
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    line.settimeout(PATIENCE)
    line.connect((address.host, address.port))
    head = f"GET {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nAuthorization: Bearer {place.server.token}"
    line.sendall(f"{head}\r\n\r\n".encode())
    return line


def tokens(place: Place) -> Iterator[None]:
    while True:
        yield
        made = place.ask("POST", "/v1/tokens", {"role": "view"})
        place.ask("POST", f"/v1/tokens/{made['status']['id']}/revoke")
        with contextlib.suppress(HTTPError):
            _asked(place.server._replace(token=made["token"]), "GET", "/v1/status")
            raise AssertionError("a revoked token is taken")


def files(place: Place) -> Iterator[None]:
    for number in itertools.count():
        path, text = f"/api/contents/f{number}.txt", "y" * (1 << 20)
        yield
        place.ask("PUT", path, {"type": "file", "format": "text", "content": text})
        assert place.ask("GET", path)["content"] == text
        assert place.ask("DELETE", path) is None


KINDS = (
    Kind(calls, 0.1), Kind(closures, 0.5), Kind(large_values, 2.0), Kind(maps, 2.0), Kind(cancels, 3.0),
    Kind(cell_sessions, 5.0), Kind(projects, 5.0), Kind(leases, 0.25, 2), Kind(long_polls, 1.0),
    Kind(old_clients, 30.0), Kind(joins, 60.0), Kind(cells, 0.5), Kind(remote_cells, 1.0),
    Kind(printing, 3.0), Kind(widgets, 5.0), Kind(interrupts, 5.0), Kind(reconnects, 5.0),
    Kind(kernels, 20.0), Kind(pages, 1.0), Kind(dashboards, 1.0, 3), Kind(scrapes, 2.0),
    Kind(followers, 2.0), Kind(vanishing, 1.0), Kind(slow_readers, 3.0), Kind(tokens, 1.0), Kind(files, 2.0),
)  # fmt: skip
