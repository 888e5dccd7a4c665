"""Projects that outside workers do, and workers in processes of their own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from collections.abc import Iterable

import dcengine
from tests.engines import environment

_names = itertools.count(1)


def project(items: Iterable[object], *, is_open: bool = False, **stage: object) -> dcengine.Project:
    """A running project of its own name with one lease stage, a."""
    made = dcengine.Project(f"outside-{next(_names)}", is_open=is_open)
    made.lease_stage("a", **stage)  # type: ignore[arg-type]
    made.add(list(items))
    made.run()
    return made


def counts(made: dcengine.Project) -> dict[str, int]:
    """How many tasks of stage a are in which state."""
    return made.status().stages[0].counts


def start_worker(script: str, url: str, made: dcengine.Project, **more: str) -> subprocess.Popen[str]:
    """Run *script* in a process of its own; there, `worker(**options)` makes a worker of *made*, and `say` prints."""
    head = f"""
        import dcengine, sys, time
        def worker(**options):
            return dcengine.Worker({url!r}, project={made.name!r}, stage="a", **options)
        def say(what):
            print(what, flush=True)
    """
    program = textwrap.dedent(head) + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment(**more))


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that a worker's process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait()}"
    return line.rstrip("\n")
