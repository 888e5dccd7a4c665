"""The unmodified `distcompute-client` 1.0.0 for tests: programs of its users, in processes of their own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest

import dcengine
from dcengine import api
from dcengine.verbs import OutsideWorker, TokenSpec
from tests.engines import environment

DEADLINE = 60.0  #: seconds for one client's program
PRELUDE = """
import json, sys, time, requests
import distcompute_client
from distcompute_client.errors import *
connect = lambda url, stage, nickname="anonymous": distcompute_client.init(url, stage, nickname, verbose=False)
tell = lambda value: print("told:" + json.dumps(value), flush=True)
def refused(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return type(error).__name__
"""
_numbers = itertools.count(1)


def ask(verb: str, *arguments: Any, **options: Any) -> Any:
    return api.current().call(verb, *arguments, **options)


def project_of(items: list[Any], *, stages: str = "abc", is_open: bool = False, **options: Any) -> dcengine.Project:
    """A project as old trackers had them, and running."""
    project = dcengine.Project(f"laion-{next(_numbers)}", protocol="distcompute", is_open=is_open)
    for letter in stages:
        project.lease_stage(letter, title={"a": "CPU", "b": "GPU", "c": "Pack"}[letter], **options)
    project.add(items)
    project.run()
    return project


def address_of(url: object, project: dcengine.Project, *, nickname: str | None = None) -> str:
    """The address for clients, with a token of their own."""
    made = ask("create_token", TokenSpec(role="worker", project=project.name, nickname=nickname))
    return f"http://{nickname or 'x'}:{made.token}@{urlsplit(str(url)).netloc}/p/{project.name}/"


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Begin a program of the client's user."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program, *arguments], text=True, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def told_by(process: subprocess.Popen[str]) -> list[Any]:
    """What the program has told, once it has ended well."""
    try:
        said, _ = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        pytest.fail(f"it did not end: {said}")
    assert process.returncode == 0, said
    return [json.loads(line.removeprefix("told:")) for line in said.splitlines() if line.startswith("told:")]


def run(program: str, *arguments: str) -> list[Any]:
    return told_by(start(program, *arguments))


def workers_of(project: dcengine.Project) -> list[OutsideWorker]:
    found: list[OutsideWorker] = ask("outside_workers", project.name)
    return found
