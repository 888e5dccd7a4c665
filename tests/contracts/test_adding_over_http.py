"""What a browser adds: items in pages, patterns, files, and projects whose functions have only names."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

import dcengine
from dcengine.api import current
from dcengine.verbs import LeaseRequest, TokenSpec
from tests.engines import eventually, served


class Door:
    """Asks an engine as a browser does."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.base, self.token = str(told["url"]).partition("?")[0], str(told["token"])

    def ask(self, method: str, path: str, body: object = None, *, token: str = "", **headers: str) -> Any:
        """Return the answer as JSON, or as bytes; raises `HTTPError`."""
        data, kind = (
            (body, "application/octet-stream")
            if isinstance(body, bytes)
            else (json.dumps(body).encode(), "application/json")
        )
        said = {
            "Authorization": f"Bearer {token or self.token}",
            "Content-Type": kind,
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        question = urllib.request.Request(self.base + path, None if body is None else data, said, method=method)
        with urllib.request.urlopen(question) as answer:
            content = answer.read()
            return json.loads(content) if answer.headers["Content-Type"].startswith("application/json") else content

    def refusal(self, method: str, path: str, body: object = None, **more: str) -> tuple[int, str]:
        """Return status and message of an answer that is a refusal."""
        with pytest.raises(HTTPError) as refused:
            self.ask(method, path, body, **more)
        return refused.value.code, json.loads(refused.value.read())["message"]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with served(tmp_path_factory.mktemp("adding") / "work.db", workers=1) as told:
        yield Door(told)


def outside(name: str) -> dcengine.Project:
    project = dcengine.Project(name)
    project.lease_stage("look")
    project.run()
    return project


def inputs(name: str, n: int = 100) -> list[Any]:
    tasks = current().call("lease", LeaseRequest(project=name, stage="look", worker="w", n=n))
    return [json.loads(bytes(task.input)) for task in tasks]


def test_a_page_that_is_said_again_is_added_once_and_known_keys_are_not_added_again(door: Door) -> None:
    outside("pages")
    page = {"items": [{"n": 1}, {"n": 2}], "keys": ["1", "2"]}
    first = door.ask("POST", "v1/projects/pages/items", page, Idempotency_Key="one")
    again = door.ask("POST", "v1/projects/pages/items", page, Idempotency_Key="one")
    more = door.ask("POST", "v1/projects/pages/items", {"items": [{"n": 2}, {"n": 3}], "keys": ["2", "3"]})

    assert first == again == {"count": 2, "first": 1, "last": 2, "known": 0, "root": None}
    assert (more["count"], more["known"], more["first"]) == (1, 1, 3)
    assert inputs("pages") == [{"n": 1}, {"n": 2}, {"n": 3}]
    for wrong in ({"items": [1], "keys": []}, {"pattern": "a{1..2}", "keys": ["x", "y"]}, {"items": []}):
        assert door.refusal("POST", "v1/projects/pages/items", wrong)[0] == 400


def test_pages_are_parts_of_one_job_where_a_gather_waits_for_them(door: Door) -> None:
    project = dcengine.Project("gathered")
    project.stage(abs, name="each")
    project.gather(sum, name="sum")
    project.run()
    root, added = None, []
    for n in range(3):
        added.append(
            door.ask("POST", "v1/projects/gathered/items", {"items": [n, -n], "root": root, "is_last": n == 2})
        )
        root = added[-1]["root"]

    eventually(lambda: project.status().open == 0)
    assert len({each["root"] for each in added}) == 1
    assert dcengine.job(root).result() == 6


def test_a_pattern_says_how_many_and_the_first_few(door: Door) -> None:
    assert door.ask("GET", f"v1/patterns?pattern={quote('a{1..2000000}')}") == {
        "count": 2_000_000, "first": ["a1", "a2", "a3", "a4", "a5"], "limit": 1_000_000,
    }  # fmt: skip
    assert door.refusal("GET", f"v1/patterns?pattern={quote('a{1..2')}")[0] == 400
    outside("patterns")
    assert door.refusal("POST", "v1/projects/patterns/items", {"pattern": "a{1..2000000}"})[0] == 400


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 20_000, b"cos\nsystem\n(S'touch hurt'\ntR."])
def test_a_function_gets_the_bytes_of_a_file_whatever_they_are(door: Door, content: bytes) -> None:
    name = f"files-{len(content)}"
    project = dcengine.Project(name)
    project.stage(lambda data: data, name="same")
    project.run()
    added = door.ask("POST", f"v1/projects/{name}/files?name={quote('ä/b.bin')}&keep=1000", content)
    known = door.ask("POST", f"v1/projects/{name}/files?name={quote('ä/b.bin')}", content)

    assert (added["number"], added["is_known"], known["number"], known["is_known"]) == (1, False, 0, True)
    eventually(lambda: project.status().done == 1)
    (job,) = current().call("jobs", project=name)
    assert job.key == "ä/b.bin"
    assert dcengine.job(job.id).result() == content
    assert door.ask("GET", f"v1/jobs/{job.id}/bytes?side=input") == content
    assert door.ask("GET", f"v1/jobs/{job.id}/bytes") == content
    assert not Path("hurt").exists()


def test_an_outside_worker_gets_a_files_bytes_with_its_own_token_and_nothing_else(door: Door) -> None:
    outside("given")
    door.ask("POST", "v1/projects/given/files?name=a.png&media=image/png", b"\x89PNG...")
    (item,) = inputs("given")
    worker = current().call("create_token", TokenSpec(role="worker", project="given")).token
    viewer = current().call("create_token", TokenSpec(role="view")).token

    assert (item["name"], item["media"], item["size"]) == ("a.png", "image/png", 7)
    assert door.ask("GET", f"v1/values/{item['value']}/bytes", token=worker) == b"\x89PNG..."
    assert door.refusal("GET", f"v1/values/{item['value']}/bytes", token=viewer)[0] == 403
    assert door.refusal("POST", "v1/projects/given/files?name=b", b"x", token=viewer)[0] == 403
    other = dcengine.put((b"\x89PNG...", 1))
    assert door.refusal("GET", f"v1/values/{other.digest}/bytes")[0] == 404
    assert door.refusal("GET", f"v1/values/{'0' * 64}/bytes")[0] in (404, 410)


def test_what_no_file_can_be_is_refused(door: Door) -> None:
    outside("refusing")
    assert door.refusal("POST", "v1/projects/refusing/files", b"x")[0] == 400
    assert door.refusal("POST", "v1/projects/nowhere/files?name=a", b"x")[0] == 404
    assert door.refusal("POST", "v1/projects/refusing/files?name=a", {"json": 1})[0] == 400
    status, message = door.refusal("POST", f"v1/projects/refusing/files?name={'a' * 1001}", b"x")
    assert (status, "1000 characters" in message) == (400, True)


def test_a_project_is_described_with_functions_by_their_names(door: Door) -> None:
    stages = [
        {"name": "root", "kind": "function", "function": "math:sqrt", "retries": 1},
        {"name": "text", "kind": "function", "function": "builtins:str.upper"},
    ]
    made = door.ask("POST", "v1/described-projects", {"name": "named", "stages": [stages[0]]})
    assert [(stage["name"], stage["kind"]) for stage in made["stages"]] == [("root", "function")]
    door.ask("POST", "v1/projects/named/items", {"items": [16]})
    door.ask("POST", "v1/projects/named/run")
    project = dcengine.Project("named")
    eventually(lambda: current().call("project", project.name).open == 0)
    (job,) = current().call("jobs", project="named")
    assert (job.name, dcengine.job(job.id).result()) == ("math.sqrt", 4.0)
    door.ask("POST", "v1/described-projects", {"name": "dotted", "stages": [stages[1]]})
    for function in ("", "math", "math:", "os;import x:y", "a:b c", "x" * 300 + ":y"):
        spec = {"name": "wrong", "stages": [{"name": "a", "kind": "function", "function": function}]}
        status, message = door.refusal("POST", "v1/described-projects", spec)
        assert status == 400
        assert "the function of stage 'a'" in message
    assert (
        "there is such a project"
        in door.refusal("POST", "v1/described-projects", {"name": "named", "stages": stages})[1]
    )
