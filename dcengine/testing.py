"""Contract suites for authors of plug-ins.

Subclass `ProtocolSuite` or `WorkloadSuite` in a test module as ``TestMine``, say which protocol or workload it is, and
run pytest.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

from . import Engine, Project, api, workloads
from .errors import DcengineError
from .parameters import Field
from .protocols import Protocol, load, names
from .workloads import Workload

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
GARBAGE = (
    b"", b"{", b"[]", b"null", b'{"token": null}', b'{"token": 1}', b'{"token": "\\ud800"}', b"\xff\xfe", b"[" * 50_000,
    json.dumps({"token": "x" * 100_000, "data": "y", "progress": "z"}).encode(),
)  # fmt: skip
PATIENCE = 20.0  #: seconds for one answer
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**400, 0.5, -1e308, math.nan, math.inf, "", "0", "-1", "x" * 100_000, "\0", "\ud800",
    "../../etc", "<script>", b"", b"\xff\xfe", [], ["x"], [[]], {}, {"name": "../x", "content": b""}, object(),
)  # fmt: skip
#: What loading a workload should not import: `dcengine --help` loads all of them.
HEAVY = frozenset({
    "PIL", "bpy", "cv2", "dask", "distributed", "jax", "matplotlib", "numpy", "pandas", "pyarrow", "scipy", "sklearn",
    "tensorflow", "torch", "transformers",
})  # fmt: skip


class ProtocolSuite:
    """What every protocol keeps to."""

    name: str  #: under which it is installed

    @property
    def protocol(self) -> Protocol:
        """The protocol under test."""
        return load(self.name)

    def test_it_is_installed_under_the_name_that_it_says(self) -> None:
        assert self.name in names()
        assert self.protocol.name == self.name
        assert self.protocol.title

    def test_its_routes_are_addresses_below_a_project_each_once(self) -> None:
        addresses = [(route.method, route.path) for route in self.protocol.routes]

        assert addresses or self.protocol.listener is not None
        assert len(set(addresses)) == len(addresses)
        for method, path in addresses:
            assert method in METHODS
            assert path == "" or path.startswith("/")

    def test_its_answers_are_coroutine_functions(self) -> None:
        for route in self.protocol.routes:
            assert inspect.iscoroutinefunction(route.answer), route.path

    def test_a_call_on_it_makes_another_that_shares_no_state(self) -> None:
        assert self.protocol.routes is not self.protocol.routes or not self.protocol.routes

    def test_no_garbage_makes_it_fail(self) -> None:
        with served(self.name, is_open=True) as url:
            for method, path in self._addresses():
                for body in GARBAGE if method != "GET" else (b"",):
                    status = _status(f"{url}{path}", method, body)
                    assert status is None or status < 500, (method, path, body[:80], status)

    def test_whoever_shows_no_token_is_let_in_nowhere_unless_the_project_is_open(self) -> None:
        with served(self.name, is_open=False) as url:
            for method, path in self._addresses():
                assert _status(f"{url}{path}", method, b"{}") == 401, (method, path)

    def test_garbage_at_its_port_ends_its_own_connection(self) -> None:
        if self.protocol.listener is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"workers": 0, "processes": False, "protocol_ports": [f"{self.name}=0"]}
            with Engine(Path(folder, "x.db"), **options) as engine:
                for garbage in (*GARBAGE, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1024, b"9" * 1024):
                    assert _is_ended(engine.ports[self.name], garbage), garbage[:80]

    def _addresses(self) -> list[tuple[str, str]]:
        return [(route.method, route.path.replace("{", "").replace("}", "")) for route in self.protocol.routes]


class WorkloadSuite:
    """What every workload keeps to. All its tests share one engine, with two workers."""

    name: str  #: under which it is installed
    needs: str = ""  #: tags of the workers that can run the sample; without any here its run is skipped
    patience: float = 60.0  #: seconds that the sample may take

    _opened: ClassVar[ExitStack]
    _asked: ClassVar[dict[str, Any] | None]
    _engine: ClassVar[Engine | None]

    def sample(self, folder: Path) -> dict[str, Any]:
        """Return parameters of something small, whose files lie in *folder*; called once."""
        raise NotImplementedError

    @classmethod
    def setup_class(cls) -> None:
        cls._opened, cls._asked, cls._engine = ExitStack(), None, None

    @classmethod
    def teardown_class(cls) -> None:
        cls._opened.close()

    @property
    def workload(self) -> Workload:
        """The workload under test."""
        return workloads.load(self.name)

    def test_it_is_installed_under_the_name_that_it_says(self) -> None:
        assert self.name in workloads.names()
        assert self.workload.name == self.name
        assert self.workload.title.endswith(".")
        assert callable(getattr(workloads, self.name))

    def test_every_parameter_is_described_in_a_sentence(self) -> None:
        for field in self.workload.fields:
            assert field.description.endswith("."), field.name

    def test_loading_it_imports_nothing_heavy(self) -> None:
        script = "import sys; from dcengine import workloads; workloads.load(sys.argv[1]); print(*sys.modules)"
        loaded = _printed("-c", script, self.name).split()

        assert {module.partition(".")[0] for module in loaded} & HEAVY == set()

    def test_its_command_tells_its_parameters(self) -> None:
        told = _printed("-m", "dcengine", self.name, "--help")

        for field in self.workload.fields:
            assert (field.name.upper() if field.is_needed else f"--{field.name.replace('_', '-')}") in told, field.name

    def test_a_parameter_that_it_does_not_have_is_refused(self) -> None:
        assert _refusal(self.workload, {**self._sample(), "no_such_parameter": 1}) is not None

    def test_a_parameter_that_it_needs_is_missed(self) -> None:
        for field in self.workload.fields:
            given = {name: value for name, value in self._sample().items() if name != field.name}
            assert not field.is_needed or _refusal(self.workload, given) is not None, field.name

    def test_odd_values_are_taken_or_refused_by_errors_of_dcengine_which_leave_no_project(self, tmp_path: Path) -> None:
        workload = self.workload
        with self._running(), _inside(tmp_path):
            for field in workload.fields:
                for value in ODD_VALUES:
                    self._try(workload, field, value)

    def test_a_sample_runs_to_its_end_and_what_it_saves_is_where_it_says(self) -> None:
        with self._able():
            run = workloads.start(self.name, **self._sample())
            paths = run.save(self.patience)

            assert run.done()
            assert [path for path in paths if not path.exists()] == []

    def test_the_same_request_again_is_the_same_project(self) -> None:
        with self._able():
            runs = (workloads.start(self.name, **self._sample()).wait(self.patience) for _ in range(2))
            first, again = [(run.project.name, run.status().total) for run in runs]

            assert again == first

    # ---- steps ---------------------------------------------------------------------------------

    def _sample(self) -> dict[str, Any]:
        cls = type(self)
        if cls._asked is None:
            cls._asked = self.sample(Path(cls._opened.enter_context(tempfile.TemporaryDirectory())))
        return cls._asked

    @contextmanager
    def _running(self) -> Iterator[Engine]:
        """Lend the engine of these tests."""
        cls = type(self)
        if cls._engine is None:
            folder = cls._opened.enter_context(tempfile.TemporaryDirectory())
            cls._engine = cls._opened.enter_context(Engine(Path(folder, "work.db"), workers=2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that nobody here could run some of it
            yield cls._engine

    @contextmanager
    def _able(self) -> Iterator[None]:
        """Go on where a worker is there that has what the sample needs."""
        with self._running():
            verdicts = api.explain(self.needs)
            if not any(worker.matches for worker in verdicts.workers):
                raise SkipTest(f"the sample needs {self.needs}: {verdicts}")
            yield

    def _try(self, workload: Workload, field: Field, value: object) -> None:
        given = {**self._sample(), field.name: value}
        try:
            workload.checked(given)
        except DcengineError:
            return  # before any project could be
        before = _projects()
        refusal = _refusal(workload, given)
        after = _projects()
        assert refusal is None or after == before, f"{field.name}={value!r:.80}: {refusal}, and left a project behind"
        for name in after - before:
            Project(name).delete(confirm=True)


def _refusal(workload: Workload, given: dict[str, Any]) -> DcengineError | None:
    """Return what *workload* says against *given*, None if it makes a project of it; other errors pass."""
    try:
        workload.project(workload.checked(given))
    except DcengineError as error:
        return error
    return None


def _projects() -> set[str]:
    return {status.name for status in api.current().call("projects")}


def _printed(*arguments: str) -> str:
    """Return what Python prints, called with *arguments* and with what it finds here."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "500"}
    answer = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Have *folder* be where relative paths begin."""
    before = os.getcwd()  # contextlib.chdir is of Python 3.11
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def served(protocol: str, *, is_open: bool) -> Iterator[str]:
    """Serve an engine with one project that speaks *protocol*; yield the project's address."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(Path(folder, "x.db"), workers=0, processes=False) as engine,
    ):
        project = Project("suite", protocol=protocol, is_open=is_open)
        project.lease_stage("a", title="First")
        project.lease_stage("b", title="Second")
        project.add(["an item", {"another": 1}])
        project.run()
        yield f"{engine.url.partition('/?')[0]}/p/suite"
        project.cancel()


def _is_ended(address: str, garbage: bytes) -> bool:
    """Send *garbage* and no more; tell whether the connection is ended then."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as line:
        try:
            line.sendall(garbage)
            line.shutdown(socket.SHUT_WR)
            while line.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


def _status(url: str, method: str, body: bytes) -> int | None:
    """Return the status of the answer; None where the connection was closed without one."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body if method != "GET" else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code
    except (urllib.error.URLError, ConnectionError):
        return None
