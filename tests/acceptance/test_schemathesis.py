"""The server keeps to what its document says, whatever it is asked: schemathesis makes questions from that document.

`make fuzz` asks more of them, and others each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dcengine
from dcengine.embed import EmbeddedEngine
from dcengine.verbs import LeaseRequest, Registration, TokenSpec
from tests.engines import embedded, environment

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="schemathesis needs Python 3.11")
HERE = Path(__file__).parent
EXAMPLES = os.environ.get("DCENGINE_FUZZ", "4")  #: for each route, beside those that its schema is covered with
SEED = os.environ.get("DCENGINE_FUZZ_SEED", "1")
WORKERS = "^/v1/(tasks/|registered-worker|projects/.*/(lease|workers)$)"  #: routes that a worker's token is for


class Subject(NamedTuple):
    """An engine, and what there is in it."""

    engine: EmbeddedEngine
    folder: Path
    known: dict[str, str]  #: by its name in addresses and bodies

    def call(self, verb: str, *given: object) -> Any:
        return self.engine._way().call(verb, *given)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("schemathesis")
    with embedded(folder / "dcengine.db", workers=0, processes=False) as engine:
        project = dcengine.Project("laion")
        for stage in "abc":
            project.lease_stage(stage)
        project.add([{"number": number} for number in range(200)])
        project.run()
        job, value = dcengine.submit(abs, -1), dcengine.put([1])
        dcengine.map(abs, [1, 2])
        known = {"name": "laion", "project": "laion", "stage": "a", "id": str(job.id), "number": "1"}
        subject = Subject(engine, folder, {**known, "digest": value.digest, "nickname": "anna", "token": ""})
        registered = subject.call("register_worker", Registration(project="laion", stage="a", nickname="anna"))
        subject.known["secret"] = registered.secret
        yield subject


def check(subject: Subject, token: str, *arguments: str) -> None:
    """Have schemathesis ask the engine; fail with what it has found."""
    address = subject.engine.url.partition("/?")[0]
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run",
        f"{address}/v1/openapi.json", "--url", address, "--header", f"Authorization: Bearer {token}",
        "--seed", SEED, "--max-examples", EXAMPLES, "--request-timeout", "20", "--continue-on-failure", "--no-color",
        *arguments,
    ]  # fmt: skip
    leased = subject.call("lease", LeaseRequest(project="laion", stage="a", worker="w", nickname="anna", n=50))
    more = {
        "SCHEMATHESIS_HOOKS": "tests.acceptance.schemathesis_hooks",
        "DCENGINE_FUZZ_KNOWN": json.dumps(subject.known),
        "DCENGINE_FUZZ_LEASES": json.dumps([task.token for task in leased]),
        "DCENGINE_FUZZ_FOLDER": str(subject.folder),
    }
    done = subprocess.run(command, cwd=subject.folder, env=environment(**more), capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"seed {SEED}\n{done.stdout}\n{done.stderr}", pytrace=False)


@pytest.mark.timeout(0 if "DCENGINE_FUZZ" in os.environ else 240)
def test_every_answer_is_one_that_the_document_knows(subject: Subject) -> None:
    check(subject, subject.engine.token, "--phases", "coverage,fuzzing")


@pytest.mark.timeout(0 if "DCENGINE_FUZZ" in os.environ else 240)
def test_so_is_every_answer_to_a_worker(subject: Subject) -> None:
    spec = TokenSpec(role="worker", project="laion", nickname="anna")
    token = subject.call("create_token", spec).token

    check(subject, token, "--phases", "fuzzing", "--include-path-regex", WORKERS)
