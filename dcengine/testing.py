"""Contract suites for authors of plug-ins.

Of a protocol: subclass `ProtocolSuite` in a test module as ``TestMine``, say which one it is, and run pytest.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import Engine, Project
from .protocols import Protocol, load, names

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
GARBAGE = (
    b"", b"{", b"[]", b"null", b'{"token": null}', b'{"token": 1}', b'{"token": "\\ud800"}', b"\xff\xfe", b"[" * 50_000,
    json.dumps({"token": "x" * 100_000, "data": "y", "progress": "z"}).encode(),
)  # fmt: skip
PATIENCE = 20.0  #: seconds for one answer


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

        assert addresses
        assert len(set(addresses)) == len(addresses)
        for method, path in addresses:
            assert method in METHODS
            assert path == "" or path.startswith("/")

    def test_its_answers_are_coroutine_functions(self) -> None:
        for route in self.protocol.routes:
            assert inspect.iscoroutinefunction(route.answer), route.path

    def test_a_call_on_it_makes_another_that_shares_no_state(self) -> None:
        assert self.protocol.routes is not self.protocol.routes

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

    def _addresses(self) -> list[tuple[str, str]]:
        return [(route.method, route.path.replace("{", "").replace("}", "")) for route in self.protocol.routes]


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
